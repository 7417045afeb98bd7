"""What a seal records of the checks of its host: the value of ARC-Authentication-Results.

Source: RFC 8617 section 4.1.1; RFC 8601 section 2.2.
"""

from typing import Final

from aiomilter.auth._structured import Reader
from aiomilter.auth.dkim._layout import Layout
from aiomilter.auth.results import AuthenticationResults, MethodResult, parse, quote
from aiomilter.mail.display import visible
from aiomilter.mail.domain import ascii_name
from aiomilter.mail.headers import HeaderSection

__all__ = ["aar_value"]

_MAX_PART: Final = 900
"""Octets of one result, which stands on a line of its own: no line may have more than 998."""
_MAX_PARTS: Final = 100
_MAX_SIZE: Final = 8_192
"""Octets of all results: some servers cut long fields, and a seal covers what was there before."""
_MAX_LOOKED_AT: Final = 32_768
"""Octets of Authentication-Results fields of this host that are read."""
_MAX_NAME: Final = 1_000
"""Octets that the name of a host is looked for in."""


def aar_value(
    instance: int, authserv_id: str, results: AuthenticationResults | None, section: HeaderSection
) -> tuple[str, int]:
    """Return the value of the field, and how many results did not fit into it.

    It holds what was found now, and then what the message's own Authentication-Results fields of this host say, comments
    kept: others that check mail here have left them.  What stands in one of these already is not written twice.

    Args:
        instance: The instance of the set.
        authserv_id: The name of this host.
        results: What was found now; None for nothing.
        section: The header of the message.
    """
    own = _name(authserv_id)
    known: set[MethodResult] = set()
    earlier: list[str] = []
    unseen = _MAX_LOOKED_AT
    for field in section.get_all("Authentication-Results"):
        value = field.value
        if _name(Reader(value[:_MAX_NAME]).name()) != own:
            continue
        unseen -= len(value)
        if unseen < 0 or len(earlier) > _MAX_PARTS:
            break
        found = parse(value)
        known.update(found.results if found is not None else ())
        earlier += _parts(value)
    now = results.results if results is not None else ()
    parts = list(dict.fromkeys([*(str(each) for each in now if _without_comment(each) not in known), *earlier]))
    kept: list[str] = []
    size = 0
    for part in parts:
        size += len(part) + 3
        if size > _MAX_SIZE or len(kept) == _MAX_PARTS:
            break
        kept.append(part)
    head = f"i={instance}; {quote(authserv_id, always='@' in authserv_id)}"
    return ";\n ".join((head, *(_folded(part) for part in kept or ["none"]))), len(parts) - len(kept)


def _parts(value: str) -> list[str]:
    """Return the results of a field as they are written, each on one line; none that is longer than a line may be."""
    reader = Reader(value)
    reader.skip_section()
    parts = []
    for _ in range(_MAX_PARTS):
        reader.skip_semicolons()
        begin = reader.at
        reader.skip_section()
        # What is never closed would swallow what stands behind it.
        if reader.at == begin or reader.open:
            break
        part = visible(" ".join(reader.since(begin).split()), _MAX_PART + 1)
        if "=" in part and len(part) <= _MAX_PART:
            parts.append(part)
    return parts


def _folded(part: str) -> str:
    """Return a result on as many lines as it needs; blanks and folds are the same to a seal."""
    layout = Layout("")
    for word in part.split():
        layout.word(word)
    return str(layout)


def _without_comment(result: MethodResult) -> MethodResult:
    """Return a result as :func:`parse` reads it."""
    return MethodResult(result.method, result.result, result.properties, result.reason)


def _name(authserv_id: str) -> str:
    return (ascii_name(authserv_id) or authserv_id).lower()
