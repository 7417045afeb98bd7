"""One connection's transport: octets to the session, its answers back in one write a batch, and back-pressure both ways.

Callbacks run inline, inside ``data_received``, and only a suspended one is handed to the connection's Task.  The inline part
runs as that Task as far as asyncio can tell, and in its context, so ``asyncio.timeout``, ``TaskGroup``, context variables and
``asyncio.current_task()`` behave as anywhere.
"""

import asyncio
import contextvars
import socket
from asyncio.tasks import _enter_task, _leave_task, _unregister_task  # documented for those who extend asyncio
from collections.abc import Callable
from typing import ClassVar, Final, cast

from aiomilter._connection.acknowledging import acknowledge, can_acknowledge
from aiomilter._connection.answering import Answering
from aiomilter._connection.dispatch import DispatchTables
from aiomilter._connection.driver import MORE, drive
from aiomilter._connection.native import NativeAnswering
from aiomilter._connection.reports import report_peer_error
from aiomilter._connection.session import Session
from aiomilter._connection.suspension import Reason
from aiomilter._connection.tasks import ConnectionTask, Run
from aiomilter._connection.writing import WriteTimeout, unwritten
from aiomilter._serving.memory import MemoryLimit
from aiomilter.handler import Handler
from aiomilter.observe import InternalError, PeerErrorKind, Where
from aiomilter.observe.guard import Guard
from aiomilter.options import Options

__all__ = ["MilterProtocol"]

_FIRST_PACKET: Final = 1.0
"""Seconds for a connection that was accepted as draining began to say something."""
_MUCH_KEPT: Final = 16_384
"""Octets; the macros and envelope of a usual message take some two thousand."""


class MilterProtocol(asyncio.Protocol):
    """One connection with an MTA.

    Args:
        loop: The event loop.
        make: Makes the handler of an SMTP connection.
        tables: Of the factory that makes them.
        options: Limits and time-outs.
        observer: Hears what happens.
        number: Of the connection.
        ended: Called once when the connection and all its callbacks are over.
        memory: What all connections may keep.
        peer: Who is at the other end, for the log; "" if not known.
        listener: The socket that accepted the connection; "" if none did.
    """

    __slots__ = (
        "_acknowledges",
        "_dribbles",
        "_ended",
        "_given_up",
        "_kept",
        "_looks",
        "_loop",
        "_lost",
        "_mute",
        "_observer",
        "_options",
        "_out",
        "_reading",
        "_run",
        "_running",
        "_session",
        "_task",
        "_transport",
        "_writable",
        "_write_timeout",
        "context",
        "idle",
        "listener",
        "memory",
        "number",
        "peer",
    )

    answering: ClassVar[Callable[[Session], Answering]] = NativeAnswering
    """Makes what says what answers mean."""
    owns_socket: ClassVar[bool] = False
    """Whether it takes the socket itself, by :meth:`take`, and wants no transport."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[], Handler],
        tables: DispatchTables,
        options: Options,
        observer: Guard,
        number: int,
        ended: Callable[["MilterProtocol"], None],
        memory: MemoryLimit,
        peer: str = "",
        listener: str = "",
    ) -> None:
        self.number: int = number
        self.peer: str = peer
        self.listener: str = listener
        self.idle: int = 0
        self.memory: MemoryLimit = memory
        # Octets the memory knows of; unfinished packets found, and how often the last was found unfinished.
        self._kept = 0
        self._looks = 0
        self._dribbles = 0
        self._loop = loop
        self._options = options
        self._observer = observer
        self._ended: Callable[[MilterProtocol], None] | None = ended
        self._session = Session(make, tables, options, observer, self, type(self).answering)
        self._out = self._session.out
        self._run: Run | None = None
        self.context: contextvars.Context = contextvars.copy_context()
        # Its Task, from its first batch on.
        self._task: ConnectionTask | None = None
        self._running = False
        # There is nobody to write to, or not any more.
        self._mute = True
        self._lost = False
        self._given_up = False
        self._reading = True
        self._writable: asyncio.Future[None] | None = None
        self._write_timeout: WriteTimeout | None = None
        self._transport: asyncio.Transport | None = None
        self._acknowledges = False

    @property
    def waiting(self) -> bool:
        """Whether a callback is suspended."""
        return self._running

    def where(self) -> Where:
        """Return where the session is, for the observer."""
        return self._session.where()

    def at_work(self) -> Where:
        """Return where the session is; for another thread, so that nothing changes."""
        return self._session.seen_from_outside()

    # ------------------------------------------------------------------------------------------- from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        if self._session.over:
            self._transport.abort()  # it was ended before its TLS had begun
            return
        self._mute = False
        self._acknowledges = can_acknowledge(transport.get_extra_info("socket"))
        self._begin_run()

    def data_received(self, data: bytes) -> None:
        """Handle what came, inline as far as it goes; hand the rest to the Task if a callback suspends."""
        self.idle = 0
        if self._running:
            self._session.arrived(data)
            self._limit_waiting()
            if self._acknowledges:
                self._acknowledge()
            return
        loop, run, own = self._loop, self._run, self._task
        if run is None:
            return
        if own is None:
            own = self._task = ConnectionTask(loop, self)
        task, wake = own.task, own.wake
        if task is None or wake is None or wake.done() or task.cancelling():
            # One that was cancelled may not harm this batch; inline, a call less for each (benchmarks gates).
            task = own.begin()
        try:
            _enter_task(loop, task)
            try:
                future = self.context.run(run.send, data)
            finally:
                _leave_task(loop, task)
        except StopIteration:
            self.done()
        except Exception as error:
            self.failed(error)
        except BaseException as error:
            self.failed(error)
            raise
        else:
            if future is not MORE:
                self._running = True
                own.hand(run, future)
                if self._acknowledges and not self._out:
                    self._acknowledge()
                self.suspended()
            elif self._out:
                # As flush() does: a call less for each batch (benchmarks gates).
                if not self._mute:
                    self._transport.write(b"".join(self._out))  # type: ignore[union-attr]  # not mute: there is one
                self._out.clear()
            elif self._acknowledges:
                self._acknowledge()

    def _acknowledge(self) -> None:
        if self._transport is not None and not self._lost:
            acknowledge(self._transport.get_extra_info("socket"))

    def eof_received(self) -> bool:
        """Close: an MTA that sends no more waits for nothing."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the callback that waits, then run those that a connection ends with."""
        self._lost = self._mute = True
        if self._write_timeout is not None:
            self._write_timeout.stop()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._end(Reason.LOST)
        if self._given_up:
            self._tell_end()

    def pause_writing(self) -> None:
        """Read no more until the MTA has taken what was written, and close it if it does not in time."""
        self._writable = self._loop.create_future()
        self._session.congested = True
        self._time_writing()
        self._pause_reading()
        self.kept()

    def resume_writing(self) -> None:
        """Go on."""
        if self._write_timeout is not None:
            self._write_timeout.stop()
        if self._transport is not None and self._transport.is_closing() and self._unwritten():
            self._time_writing()  # less is left, but nothing is closed before that has gone, too
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None
        self._session.congested = False
        self.kept()
        if not self._running:
            self._resume_reading()

    # ----------------------------------------------------------------------------------------------- from the server

    def take(self, sock: socket.socket) -> None:
        """Begin, with the socket that was accepted; for those that own it."""
        raise NotImplementedError

    def never_made(self) -> None:
        """Record that there will be no transport."""
        if self._transport is None:
            self._tell_end()

    @property
    def silent(self) -> bool:
        """Whether the peer has said nothing at all."""
        wire = self._session.wire
        return not wire.negotiated and not wire.buffer.unfinished

    @property
    def begun(self) -> bool:
        """Whether an SMTP connection is open, as far as the MTA has said."""
        return self._session.wire.connected

    @property
    def keeps_much(self) -> bool:
        """Whether it keeps more than a connection with nothing unusual does."""
        return self._kept >= _MUCH_KEPT

    def dribbled(self) -> int:
        """Return how many times in a row the same packet was found unfinished, or none had come yet; 0 if all is well."""
        wire = self._session.wire
        buffer = wire.buffer
        if (wire.negotiated and not buffer.unfinished) or self._writable is not None:
            self._dribbles = 0
        elif self._looks != buffer.looks:
            self._looks, self._dribbles = buffer.looks, 1
        else:
            self._dribbles += 1
        return self._dribbles

    def relieved(self) -> None:
        """Read on: there is room for what comes."""
        self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        waits = self._running and self._session.wire.waiting > self._options.max_waiting_size
        if self._writable is None and not waits:
            self._resume_reading()

    def stop(self) -> None:
        """End the connection soon: a callback that waits is cancelled and answered with ``on_error``."""
        # Not now: a batch may only start where no other task is the current one.
        self._loop.call_soon(self._end, Reason.STOP)

    def stop_in_time(self) -> None:
        """The same, and no callback has more than ``cancel_timeout`` to end, ``abort`` and ``close`` included."""
        self._session.hurry()
        self.stop()

    def drain_off(self) -> None:
        """End the connection at its next QUIT or QUIT_NC, or soon if no SMTP connection is open on it."""
        self._session.draining = True
        if self._session.wire.negotiated:
            self._stop_idle()
        else:
            # It has just come: its first packet may be on the way, and the MTA believes that it is served.
            self._loop.call_later(_FIRST_PACKET, self._stop_idle)

    def _stop_idle(self) -> None:
        if not self._lost and not self._running and self._session.idle:
            self.stop()

    def _end(self, reason: Reason) -> None:
        if self._running:
            self._session.cancel(reason)
            self._session.over = True
        elif not self._session.over:
            self._session.over = True
            self.data_received(b"")
        elif self._lost:
            self._finished()

    # ---------------------------------------------------------------------------------------------- for the session

    def kept(self) -> None:
        """Tell the memory what is kept for longer than this batch, and read no more where all keep too much."""
        if self._ended is None:
            return  # a callback that nobody waits for
        kept = self._session.kept
        if self._writable is not None and self._transport is not None:
            kept += self._unwritten()
        if kept != self._kept:
            change, self._kept = kept - self._kept, kept
            self.memory.change(change)
        if not self._running and self._writable is None:
            # At most half a packet, and only the peer can make it whole.
            self.memory.let_go(self)
        elif kept and self.memory.full:
            self.memory.hold(self)
            self._pause_reading()
        elif not kept:
            self.memory.let_go(self)

    def flush(self) -> None:
        """Write what the session has to say, in one write."""
        if self._out:
            if not self._mute:
                self._transport.write(b"".join(self._out))  # type: ignore[union-attr]  # not mute: there is one
            self._out.clear()

    async def drain(self) -> None:
        """Wait until the MTA has taken enough of what was written."""
        if self._writable is not None and not self._lost:
            await asyncio.shield(self._writable)

    async def turn(self) -> None:
        """Write what the session has to say, let others have their turn, and wait until the MTA has taken enough."""
        self.flush()
        await asyncio.sleep(0)
        await self.drain()

    def cancel(self) -> None:
        """Cancel what the suspended callback waits for."""
        if self._task is not None and self._task.task is not None:
            self._task.task.cancel()

    def uncancel(self) -> None:
        """Record that the cancellation has arrived."""
        if self._task is not None and self._task.task is not None:
            self._task.task.uncancel()

    def time(self) -> float:
        """Return the time of the event loop."""
        return self._loop.time()

    def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Have a function called after a time."""
        return self._loop.call_later(delay, callback)

    def close(self) -> None:
        """Close the connection once what was written has left, if that is not long."""
        if self._transport is not None:
            self._transport.close()
            armed = self._write_timeout is not None and self._write_timeout.armed
            if not self._lost and not armed and self._unwritten():
                self._time_writing()

    def give_up(self) -> None:
        """Close the connection at once, without waiting for the callback that does not end."""
        self._given_up = True
        if self._task is not None and self._task.task is not None:
            _unregister_task(self._task.task)  # or whoever closes the event loop would wait for it
        if self._lost:
            self._tell_end()
        else:
            self._abort()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # ---------------------------------------------------------------------------------------------------- the driver

    def _begin_run(self) -> None:
        self._run = drive(self._session)
        next(self._run)

    def done(self) -> None:
        """End a batch."""
        self._running = False
        self._session.caught_up()
        self.flush()
        if self._session.over:
            self._run = None
            if self._lost:
                self._finished()
        else:
            if self._kept:
                self.kept()
            if not self._reading and self._writable is None:
                self._resume_reading()

    def failed(self, error: BaseException) -> None:
        what = (
            "aiomilter has a bug here" if isinstance(error, Exception) else f"{type(error).__name__} ends the callback"
        )
        self._observer.tell(InternalError(self._session.where(), f"{what}; closing the connection", error))
        self._session.over = True
        self._session.stop_clock()
        self._running = False
        self._run = None
        self._abort()
        if self._lost:
            self._finished()

    def _finished(self) -> None:
        """The transport and the last callback have ended, in whichever order."""
        own, self._task = self._task, None
        if own is not None:
            own.end()
        self._tell_end()

    def _tell_end(self) -> None:
        if self._ended is not None:
            ended, self._ended = self._ended, None
            if self._kept:
                self.memory.change(-self._kept)
                self._kept = 0
            self.memory.let_go(self)
            self.memory.messages.discard(self._session)
            self._session.let_go()
            ended(self)

    def suspended(self) -> None:
        """Before a suspension: send what was answered, and see how much waits behind it."""
        self.flush()
        if self._running:
            self._session.suspend()
            self._limit_waiting()

    def _limit_waiting(self) -> None:
        self.kept()
        if self._session.wire.waiting > self._options.max_waiting_size:
            self._pause_reading()

    # -------------------------------------------------------------------------------------------------- back-pressure

    def _pause_reading(self) -> None:
        if self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reading and self._transport is not None and not self._transport.is_closing():
            if self.memory.holds(self):
                return
            self._reading = True
            self._transport.resume_reading()

    def _unwritten(self) -> int:
        """Return how many octets are left to be written."""
        return 0 if self._transport is None else unwritten(self._transport)

    def _time_writing(self) -> None:
        """Have the connection closed if the MTA reads nothing of the octets that are left."""
        if self._write_timeout is None:
            seconds = self._options.write_timeout
            self._write_timeout = WriteTimeout(self._loop, seconds, self._unwritten, self._write_timed_out)
        self._write_timeout.start()

    def _write_timed_out(self) -> None:
        what = f"the MTA read nothing for {self._options.write_timeout:g} s; closing"
        report_peer_error(self._session, PeerErrorKind.WRITE_TIMEOUT, what)
        self._abort()
