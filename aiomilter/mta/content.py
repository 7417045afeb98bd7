"""An RFC 5322 message cut into what the MTA sends a filter: header fields, and the body.

Source: protocol.md section 2.3, HEADER and BODY; RFC 5322 section 2.
"""

import re
from dataclasses import dataclass
from typing import Final

from aiomilter.wire.events import Header
from aiomilter.wire.text import decode

__all__ = ["HEADER_SIZE", "Content", "Field", "cut"]

HEADER_SIZE: Final = 60000
"""Octets of one header field that Postfix keeps as soon as any milter is configured."""

_FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:([^\n]*\n(?:[ \t][^\n]*\n)*)")
_LONE_LF: Final = re.compile(rb"(?<!\r)\n")


@dataclass(frozen=True, slots=True)
class Field:
    """One header field.

    Args:
        header: As the filter is shown it.
        raw: Its octets, ending in CRLF.
    """

    header: Header
    raw: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """A message as an MTA received it.

    Args:
        fields: The header section, in order; empty if there is none.
        body: Octets after the empty line, line ends as CRLF.
        separated: Whether an empty line ends the header section.
    """

    fields: tuple[Field, ...]
    body: bytes
    separated: bool = True


def cut(octets: bytes) -> Content:
    """Return header fields and body of a message.

    Line ends may be CRLF or LF; the last line may lack its own, as SMTP would add it.  The first line that is neither a
    field nor a fold starts the body, with or without an empty line before it.  A field over :data:`HEADER_SIZE` is cut
    there, as Postfix does; NUL octets in a field are dropped, since no packet can carry them.
    """
    octets = _crlf(octets)
    fields = []
    position = 0
    while match := _FIELD.match(octets, position):
        fields.append(_field(match))
        position = match.end()
    separated = octets.startswith(b"\r\n", position)
    return Content(tuple(fields), octets[position + 2 * separated :], separated)


def _crlf(octets: bytes) -> bytes:
    if octets.count(b"\n") != octets.count(b"\r\n"):
        octets = _LONE_LF.sub(b"\r\n", octets)
    return octets if not octets or octets.endswith(b"\n") else octets + b"\r\n"


def _field(match: re.Match[bytes]) -> Field:
    name, rest, raw = match[1], match[2], match[0]
    value = rest[:-2].replace(b"\r\n", b"\n")
    if b"\0" in value or len(name) + 1 + len(value) > HEADER_SIZE:
        value = value.replace(b"\0", b"")[: max(HEADER_SIZE - len(name) - 1, 0)]
        name = name[:HEADER_SIZE]
        raw = name + b":" + value.replace(b"\n", b"\r\n") + b"\r\n"
    spaced = value.startswith(b" ")
    return Field(Header(decode(name), decode(value[spaced:]), " " if spaced else ""), raw)
