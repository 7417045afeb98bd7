"""A message while it arrives: its fields, its parts as far as they are here, its body in the spool."""

from typing import Final

from aiomilter.message.envelope import Envelope
from aiomilter.message.headers import Field, Headers
from aiomilter.message.message import Message
from aiomilter.message.spool import Spool
from aiomilter.message.structure import Structure

__all__ = ["Incoming"]

_PGP: Final = b"-----BEGIN PGP "
_MOST_PGP: Final = 1_000


class Incoming:
    """A message while it arrives.

    Args:
        max_size: Octets that it may have if its body is kept.
        memory_size: Octets of the body that are kept in memory.
        spool_directory: Where the file for more is made; None for the system's place.
        keeps: Whether the body is kept.
    """

    def __init__(self, max_size: int, memory_size: int, spool_directory: str | None, keeps: bool) -> None:
        self.size: int = 2  # the empty line
        """Octets so far."""
        self.keeps: bool = keeps
        """Whether the body is kept."""
        self._most = max_size
        self._fields: list[Field] = []
        self._spool = Spool(memory_size, spool_directory)
        self._pgp: list[int] = []
        self._structure: Structure | None = None
        self._headers: Headers | None = None
        self._tail = b""

    @property
    def too_large(self) -> bool:
        """Whether it has more octets than the filter takes."""
        return self.keeps and self.size > self._most

    @property
    def headers(self) -> Headers:
        """Its fields; all of them have come."""
        if self._headers is None:
            self._headers = Headers(self._fields)
        return self._headers

    @property
    def structure(self) -> Structure | None:
        """Its parts, as far as they have come."""
        if self._structure is None and self.keeps:
            content = [field.raw for field in self._fields if field.key.startswith(b"content-")]
            self._structure = Structure(b"".join(content))
        return self._structure

    async def take(self, octets: bytes) -> None:
        """Take a piece of the body; what is too large is forgotten."""
        self.size += len(octets)
        if self.too_large:
            self._spool.close()
            return
        self._look_for_pgp(octets)
        structure = self.structure
        assert structure is not None
        structure.feed(octets)
        if self._spool.add(octets):
            await self._spool.store()

    def _look_for_pgp(self, octets: bytes) -> None:
        data, base = self._tail + octets, self._spool.size - len(self._tail)
        # Where there is none, as in most, CPython finds that out from the end in a quarter of the time.
        at = data.find(_PGP) if data.rfind(_PGP) >= 0 else -1
        while at >= 0 and len(self._pgp) < _MOST_PGP:
            self._pgp.append(base + at)
            at = data.find(_PGP, at + len(_PGP))
        self._tail = data[-len(_PGP) + 1 :]

    def add_field(self, raw: bytes) -> None:
        """Add a header field."""
        field = Field(raw)
        self._fields.append(field)
        self.size += len(field.raw)

    def message(self, envelope: Envelope) -> Message:
        """Return the whole message."""
        structure = self.structure
        if structure is not None:
            structure.end()
        return Message(self.headers, self._spool, None if self.too_large else structure, envelope, self._pgp)

    def close(self) -> None:
        """Forget the body."""
        self._spool.close()
