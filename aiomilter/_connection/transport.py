"""One connection's transport: octets to the session, its answers back in one write a batch, and back-pressure both ways.

Callbacks run inline, inside ``data_received``, and only a suspended one is handed to the connection's Task.  The inline part
runs as that Task, from asyncio's point of view, and in its context, so ``asyncio.timeout``, ``TaskGroup``, context variables
and ``asyncio.current_task()`` behave as anywhere.
"""

import asyncio
import socket
from asyncio.tasks import _enter_task, _leave_task, _unregister_task  # documented for those who extend asyncio
from typing import Any, Final, cast

from aiomilter._connection.acknowledging import acknowledge, can_acknowledge
from aiomilter._connection.driver import MORE, drive
from aiomilter._connection.reports import report_peer_error
from aiomilter._connection.served import ServedConnection
from aiomilter._connection.suspension import Reason
from aiomilter._connection.tasks import ConnectionTask, Run
from aiomilter._connection.writing import WriteTimeout, unwritten
from aiomilter._serving.transports import Transports
from aiomilter.observe import InternalError, PeerErrorKind

__all__ = ["MilterProtocol"]

_FIRST_PACKET: Final = 1.0
"""Seconds that a connection accepted just before a drain has for its first packet."""
_MUCH_KEPT: Final = 16_384
"""Octets; the macros and envelope of a usual message take about two thousand."""


class MilterProtocol(ServedConnection, asyncio.Protocol):
    """One connection with an MTA, on the event loop.

    Args:
        args: As for :class:`ServedConnection`.
    """

    __slots__ = (
        "_acknowledges",
        "_given_up",
        "_kept",
        "_lost",
        "_mute",
        "_reading",
        "_run",
        "_running",
        "_task",
        "_transport",
        "_writable",
        "_write_timeout",
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # Octets that ``memory`` counts.
        self._kept = 0
        self._run: Run | None = None
        # From the first batch on.
        self._task: ConnectionTask | None = None
        # A batch has suspended and has not ended.
        self._running = False
        # Nothing can be written yet, or any more.
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

    # ------------------------------------------------------------------------------------------- from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        if self.session.over:
            self._transport.abort()  # it was stopped before its TLS handshake was over
            return
        self._mute = False
        self._acknowledges = can_acknowledge(transport.get_extra_info("socket"))
        self._begin_run()

    def data_received(self, data: bytes) -> None:
        """Handle received octets inline; hand the rest to the Task if a callback suspends."""
        self.idle = 0
        if self._running:
            self.session.arrived(data)
            self._limit_waiting()
            if self._acknowledges:
                self._acknowledge()
            return
        loop, run, own = self.loop, self._run, self._task
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
                if self._acknowledges and not self.out:
                    self._acknowledge()
                self.suspended()
            elif self.out:
                # As flush() does: a call less for each batch (benchmarks gates).
                if not self._mute:
                    self._transport.write(b"".join(self.out))  # type: ignore[union-attr]  # not mute: there is one
                self.out.clear()
            elif self._acknowledges:
                self._acknowledge()

    def _acknowledge(self) -> None:
        if self._transport is not None and not self._lost:
            acknowledge(self._transport.get_extra_info("socket"))

    def eof_received(self) -> bool:
        """Close: an MTA that sends no more waits for no answer."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the callback that waits, then run ``abort`` and ``close``."""
        self._lost = self._mute = True
        if self._write_timeout is not None:
            self._write_timeout.stop()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._end(Reason.LOST)
        if self._given_up:
            self.notify_end()

    def pause_writing(self) -> None:
        """Pause reading until the MTA has read our answers, and close the connection if that takes too long."""
        self._writable = self.loop.create_future()
        self.session.congested = True
        self._time_writing()
        self._pause_reading()
        self.kept()

    def resume_writing(self) -> None:
        """Resume reading."""
        if self._write_timeout is not None:
            self._write_timeout.stop()
        if self._transport is not None and self._transport.is_closing() and self._unwritten():
            self._time_writing()  # less is left, but the rest still has to leave before the transport closes
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None
        self.session.congested = False
        self.kept()
        if not self._running:
            self._resume_reading()

    # ----------------------------------------------------------------------------------------------- from the server

    def serve(self, sock: socket.socket, transports: Transports) -> None:
        """Have the transport of a socket made."""
        transports.make(self, sock)

    def transport_failed(self) -> None:
        """Record that there will be no transport."""
        if self._transport is None:
            self.notify_end()

    @property
    def keeps_much(self) -> bool:
        """Whether it keeps more than a connection with nothing unusual does."""
        return self._kept >= _MUCH_KEPT

    def relieved(self) -> None:
        """Resume reading: there is room in memory."""
        self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        waits = self._running and self.session.wire.waiting > self.options.max_waiting_size
        if self._writable is None and not waits:
            self._resume_reading()

    def stop(self) -> None:
        """End the connection soon: a callback that waits is cancelled and answered with ``on_error``."""
        # Later: a batch may only start while no other Task is the current one.
        self.loop.call_soon(self._end, Reason.STOP)

    def begin_drain(self) -> None:
        """End the connection at its next QUIT or QUIT_NC, or soon if no SMTP connection is open on it."""
        self.session.draining = True
        if self.session.wire.negotiated:
            self._stop_idle()
        else:
            # It is new: its first packet may be on the way, and the MTA expects an answer.
            self.loop.call_later(_FIRST_PACKET, self._stop_idle)

    def _stop_idle(self) -> None:
        if not self._lost and not self._running and self.session.idle:
            self.stop()

    def _end(self, reason: Reason) -> None:
        if self._running:
            self.session.cancel(reason)
            self.session.over = True
        elif not self.session.over:
            self.session.over = True
            self.data_received(b"")
        elif self._lost:
            self._finished()

    # ---------------------------------------------------------------------------------------------- for the session

    def kept(self) -> None:
        """Count the octets that stay buffered after this batch; pause reading if all connections buffer too much."""
        if self.ended:
            return  # given up: its callback may still run
        kept = self.session.kept
        if self._writable is not None and self._transport is not None:
            kept += self._unwritten()
        if kept != self._kept:
            change, self._kept = kept - self._kept, kept
            self.memory.change(change)
        if not self._running and self._writable is None:
            # At most half a packet, which only the peer can complete.
            self.memory.let_go(self)
        elif kept and self.memory.full:
            self.memory.hold(self)
            self._pause_reading()
        elif not kept:
            self.memory.let_go(self)

    def flush(self) -> None:
        """Write the session's packets, in one write."""
        if self.out:
            if not self._mute:
                self._transport.write(b"".join(self.out))  # type: ignore[union-attr]  # not mute: there is one
            self.out.clear()

    async def drain(self) -> None:
        """Wait until the MTA has read enough of the octets written."""
        if self._writable is not None and not self._lost:
            await asyncio.shield(self._writable)

    async def turn(self) -> None:
        """Write the session's packets, let other connections run, and wait until the MTA has read enough."""
        self.flush()
        await asyncio.sleep(0)
        await self.drain()

    def cancel(self) -> None:
        """Cancel the suspended callback."""
        if self._task is not None and self._task.task is not None:
            self._task.task.cancel()

    def uncancel(self) -> None:
        """Record that the cancellation has arrived."""
        if self._task is not None and self._task.task is not None:
            self._task.task.uncancel()

    def close(self) -> None:
        """Close the connection once all octets are written, which ``write_timeout`` limits."""
        if self._transport is not None:
            self._transport.close()
            armed = self._write_timeout is not None and self._write_timeout.armed
            if not self._lost and not armed and self._unwritten():
                self._time_writing()

    def give_up(self) -> None:
        """Close the connection at once, and stop waiting for the callback."""
        self._given_up = True
        if self._task is not None and self._task.task is not None:
            _unregister_task(self._task.task)  # or asyncio.run() would wait for it
        if self._lost:
            self.notify_end()
        else:
            self._abort()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # ---------------------------------------------------------------------------------------------------- the driver

    def _begin_run(self) -> None:
        self._run = drive(self.session)
        next(self._run)

    def done(self) -> None:
        """End a batch."""
        self._running = False
        self.session.caught_up()
        self.flush()
        if self.session.over:
            self._run = None
            if self._lost:
                self._finished()
        else:
            if self._kept:
                self.kept()
            if not self._reading and self._writable is None:
                self._resume_reading()

    def failed(self, error: BaseException) -> None:
        """End the connection after an exception that is not a callback's failure."""
        what = (
            "aiomilter has a bug here" if isinstance(error, Exception) else f"{type(error).__name__} ends the callback"
        )
        self.observer.tell(InternalError(self.session.where(), f"{what}; closing the connection", error))
        self.session.over = True
        self.session.stop_clock()
        self._running = False
        self._run = None
        self._abort()
        if self._lost:
            self._finished()

    def _finished(self) -> None:
        """Finish: the transport and the last callback have ended, in either order."""
        own, self._task = self._task, None
        if own is not None:
            own.end()
        self.notify_end()

    def on_end(self) -> None:
        """Give back the memory."""
        if self._kept:
            self.memory.change(-self._kept)
            self._kept = 0
        self.memory.let_go(self)

    def suspended(self) -> None:
        """Write the answers before a suspension, and limit the octets that wait behind it."""
        self.flush()
        if self._running:
            self.session.suspend()
            self._limit_waiting()

    def _limit_waiting(self) -> None:
        self.kept()
        if self.session.wire.waiting > self.options.max_waiting_size:
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
            seconds = self.options.write_timeout
            self._write_timeout = WriteTimeout(self.loop, seconds, self._unwritten, self._write_timed_out)
        self._write_timeout.start()

    def _write_timed_out(self) -> None:
        what = f"the MTA read nothing for {self.options.write_timeout:g} s; closing"
        report_peer_error(self.session, PeerErrorKind.WRITE_TIMEOUT, what)
        self._abort()
