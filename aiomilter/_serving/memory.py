"""Limits on the data that all connections of a server buffer, and on messages in progress.

Counted is data that outlasts one read: octets behind a suspended callback, unfinished packets, edits of a message that waits,
answers that an MTA does not read, TLS handshakes in progress, and macros and envelope where they are large.  Data that is
handled within one read costs nothing here.
"""

from collections.abc import Callable
from typing import Final, Protocol

from aiomilter.observe import Limit

__all__ = ["Expendable", "MemoryLimit", "Reader"]

_RELIEF: Final = 7 / 8
"""Below this part of the limit paused connections go on; at the limit itself each octet that leaves would let another in."""


class Reader(Protocol):
    """A connection that buffers octets."""

    def relieved(self) -> None:
        """Read on."""


class Expendable(Protocol):
    """Work that no answer waits for, and that buffers octets."""

    def drop(self) -> None:
        """Forget the work, and with it the octets."""


class MemoryLimit:
    """Counts octets and messages of all connections of a server.

    Args:
        most: Octets that may be kept.
        most_messages: Messages that may be in work at once; None for any number.
        report: Hears which limit was reached, its value, and a line for the log.
    """

    __slots__ = ("_held", "_most", "_most_messages", "_report", "busy", "expendable", "full", "messages", "used")

    def __init__(self, most: int, most_messages: int | None, report: Callable[[Limit, int, str], object]) -> None:
        self._most = most
        self._most_messages = most_messages
        self._report = report
        self._held: set[Reader] = set()
        self.used: int = 0
        self.messages: set[object] = set()
        """Sessions with a message in progress; filled only where these are limited."""
        self.expendable: set[Expendable] = set()
        """What is dropped first when too much is buffered."""
        self.full: bool = False
        """Whether too much is buffered."""
        self.busy: bool = most_messages is not None
        """Whether a new message needs leave, for octets or for messages."""

    def limit(self, most: int, most_messages: int | None) -> None:
        """Have other limits from now on; messages that are in progress stay."""
        self._most, self._most_messages = most, most_messages
        self.busy = self.full or most_messages is not None
        self.change(0)

    def change(self, octets: int) -> None:
        """Count that so many octets more are buffered; negative for fewer."""
        self.used += octets
        if not self.full and self.used >= self._most and not self._dropped():
            self.full = self.busy = True
            what = f"{self.used} octets are buffered (--max-memory); pausing connections that hold some, refusing new messages"
            self._report(Limit.MEMORY, self._most, what)
        elif self.full and self.used < self._most * _RELIEF:
            self.full, self.busy = False, self._most_messages is not None
            held, self._held = self._held, set()
            for reader in held:
                reader.relieved()

    def _dropped(self) -> bool:
        """Drop what is expendable, and return whether that is enough."""
        while self.expendable and self.used >= self._most:
            self.expendable.pop().drop()
        return self.used < self._most

    def hold(self, reader: Reader) -> None:
        """Note a paused connection, which is called when there is room again."""
        self._held.add(reader)

    def holds(self, reader: Reader) -> bool:
        """Return whether a connection is paused."""
        return reader in self._held

    def let_go(self, reader: Reader) -> None:
        """Forget a connection that has ended."""
        self._held.discard(reader)

    def begin(self, session: object) -> bool:
        """Count a message, and return whether it may begin."""
        if self._most_messages is None:
            return True
        if len(self.messages) >= self._most_messages:
            what = f"{self._most_messages} messages are in progress; answering 452 to more (--max-messages)"
            self._report(Limit.MESSAGES, self._most_messages, what)
            return False
        self.messages.add(session)
        return True
