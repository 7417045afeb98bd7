"""The mailboxes that a header field names.

Reads leniently, as mail programs do, in time that is linear in the length of the value.

Source: RFC 5322 section 3.4.
"""

import re
from typing import Final

__all__ = ["MAX_ADDRESSES", "addresses"]

MAX_ADDRESSES: Final = 10_000
"""Mailboxes of one value that are returned at most."""

# A quote that is never closed takes the rest, so that no character is looked at twice.
_TOKEN: Final = re.compile(
    r'(?P<quoted>"(?:[^"\\]|\\.)*+(?:"|\\?\Z))|(?P<angle><[^<>]*+(?:>|\Z))|(?P<mark>[(),:;>])|(?P<text>[^"<>(),:;\\]++|\\.?)',
    re.DOTALL,
)
# In a comment quotes and angle brackets are text.
_IN_COMMENT: Final = re.compile(r"(?P<mark>[()])|[^()\\]++|\\.?", re.DOTALL)
_PLAIN: Final = re.compile(r'"(?:[^"\\]|\\.)*+(?:"@\S+|"?)|[^\s"]+', re.DOTALL)
_ROUTE: Final = re.compile(r"\A@[^:]*:")
_FOLD: Final = re.compile(r"\r?\n(?=[ \t])")


def addresses(value: str) -> tuple[str, ...]:
    """Return the mailboxes in a list of them, without names, comments, groups and angle brackets, in order.

    Args:
        value: Of a field such as From or To; folds may be in it.
    """
    found: list[str] = []
    depth, plain, angle = 0, "", ""
    text, position = _FOLD.sub("", value), 0
    while (token := (_IN_COMMENT if depth else _TOKEN).search(text, position)) is not None:
        position = token.end()
        mark = token["mark"]
        if mark == "(":
            depth += 1
        elif mark == ")":
            depth = max(0, depth - 1)
        elif depth:
            continue
        elif mark in (",", ";"):
            _keep(found, angle, plain)
            plain = angle = ""
            if len(found) >= MAX_ADDRESSES:
                return tuple(found)
        elif mark == ":" and not angle:
            plain = ""  # the name of a group
        elif token["angle"] is not None:
            angle = angle or token["angle"]
        elif mark is None and len(plain) <= 1000:
            plain += token[0]
    _keep(found, angle, plain)
    return tuple(found)


def _keep(found: list[str], angle: str, plain: str) -> None:
    if angle:
        mailbox = _ROUTE.sub("", angle.strip("<>").strip())
    else:
        words = [word for word in _PLAIN.findall(plain) if ('"@' if word.startswith('"') else "@") in word]
        mailbox = words[-1] if words else ""
    if mailbox:
        found.append(mailbox)
