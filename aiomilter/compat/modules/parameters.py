"""The parameters of Content-Type and Content-Disposition, those in parts among them (RFC 2231).

As :class:`email.message.Message` reads them, which takes time with the square of their number, and raises where parts of one
are numbered in no order that there is.
"""

import re
from collections.abc import Iterator
from email.utils import collapse_rfc2231_value, decode_params, unquote
from typing import Final, TypeAlias

from aiomilter.mail.charsets import codec_of

__all__ = ["Value", "collapsed", "parse_parameters", "split_parameters"]

Value: TypeAlias = str | tuple[str | None, str | None, str]
"""Of a parameter that RFC 2231 encodes: charset, language and value."""

_SEPARATOR: Final = re.compile(r';|(?<!\\)"')
# One with more digits is the number of no part.
_NUMBERED: Final = re.compile(r"[A-Za-z0-9_]+\*[0-9]{10,}\*?")


def split_parameters(value: str) -> list[str]:
    """Return what semicolons separate, names in lower case and no blanks around; a semicolon in quotes separates nothing."""
    return [piece if not equals else f"{name.strip().lower()}={text.strip()}"
            for piece, (name, equals, text) in ((each.strip(), each.partition("=")) for each in _pieces(value))]  # fmt: skip


def _pieces(value: str) -> Iterator[str]:
    begin, quoted = 0, False
    for match in _SEPARATOR.finditer(value):
        if match[0] == '"':
            quoted = not quoted
        elif not quoted:
            yield value[begin : match.start()]
            begin = match.end()
    yield value[begin:]


def parse_parameters(value: str) -> list[tuple[str, Value]]:
    """Return names and values; the type itself comes first, as a name.

    Source: RFC 2045 section 5.1; RFC 2231 section 3.
    """
    pieces = [piece.partition("=") for piece in split_parameters(value)]
    found = [(name.strip(), text.strip()) for name, _, text in pieces]
    odd = {name for name, _ in found if _NUMBERED.fullmatch(name)}
    try:
        if not odd:
            return decode_params(found)
    except TypeError:
        pass
    # Numbered parts and a whole one of the same name, or such as have no place: each for itself, then.
    decoded = [
        [(name, f'"{text}"')] if name in odd else decode_params([("", ""), (name, text)])[1:] for name, text in found
    ]
    return [each for pieces in decoded for each in pieces]


def collapsed(value: Value) -> str:
    """Return the value of a parameter as text, whatever charset it says that it has."""
    if not isinstance(value, tuple):
        return value
    charset, language, text = value
    codec = None if charset is None else codec_of(charset)
    try:
        return collapse_rfc2231_value((codec, language, text)) if codec or charset is None else unquote(text)
    except ValueError:
        return text  # its charset is not one of octets
