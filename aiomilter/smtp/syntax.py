"""The arguments of MAIL and RCPT, taken apart but kept as they were sent.

Source: RFC 5321 section 4.1.1; RFC 1870, 3461, 6152, 6531 for the parameters.
"""

import re
from typing import Final, NamedTuple

__all__ = ["PathArgument", "path_argument", "size_of"]

# A path with its brackets, quoted strings inside taken whole; or a bare word, which Postfix takes, too.
_PATH: Final = re.compile(r"""\s*(<(?:"(?:\\.|[^"\\])*"|[^"<>])*>|[^\s<>]+)(?:\s+(\S.*))?""", re.DOTALL)
_PARAMS: Final = {
    "FROM:": frozenset({"SIZE", "BODY", "SMTPUTF8", "RET", "ENVID"}),
    "TO:": frozenset({"NOTIFY", "ORCPT"}),
}


class PathArgument(NamedTuple):
    """Path and parameters of MAIL or RCPT, or the error reply.

    Args:
        path: As sent, with its brackets if there were any.
        params: ESMTP parameters, in order.
        wrong: The SMTP reply that refuses them; "" if all is well.
    """

    path: str
    params: tuple[str, ...] = ()
    wrong: str = ""


def path_argument(argument: str, keyword: str) -> PathArgument:
    """Return what follows MAIL or RCPT.

    Args:
        argument: All of it.
        keyword: ``"FROM:"`` or ``"TO:"``.
    """
    match = _PATH.fullmatch(argument[len(keyword) :]) if argument[: len(keyword)].upper() == keyword else None
    if match is None:
        command = "MAIL FROM" if keyword == "FROM:" else "RCPT TO"
        return PathArgument("", wrong=f"501 5.5.4 Syntax: {command}:<address>")
    params = tuple((match[2] or "").split())
    for param in params:
        if param.partition("=")[0].upper() not in _PARAMS[keyword]:
            return PathArgument("", wrong=f"555 5.5.4 Unsupported option: {param}")
    if keyword == "TO:" and match[1] == "<>":
        return PathArgument("", wrong="501 5.1.3 Bad recipient address syntax")
    return PathArgument(match[1], params)


def size_of(params: tuple[str, ...]) -> int | None:
    """Return the size that a client announces, 0 if it does not; None if that is not a number."""
    size = next((param[5:] for param in params if param.upper().startswith("SIZE=")), "0")
    return int(size) if size.isascii() and size.isdigit() and len(size) <= 20 else None
