"""What in a message is likely to be changed on its way, so that a signature would break.

Source: RFC 5321 section 4.5.3.1.6; RFC 5322 sections 2.1.1 and 3.6; RFC 6376 section 5.3.
"""

from typing import Final

from aiomilter.mail.headers import HeaderSection

__all__ = ["Problems"]

_MAX_LINE: Final = 998
"""Octets of a line without its CRLF: MTAs break longer ones."""
_DECLARED: Final = (b"8bit", b"binary")


class Problems:
    """Finds what may break a signature, in a message that is looked at in pieces."""

    __slots__ = ("_declared", "_eight_bit", "_found", "_line", "_long")

    def __init__(self) -> None:
        self._found: list[str] = []
        self._line = 0
        self._long = False
        self._eight_bit = False
        self._declared = True

    def add(self, problem: str) -> None:
        """Note a problem."""
        if problem not in self._found:
            self._found.append(problem)

    def found(self) -> tuple[str, ...]:
        """Return all problems so far."""
        return tuple(self._found)

    def header(self, section: HeaderSection) -> None:
        """Look at a whole header."""
        if not section.complete:
            self.add("the header is too large: the message is not signed")
        for name in ("From", "Date", "Message-ID"):
            if section.get(name) is None:
                self.add(f"there is no {name} field: one that is added later is not signed, or breaks the signature")
        long = {
            field.key
            for field in section
            if len(field.raw) > _MAX_LINE and any(len(line) > _MAX_LINE for line in field.raw.split(b"\r\n"))
        }
        for key in sorted(long)[:10]:
            name = key.decode("ascii", "replace")
            self.add(f"a line of the field {name!r} has more than {_MAX_LINE} octets, and will be folded")
        encoding = section.get("Content-Transfer-Encoding")
        self._declared = encoding is not None and encoding.octets.strip(b" \t\r\n").lower().startswith(_DECLARED)

    def body(self, chunk: bytes) -> None:
        """Look at the next octets of the body."""
        if not self._declared and not self._eight_bit and not chunk.isascii():
            self._eight_bit = True
            self.add("the body has 8-bit octets that Content-Transfer-Encoding does not declare, and may be converted")
        if not self._long and self._has_long_line(chunk):
            self._long = True
            self.add(f"a line of the body has more than {_MAX_LINE} octets, and will be folded")

    def _has_long_line(self, chunk: bytes) -> bool:
        """Whether a line is too long; in steps of a whole line's length, however short the lines are."""
        begin = -self._line
        while len(chunk) - begin > _MAX_LINE + 2:
            end = chunk.rfind(b"\n", max(begin, 0), begin + _MAX_LINE + 2)
            if end < 0:
                return True
            begin = end + 1
        end = chunk.rfind(b"\n", max(begin, 0))
        self._line = len(chunk) - (end + 1 if end >= 0 else begin)
        return False
