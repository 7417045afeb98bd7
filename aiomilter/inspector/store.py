"""The last messages, in memory: as many as fit, the oldest go."""

import asyncio
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from time import time
from typing import Final

from aiomilter.inspector.logs import log_records
from aiomilter.inspector.recording import Note, Recorded, RecordedConnection
from aiomilter.observe import (
    CallbackFailed,
    CallbackTimedOut,
    ClientRefused,
    InternalError,
    LimitReached,
    LoopStalled,
    MessageEnded,
    Misuse,
    Observer,
    PeerError,
    TemporaryFailed,
    Where,
)

__all__ = ["MAX_MESSAGES", "MAX_SIZE", "Store"]

MAX_MESSAGES: Final = 1000
MAX_SIZE: Final = 67_108_864
"""Octets: 64 MiB."""
_LONGEST_TRACEBACK: Final = 20_000
"""Characters; the end of a longer one is kept."""
_LONGEST_TEXT: Final = 4_000


class Store(Observer):
    """Keeps the messages of one server: give it to ``observer=``, and its :attr:`connection_factory` to the server.

    Args:
        max_size: Octets that all messages may take, those that are being received included.
        max_messages: How many are kept.
    """

    def __init__(self, max_size: int = MAX_SIZE, max_messages: int = MAX_MESSAGES) -> None:
        self.max_size: int = max_size
        self.max_messages: int = max_messages
        self.size: int = 0
        """Octets of memory that all recordings take, roughly."""
        self.messages: dict[int, Recorded] = {}
        """By number, oldest first."""
        self.last: int = 0
        """The number of the newest."""
        self.answers: Counter[str] = Counter()
        """How many messages have ended with each answer, by its verdict."""
        self.stalls: int = 0
        """How often the event loop was blocked."""
        self.connections: dict[int, RecordedConnection] = {}
        """Those that are open, by number."""
        self.connection_factory: Callable[..., RecordedConnection] = partial(RecordedConnection, self)
        """Makes the connections of the server."""
        self._waiting: set[asyncio.Event] = set()

    # ------------------------------------------------------------------------------------------------ what is recorded

    def opened(self, connection: RecordedConnection) -> None:
        """Take a connection that has begun."""
        self.connections[connection.number] = connection

    def closed(self, connection: RecordedConnection) -> None:
        """Forget a connection that has ended."""
        self.connections.pop(connection.number, None)

    def give_back(self, octets: int) -> None:
        """Count octets that are kept no longer."""
        self.size -= octets

    def add(self, recorded: Recorded) -> None:
        """Take a message that has ended."""
        messages = self.messages
        last = self.last = recorded.id = self.last + 1
        messages[last] = recorded
        if len(messages) > self.max_messages:
            # As make_room() does, without a call: a store that is full pays for it with each message (benchmarks gates).
            self.size -= messages.pop(last - self.max_messages).size
        if self.size > self.max_size:
            self.make_room()
        if self._waiting:
            self.wake()

    def take(self, recorded: Recorded) -> None:
        """Take a message that another process has recorded."""
        self.answers[recorded.event.answer.verdict] += 1
        self.size += recorded.size
        self.add(recorded)

    def wake(self) -> None:
        """Wake those that wait for messages, whether there are new ones or not."""
        for event in self._waiting:
            event.set()

    def make_room(self) -> bool:
        """Drop the oldest messages until the size is in bounds; return whether it is."""
        messages = self.messages
        while messages and self.size > self.max_size:
            # Their numbers follow on each other; the first key of a dict is the slower to find the more were dropped.
            self.size -= messages.pop(self.last - len(messages) + 1).size
        return self.size <= self.max_size

    def add_original(self, queue_id: str, octets: bytes) -> None:
        """Add a message as the SMTP client has sent it to the newest one with that name."""
        for number in range(self.last, max(self.last - 100, 0), -1):
            recorded = self.messages.get(number)
            if recorded is not None and recorded.event.where.queue_id == queue_id:
                recorded.original = octets
                recorded.size += len(octets)
                self.size += len(octets)
                self.make_room()
                return

    def log_records(self) -> AbstractContextManager[None]:
        """Take the log records that callbacks write, while the block runs."""
        return log_records()

    async def wait(self, after: int) -> None:
        """Wait until there is a message newer than that of a number, or until :meth:`wake`."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            if self.last <= after:
                await event.wait()
        finally:
            self._waiting.discard(event)

    # ------------------------------------------------------------------------------------------------------- as observer

    def message_ended(self, event: MessageEnded) -> None:
        """Record the end of a message."""
        self.answers[event.answer.verdict] += 1
        connection = self.connections.get(event.where.connection)
        if connection is not None:
            connection.message_ended(event)

    def client_refused(self, event: ClientRefused) -> None:
        """Record a client that was refused."""
        connection = self.connections.get(event.where.connection)
        if connection is not None:
            connection.client_refused(event)

    def callback_failed(self, event: CallbackFailed) -> None:
        """Note a failure, with its traceback."""
        self._note(event.where, "ERROR", event.what, event.error)

    def internal_error(self, event: InternalError) -> None:
        """Note a failure, with its traceback."""
        self._note(event.where, "ERROR", event.what, event.error)

    def callback_timed_out(self, event: CallbackTimedOut) -> None:
        """Note which limit was passed."""
        self._note(event.where, "ERROR", event.what)

    def temporary_failed(self, event: TemporaryFailed) -> None:
        """Note what is down."""
        self._note(event.where, "WARNING", event.what)

    def misuse(self, event: Misuse) -> None:
        """Note what has no effect."""
        self._note(event.where, "WARNING", event.what)

    def limit_reached(self, event: LimitReached) -> None:
        """Note a limit."""
        self._note(event.where, "WARNING", event.what)

    def peer_error(self, event: PeerError) -> None:
        """Note what the MTA did wrong."""
        self._note(event.where, "WARNING", event.what)

    def loop_stalled(self, event: LoopStalled) -> None:
        """Count it, and note it, once it is over: before, this is called in another thread."""
        if event.over:
            self.stalls += 1
            self._note(event.where, "WARNING", f"blocked the event loop for {event.duration:.2f} s")

    def _note(self, where: Where, level: str, what: str, error: BaseException | None = None) -> None:
        connection = self.connections.get(where.connection)
        if connection is None:
            return
        lines = "" if error is None else "".join(traceback.format_exception(error, limit=-30))[-_LONGEST_TRACEBACK:]
        source = " ".join(filter(None, (where.filter, where.callback)))
        connection.note(Note(time(), level, source, what[:_LONGEST_TEXT], lines))
