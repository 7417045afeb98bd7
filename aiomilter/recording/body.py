"""The shape of a body: its lines, MIME structure and sizes, with fillers in place of all text."""

import re
from typing import Final

from aiomilter.recording.field import boundary_of, field_name, field_value, is_message
from aiomilter.recording.redaction import Redaction

__all__ = ["BodyShape", "filler"]

_LONGEST_LINE: Final = 65536
"""Octets of a line that are looked at as one; a longer one is text."""
_MOST_BOUNDARIES: Final = 100
_STRUCTURE_SIZE: Final = 1 << 16
"""Octets of header sections of parts, and of lines between parts, in one body: each word there costs a keyed hash."""
_HEX: Final = re.compile(rb"=[0-9A-F]{2}")


def _filled(octet: int) -> int:
    character = bytes([octet])
    if character.isdigit():
        return 0x30
    if character.isalpha():
        return 0x78 if character.islower() else 0x58
    if octet < 0x80:
        return octet
    # What is valid UTF-8 stays so.
    for first, last, instead in ((0x80, 0xBF, 0xA9), (0xC2, 0xDF, 0xC3), (0xE0, 0xEF, 0xE4), (0xF0, 0xF4, 0xF0)):
        if first <= octet <= last:
            return instead
    return 0xFF


_FILLER: Final = bytes(map(_filled, range(256)))


def filler(octets: bytes) -> bytes:
    """Return octets with one letter in place of each letter, one digit in place of each digit."""
    # =XX is an octet in quoted-printable, and stays one.
    return b"=3D".join(piece.translate(_FILLER) for piece in _HEX.split(octets))


class BodyShape:
    """Makes the shape of one body, part by part.

    Args:
        redaction: Makes tokens of boundaries, and of what the header sections of parts hold.
        content_type: Of the message; b"" if it has none.
    """

    def __init__(self, redaction: Redaction, content_type: bytes) -> None:
        self._redaction = redaction
        self._boundaries: set[bytes] = set()
        self._part = b""
        self._hash = redaction.hash()
        self._line = bytearray()
        # Whether the lines that come are of a header section, and those of its field at hand.
        self._in_header = is_message(content_type)
        self._field: list[bytes] = []
        self._field_size = 0
        self._left = _STRUCTURE_SIZE
        self._of_type(content_type)

    @property
    def hash(self) -> str:
        """The keyed hash of all octets so far, in hexadecimal."""
        return self._hash.hexdigest()

    def add(self, octets: bytes) -> bytes:
        """Take some octets, and return the shape of as many as can be told: those of whole lines and whole fields."""
        self._hash.update(octets)
        made = []
        *lines, rest = (bytes(self._line) + octets).split(b"\n")
        self._line = bytearray(rest)
        for line in lines:
            made.append(self._shape(line + b"\n"))
        if len(self._line) > _LONGEST_LINE:
            made += [self._end_of_field(), filler(bytes(self._line))]
            self._line.clear()
        return b"".join(made)

    def rest(self) -> bytes:
        """Return the shape of the octets that are left."""
        line, self._line = bytes(self._line), bytearray()
        return (self._shape(line) if line else b"") + self._end_of_field()

    def _shape(self, line: bytes) -> bytes:
        if line.startswith(b"--") and self._left >= 0 and (border := self._border(line)) is not None:
            return self._end_of_field() + border
        if not self._in_header or self._left < 0:
            return self._end_of_field() + filler(line)
        self._left -= len(line)
        if line[:1] in (b" ", b"\t") and self._field and self._field_size < _LONGEST_LINE:
            self._field.append(line)
            self._field_size += len(line)
            return b""
        done = self._end_of_field()
        if not line.strip():
            self._in_header = is_message(self._part)
            self._part = b""
            return done + line
        self._field.append(line)
        self._field_size = len(line)
        return done

    def _border(self, line: bytes) -> bytes | None:
        """Return the shape of a line that separates parts; None if it does not."""
        name = line[2:].rstrip()
        ends = name not in self._boundaries
        if ends and not (name.endswith(b"--") and name[:-2] in self._boundaries):
            return None
        self._in_header = not ends
        self._part = b""
        self._left -= len(line)
        return self._redaction.words(line)

    def _end_of_field(self) -> bytes:
        field, self._field = b"".join(self._field), []
        if not field:
            return b""
        name, colon, value = field.partition(b":")
        if not colon:
            return filler(field)
        if name.strip().lower() == b"content-type":
            self._part = value
            self._of_type(value)
        return field_name(self._redaction, name) + colon + field_value(self._redaction, name.strip(), value)

    def _of_type(self, content_type: bytes) -> None:
        boundary = boundary_of(content_type)
        if boundary is not None and len(self._boundaries) < _MOST_BOUNDARIES:
            self._boundaries.add(boundary)
