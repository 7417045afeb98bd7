"""Recording a connection: what came, the answers to it, and when, as octets; they are read once a page asks for them.

Only a server whose connections are :class:`RecordedConnection` pays for this: there is no switch in the path of a packet.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from time import monotonic, time
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, cast

from aiomilter._connection.transport import MilterProtocol
from aiomilter.inspector.frames import Head
from aiomilter.observe import ClientRefused, MessageEnded
from aiomilter.wire.negotiation import Agreement

__all__ = [
    "CURRENT",
    "MOST_NOTES",
    "OVERHEAD",
    "RECEIVED",
    "SENT",
    "WAITED",
    "Entry",
    "Note",
    "Recorded",
    "RecordedConnection",
    "Recorder",
]

RECEIVED: Final = 0
"""Octets of the MTA."""
SENT: Final = 1
"""Octets for the MTA."""
WAITED: Final = 2
"""A callback has suspended: its name, and the filter of a composition."""
OVERHEAD: Final = 160
"""Octets of memory that an entry takes beside its own."""
_UNCOUNTED: Final = 16_384
"""Octets of a message that are not counted before it ends: most messages end first."""
MOST_NOTES: Final = 50
"""Notes of a message; later ones are dropped."""

Entry: TypeAlias = tuple[float, int, Any]
"""When, by ``time.monotonic``; :data:`RECEIVED`, :data:`SENT` or :data:`WAITED`; and what."""


class Note(NamedTuple):
    """A log record of a message, or a failure.

    Args:
        time: When, by ``time.time``.
        level: ``"ERROR"``, ``"WARNING"``, ``"INFO"`` or ``"DEBUG"``.
        source: The logger, or the filter and the callback.
        text: What it says.
        traceback: Of a callback that failed; "" without one.
    """

    time: float
    level: str
    source: str
    text: str
    traceback: str = ""


class Recorded:
    """One message as it was recorded, or a client that was refused.

    Args:
        event: How it ended.
        entries: What came and what was sent, in that order.
        head: What the MTA has told of the client before.
        agreement: What filter and MTA have agreed on.
        notes: Log records and failures.
        size: Octets that it takes.
        cut: Whether content is missing, since it was too much.
    """

    __slots__ = ("agreement", "cut", "entries", "event", "head", "id", "notes", "original", "size", "summary", "time")

    def __init__(
        self,
        event: MessageEnded | ClientRefused,
        entries: list[Entry],
        head: Head,
        agreement: Agreement | None,
        notes: list[Note],
        size: int,
        cut: bool,
    ) -> None:
        self.id: int = 0
        """Its number in the store, from 1."""
        self.time: float = time()
        """When it ended, by ``time.time``."""
        self.event: MessageEnded | ClientRefused = event
        self.entries: list[Entry] = entries
        self.head: Head = head
        self.agreement: Agreement | None = agreement
        self.notes: list[Note] = notes
        self.original: bytes | None = None
        """The message as the SMTP client has sent it, where the server in front is ours."""
        self.size: int = size
        self.cut: bool = cut
        self.summary: dict[str, Any] | None = None
        """Its line in the list, once a page has asked for it."""


class Recorder(Protocol):
    """Takes what was recorded."""

    size: int
    """Octets of memory that all recordings take."""
    max_size: int
    """Octets that they may take."""

    def opened(self, connection: "RecordedConnection") -> None:
        """Take a connection that has begun."""

    def closed(self, connection: "RecordedConnection") -> None:
        """Forget a connection that has ended."""

    def add(self, recorded: Recorded) -> None:
        """Take a message that has ended."""

    def make_room(self) -> bool:
        """Drop old messages until the size is in bounds; return whether it is."""
        ...


CURRENT: "Final[ContextVar[RecordedConnection | None]]" = ContextVar("aiomilter_recorded", default=None)
"""The connection whose callback runs: log records go to its message."""


_handle: Final = MilterProtocol.data_received


class _RecordedTransport:
    """A transport whose ``write`` is another; all else is that of the real one."""

    __slots__ = ("_transport", "write")

    def __init__(self, transport: asyncio.Transport, write: Callable[[bytes], None]) -> None:
        self._transport = transport
        self.write = write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class RecordedConnection(MilterProtocol):
    """One connection with an MTA, recorded.

    Args:
        recorder: Takes the messages.
        args: As for :class:`MilterProtocol`.
    """

    __slots__ = (
        "_counted",
        "_cut",
        "_entries",
        "_head",
        "_limit",
        "_notes",
        "_pending",
        "_recorder",
        "_size",
        "_told",
        "_waiting",
        "_write",
    )

    def __init__(self, recorder: Recorder, *args: Any) -> None:
        super().__init__(*args)
        self._recorder = recorder
        self._entries: list[Entry] = []
        self._notes: list[Note] = []
        self._size = 0
        # The part of it that the recorder counts, and the size at which it is counted anew.
        self._counted = 0
        self._limit = _UNCOUNTED
        self._cut = False
        self._head = Head()
        # The message that has ended, and whose answer has not left yet.
        self._pending: Recorded | None = None
        # The callback that has suspended last in the batch at hand.
        self._waiting = ""
        # Of the entries, how many the last client that was refused has, and what is known behind these; None for none.
        self._told: tuple[int, Head] | None = None
        self.context.run(CURRENT.set, self)

    # ------------------------------------------------------------------------------------------------- what happens

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._recorder.opened(self)
        self._write: Callable[[bytes], None] = cast(asyncio.Transport, transport).write
        recorded: Any = _RecordedTransport(cast(asyncio.Transport, transport), self.write)
        super().connection_made(recorded)

    def data_received(self, data: bytes) -> None:
        """Record octets, and handle them."""
        if self._pending is not None:
            self._finish()
        if data and not self._cut:
            self._waiting = ""
            self._entries.append((monotonic(), RECEIVED, data))
            size = self._size = self._size + len(data) + OVERHEAD
            if size > self._limit:
                self._count()
        _handle(self, data)

    def write(self, octets: bytes) -> None:
        """Record octets, and write them."""
        pending = self._pending
        size = len(octets) + OVERHEAD
        if pending is not None:
            pending.entries.append((monotonic(), SENT, octets))
            pending.size += size
            self._recorder.size += size
            self._pending = None
            self._recorder.add(pending)
        elif not self._cut:
            self._entries.append((monotonic(), SENT, octets))
            self._size += size
        self._write(octets)

    def suspended(self) -> None:
        """Record which callback has suspended, once for each in a batch."""
        session = self.session
        if self._running and not self._cut and session.callback != self._waiting:
            self._waiting = session.callback
            self._size += OVERHEAD
            self._entries.append((monotonic(), WAITED, (session.callback, getattr(session.handler, "acting", ""))))
        super().suspended()

    def on_end(self) -> None:
        """Forget the connection."""
        super().on_end()
        if self._pending is not None:
            self._finish()
        self._entries = []
        self._recorder.size -= self._counted
        self._size = self._counted = 0
        self._recorder.closed(self)

    def _count(self) -> None:
        """Count a message that is larger than most while it comes, and keep no more of it if there is no room."""
        recorder = self._recorder
        recorder.size += self._size - self._counted
        self._counted = self._size
        self._limit = self._size + _UNCOUNTED
        full = recorder.size > recorder.max_size and not recorder.make_room()
        if full or self._size > recorder.max_size >> 2:
            self._cut_off()

    def _cut_off(self) -> None:
        """Keep no more of the message at hand: it is too large, or too many are."""
        self._cut = True
        self._head = self._head.after(self._entries)
        self._entries, self._told = [], None
        self._recorder.size -= self._counted
        self._size = self._counted = 0

    def note(self, note: Note) -> None:
        """Add a log record or a failure to the message at hand."""
        notes = self._pending.notes if self._pending is not None else self._notes
        if len(notes) < MOST_NOTES:
            notes.append(note)
            size = len(note.text) + len(note.traceback) + OVERHEAD
            if self._pending is not None:
                self._pending.size += size
                self._recorder.size += size
            else:
                self._size += size

    # -------------------------------------------------------------------------------------------- the end of a message

    def message_ended(self, event: MessageEnded) -> None:
        """Record the end of a message; its answer is on the way."""
        if self._pending is not None:
            self._finish()
        waiting = self.session.wire.waiting
        rest = self._split(waiting) if waiting else []
        self._recorder.size += self._size - self._counted
        self._pending = Recorded(
            event, self._entries, self._head, self.session.agreement, self._notes, self._size, self._cut
        )
        self._head = self._head.after(self._entries)
        self._entries, self._notes, self._cut, self._told = rest, [], False, None
        self._size = sum(len(octets) + OVERHEAD for _, _, octets in rest) if rest else 0
        self._counted, self._limit = 0, _UNCOUNTED
        if event.answer == "abort":  # which has no answer
            self._finish()

    def _split(self, waiting: int) -> list[Entry]:
        """Take octets that belong to what follows the message away from its entries, and return them."""
        rest: list[Entry] = []
        entries = self._entries
        while waiting and entries and entries[-1][1] == RECEIVED:
            when, kind, octets = entries.pop()
            behind = octets[-waiting:]
            if len(behind) < len(octets):
                entries.append((when, kind, octets[: -len(behind)]))
            rest.insert(0, (when, kind, behind))
            waiting -= len(behind)
        return rest

    def client_refused(self, event: ClientRefused) -> None:
        """Record that the client was refused; what came so far also begins the next message.

        A client that is refused often has each time what came since the last: all of it each time would be quadratic.
        """
        begin, head = (0, self._head) if self._told is None else self._told
        told = len(self._entries)
        while begin < told and self._entries[begin][1] == SENT:
            begin += 1  # the answer to the last refusal
        entries = self._entries[begin:]
        self._told = told, head.after(entries)
        size = sum((len(octets) if kind != WAITED else 0) + OVERHEAD for _, kind, octets in entries)
        notes, self._notes = self._notes, []
        self._recorder.size += size
        self._recorder.add(Recorded(event, entries, head, self.session.agreement, notes, size, self._cut))

    def _finish(self) -> None:
        recorded, self._pending = self._pending, None
        assert recorded is not None
        self._recorder.add(recorded)
