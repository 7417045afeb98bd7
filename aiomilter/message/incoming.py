"""A message while it arrives: its fields, its parts as far as they are here, its body in the spool."""

from collections.abc import Callable, Iterable

from aiomilter.message.envelope import Envelope
from aiomilter.message.found import SMALL, Found
from aiomilter.message.headers import Field, Headers
from aiomilter.message.message import Message
from aiomilter.message.spool import Spool
from aiomilter.wire.events import Header

__all__ = ["Incoming"]


class Incoming:
    """A message while it arrives.

    Args:
        max_size: Octets that it may have if its body is kept.
        memory_size: Octets of the body that are kept in memory.
        spool_directory: Where the file for more is made; None for the system's place.
        keeps: Whether the body is kept.
    """

    def __init__(self, max_size: int, memory_size: int, spool_directory: str | None, keeps: bool) -> None:
        # Fields that have come, as they did: their octets are made when they are first used.
        self._came: list[Header] = []
        self._size = 2  # the empty line
        self.keep_field: Callable[[Header], None] = self._came.append
        """Adds a header field as it comes."""
        self.keep_fields: Callable[[Iterable[Header]], None] = self._came.extend
        """Adds several."""
        self.keeps: bool = keeps
        """Whether the body is kept."""
        self._most = max_size
        self._fields: list[Field] = []
        self._spool = Spool(memory_size, spool_directory)
        self._found = Found(self._fields)
        self._headers: Headers | None = None

    @property
    def size(self) -> int:
        """Octets so far."""
        if self._came:
            self._make_fields()
        return self._size

    @property
    def too_large(self) -> bool:
        """Whether it has more octets than the filter takes."""
        return self.keeps and self.size > self._most

    @property
    def headers(self) -> Headers:
        """Its fields; all of them have come."""
        if self._came:
            self._make_fields()
        if self._headers is None:
            self._headers = Headers(self._fields)
        return self._headers

    async def take(self, octets: bytes) -> None:
        """Take a piece of the body; what is too large is forgotten."""
        if self._came:
            self._make_fields()
        self._size += len(octets)
        if self.too_large:
            self._spool.close()
            return
        due = self._spool.add(octets)
        if self._found.begun:
            self._found.take((octets,))
        elif due or self._spool.size > SMALL:
            self._found.take(self._spool.in_memory())
        if due:
            await self._spool.store()

    def add_field(self, raw: bytes) -> None:
        """Add a header field by its octets."""
        field = Field(raw)
        self._fields.append(field)
        self._size += len(field.raw)

    def _make_fields(self) -> None:
        # As Header.raw makes them, all at once: no name or value holds NUL, which ends both of them in a packet.
        lines = [f"{name}:{separator}{value}\n" for name, value, separator in self._came]
        octets = "\0".join(lines).replace("\n", "\r\n").encode("utf-8", "surrogateescape").split(b"\0")
        self._came.clear()
        self._fields += map(Field, octets)
        self._size += sum(map(len, octets))

    def message(self, envelope: Envelope, headers: Headers | None = None) -> Message:
        """Return the whole message; ``headers`` are fields in place of those that have come."""
        if not self._found.begun:
            self._found.keep(self._spool.in_memory())
        found = self._found if self.keeps and not self.too_large else None
        return Message(self.headers if headers is None else headers, self._spool, found, envelope)

    def close(self) -> None:
        """Forget the body."""
        self._spool.close()
