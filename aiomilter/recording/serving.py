"""Recording the sessions of a server of ours.

A session that is not recorded has a connection that knows nothing of recording.
"""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from aiomilter._connection.served import ServedConnection
from aiomilter._connection.transport import MilterProtocol
from aiomilter._serving.memory import MemoryLimit
from aiomilter.observe import CallbackFailed, CallbackTimedOut, Observer, ResourceExhausted, Where
from aiomilter.observe.guard import Guard
from aiomilter.recording.directory import RecordDirectory
from aiomilter.recording.format import FILTER, MTA
from aiomilter.recording.recorder import Recorder, RecordSettings, SessionRecord

__all__ = ["ServerRecorder"]


class ServerRecorder(Observer):
    """Makes the connections of a server: some of them are recorded.

    Args:
        settings: What is recorded.
        directory: Where.
        share: The share of sessions that are recorded.
        make: Makes the connections that are not recorded: a class, or a :class:`functools.partial` of one.
    """

    def __init__(
        self,
        settings: RecordSettings,
        directory: RecordDirectory,
        share: float,
        make: Callable[..., ServedConnection] = MilterProtocol,
    ) -> None:
        self._make: Callable[..., Any] = make
        # Of the same class, with the octets recorded in front of it.
        kind, before = (make.func, make.args) if isinstance(make, partial) else (make, ())
        recorded = type("Recorded", (_RecordedProtocol, cast(type[MilterProtocol], kind)), {"__slots__": ("record",)})
        self._make_recorded: Callable[..., Any] = partial(recorded, *before)
        self._settings = settings
        self._directory = directory
        self._share = share
        self._recorder: Recorder | None = None
        # By the number of the connection; only those that are open.
        self._records: dict[int, SessionRecord] = {}

    def connection(
        self, loop: asyncio.AbstractEventLoop, make: Any, tables: Any, options: Any, observer: Guard, *rest: Any
    ) -> ServedConnection:
        """Make a connection; arguments as for :class:`ServedConnection`."""
        if self._share < 1 and random.random() >= self._share:  # a sample, no secret
            return cast(ServedConnection, self._make(loop, make, tables, options, observer, *rest))
        number, on_ended, memory, peer, listener = rest
        record = self._of(memory, observer).begin(listener)
        self._records[number] = record

        def ended(connection: ServedConnection) -> None:
            self._records.pop(number, None)
            record.end()
            on_ended(connection)

        made = self._make_recorded(loop, make, tables, options, observer, number, ended, memory, peer, listener)
        made.record = record
        return cast(ServedConnection, made)

    def _of(self, memory: MemoryLimit, observer: Guard) -> Recorder:
        if self._recorder is None:

            def report(what: str) -> None:
                observer.tell(ResourceExhausted(Where(), "recording", what))

            self._recorder = Recorder(self._settings, self._directory, memory, report)
        return self._recorder

    def callback_failed(self, event: CallbackFailed) -> None:
        """Mark the session."""
        self._mark(event.where)

    def callback_timed_out(self, event: CallbackTimedOut) -> None:
        """Mark the session."""
        self._mark(event.where)

    def _mark(self, where: Where) -> None:
        record = self._records.get(where.connection)
        if record is not None:
            record.mark("failed")

    async def close(self) -> None:
        """Write what was recorded."""
        if self._recorder is not None:
            await self._recorder.close()


class _RecordedProtocol(MilterProtocol):
    """A connection whose octets are recorded; a class made of it and of that of another connection has the slot."""

    __slots__ = ()

    record: SessionRecord

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, and record what is written."""
        super().connection_made(cast(asyncio.Transport, _RecordedTransport(transport, self.record)))

    def data_received(self, data: bytes) -> None:
        """Record and handle received octets."""
        if data:
            self.record.add(MTA, data)
        super().data_received(data)

    def eof_received(self) -> bool:
        """Record that the MTA has closed."""
        self.record.closed(MTA)
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Record that the MTA has closed, unless we have."""
        self.record.closed(MTA)
        super().connection_lost(exc)


class _RecordedTransport:
    """A transport that records what is written to it."""

    def __init__(self, transport: asyncio.BaseTransport, record: SessionRecord) -> None:
        self._transport: Any = transport
        self._record = record

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Record and write octets."""
        self._record.add(FILTER, data)
        self._transport.write(data)

    def close(self) -> None:
        """Record that the filter closes the connection."""
        self._record.closed(FILTER)
        self._transport.close()

    def abort(self) -> None:
        """Record that the filter closes the connection."""
        self._record.closed(FILTER)
        self._transport.abort()
