"""Threads: each classic connection has its own, which reads, calls the callbacks and writes, without the event loop.

The loop accepts connections and runs callbacks that are ``async def``.  The thread owns the socket outright, as libmilter's
does: a batch of packets costs two system calls, and no hand-over between threads.
"""

import asyncio
import contextlib
import contextvars
import os
import select
import socket
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from typing import Any, ClassVar, Final, cast

from aiomilter._connection.acknowledging import acknowledge, can_acknowledge
from aiomilter._connection.answering import Answering
from aiomilter._connection.driver import MORE, drive
from aiomilter._connection.reports import report_peer_error
from aiomilter._connection.served import ServedConnection
from aiomilter._connection.session import Session
from aiomilter._connection.transport import MilterProtocol
from aiomilter._serving.timers import EARLY, LONGEST_DELAY
from aiomilter._serving.transports import Transports
from aiomilter.compat.answering import ClassicAnswering
from aiomilter.compat.sending import send_now
from aiomilter.compat.uncaught import end_child
from aiomilter.handler import STAGE_OF
from aiomilter.observe import InternalError, PeerErrorKind, ResourceExhausted

__all__ = [
    "WRITE_TIMEOUT",
    "EndingThreads",
    "LoopConnection",
    "ThreadConnection",
    "counted",
    "stop_here",
]

WRITE_TIMEOUT: Final = 60.0
"""Seconds for which an MTA may read nothing; libmilter's timeout if that is shorter."""
_READ_SIZE: Final = 65_536
"""Octets.  For larger reads Python maps memory each time, and unmaps it: 40 % more time in the kernel."""
_GLANCE: Final = 0.001
"""Seconds between looks at threads that are about to end."""
_HERE: Final[contextvars.ContextVar["ThreadConnection | LoopConnection"]] = contextvars.ContextVar("connection")
"""The connection whose callback this is."""


class _Counted:
    """How many connections this process has begun, and how many of them have ended."""

    made = 0
    ended = 0


def counted() -> tuple[int, int]:
    """Return how many connections have begun, and how many of them have ended."""
    return _Counted.made, _Counted.ended


def stop_here() -> None:
    """Close the connection whose callback calls this, without an answer; do nothing elsewhere."""
    connection = _HERE.get(None)
    if connection is not None:
        connection.hush()


def _forked() -> None:
    """Leave the connection to the parent, in a process that a callback has forked."""
    connection = _HERE.get(None)
    if connection is not None:
        connection.hush()
        cast(ClassicAnswering, connection.session.answering).forked = True


os.register_at_fork(after_in_child=_forked)


class LoopConnection(MilterProtocol):
    """Serves a filter all of whose callbacks are ``async def``: on the event loop, without a thread."""

    __slots__ = ("_loop_thread", "_octets_at", "_packet_timer", "_read_timeout")
    answering: ClassVar[Callable[[Session], Answering]] = ClassicAnswering

    def __init__(self, *args: Any, read_timeout: float | None = None) -> None:
        super().__init__(*args)
        self._read_timeout = read_timeout
        self._packet_timer: asyncio.TimerHandle | None = None
        # When octets last came and left a packet unfinished.
        self._octets_at = 0.0
        self._loop_thread = threading.get_ident()
        self.context.run(_HERE.set, self)
        _Counted.made += 1

    async def settle(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a callback that is a coroutine."""
        return await coroutine

    def flush(self) -> None:
        """Write the answers that wait, in one write; if another thread asks for it, soon."""
        if threading.get_ident() != self._loop_thread:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the connection
                self.loop.call_soon_threadsafe(self.flush)
        elif self.out:
            octets = _taken(self.out)
            if not self._mute:
                self._transport.write(octets)  # type: ignore[union-attr]  # not mute: there is one

    def hush(self) -> None:
        """End the connection without an answer."""
        self.session.over = True
        self.out.clear()
        self._mute = True

    def kept(self) -> None:
        """Also limit the time until the rest of an unfinished packet comes."""
        super().kept()
        if self._read_timeout is not None and self.session.wire.buffer.unfinished and not self.ended:
            self._octets_at = self.loop.time()
            if self._packet_timer is None:
                self._watch_packet(self._read_timeout, self._read_timeout)

    def _watch_packet(self, wait: float, read_timeout: float) -> None:
        self._packet_timer = self.loop.call_later(min(wait, LONGEST_DELAY), self._look_at_packet, read_timeout)

    def _look_at_packet(self, read_timeout: float) -> None:
        """Close the connection if no octet of a packet that has begun has come for too long."""
        self._packet_timer = None
        if self.waiting or not self.session.wire.buffer.unfinished:
            return  # kept() is called when there is something to wait for again
        wait = self._octets_at + read_timeout - self.loop.time()
        if self._writable is not None:
            wait = max(read_timeout, WRITE_TIMEOUT)
        if wait > EARLY:
            self._watch_packet(wait, read_timeout)
        else:
            report_peer_error(self.session, PeerErrorKind.UNFINISHED, _unfinished(read_timeout))
            self.stop()

    def on_end(self) -> None:
        """Also stop the timer."""
        super().on_end()
        if self._packet_timer is not None:
            self._packet_timer.cancel()
        _Counted.ended += 1


def _taken(out: list[bytes]) -> bytes:
    """Remove and return the octets to be written, while other threads may add to them."""
    if len(out) == 1:
        return out.pop(0)
    count = len(out)
    octets = b"".join(out[:count])
    del out[:count]
    return octets


class EndingThreads:
    """The threads of a server's connections that have ended, but may still run.

    They free the values of ``threading.local`` at the end, which may take a while, or need the event loop.
    """

    def __init__(self) -> None:
        self._threads: set[threading.Thread] = set()

    def add(self, thread: threading.Thread) -> None:
        """Add a thread, and remove those that have ended."""
        self._threads = {thread, *filter(threading.Thread.is_alive, self._threads)}

    async def ended(self, timeout: float) -> None:
        """Wait until none is left, at most for a time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while any(map(threading.Thread.is_alive, self._threads)):  # noqa: ASYNC110 - no event says that a thread has ended
                    await asyncio.sleep(_GLANCE)


class ThreadConnection(ServedConnection):
    """Serves a filter whose callbacks may block: in a thread that begins with the connection and ends with it.

    Source: observed of pymilter 1.0.5 on libmilter 8.17.1.9: a connection has one thread of its own for all callbacks.
    """

    answering: ClassVar[Callable[[Session], Answering]] = ClassicAnswering

    def __init__(
        self,
        *args: Any,
        leaving: EndingThreads,
        slots: threading.Semaphore | None = None,
        read_timeout: float | None = None,
    ) -> None:
        super().__init__(*args)
        _Counted.made += 1
        self._read_timeout = read_timeout
        self._leaving = leaving
        self._slots = slots
        self._socket: socket.socket
        self._thread: threading.Thread
        # Its identifier, once it runs.
        self._thread_ident = 0
        # Held while octets are taken and written, so that packets keep their order, and none is torn.
        self._writing = threading.Lock()
        # Nothing more may be written: the MTA has left, or must get no answer.
        self._hushed = False
        self._working = False
        self._quick_ack = False
        self._stop_timer: asyncio.TimerHandle | None = None
        # The callback that runs on the loop, while the thread waits for it.
        self._settling: asyncio.Task[Any] | None = None

    # ------------------------------------------------------------------------------------------------- on the loop

    @property
    def waiting(self) -> bool:
        """Whether a callback runs."""
        return self._working

    @property
    def keeps_much(self) -> bool:
        """False: a thread reads only the octets that it handles next."""
        return False

    def serve(self, sock: socket.socket, transports: Transports) -> None:
        """Take over the socket, and start the thread."""
        self._socket = sock
        sock.setblocking(True)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._quick_ack = can_acknowledge(sock)
        self._thread = threading.Thread(target=self._serve, name=f"milter-connection-{self.number}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as failure:  # the system allows no more
            what = f"closing a new connection: {failure}"
            self.observer.tell(ResourceExhausted(self.where(), "threads", what))
            sock.close()
            self.notify_end()

    def stop(self) -> None:
        """End the connection soon: an ``async def`` callback is cancelled; one that blocks has ``cancel_timeout``."""
        self.session.over = True
        # Behind a callback that the thread has already asked the loop for.
        self.loop.call_soon(self._cancel_settling)
        if self._stop_timer is None:
            # The answer of the callback can still be written.
            self._shut(socket.SHUT_RD)
            self._stop_timer = self.loop.call_later(self.options.cancel_timeout, self.give_up)

    def _cancel_settling(self) -> None:
        if self._settling is not None:
            self._settling.cancel()

    def give_up(self) -> None:
        """Stop waiting for a callback that does not end."""
        self._shut(socket.SHUT_RDWR)
        self.notify_end()

    def begin_drain(self) -> None:
        """End the connection at its next QUIT or QUIT_NC, or now if no SMTP connection is open on it."""
        self.session.draining = True
        if not self._working and self.session.idle:
            self.stop()

    def kept(self) -> None:
        """Do nothing: a thread reads only the octets that it handles next."""

    def cancel(self) -> None:
        """Do nothing: for the session no callback of a thread suspends."""

    def uncancel(self) -> None:
        """Do nothing, as :meth:`cancel`."""

    def _shut(self, how: int) -> None:
        """Wake the thread up if it reads or writes."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(how)

    def _has_left(self) -> None:
        self._leaving.add(self._thread)
        self.notify_end()

    def on_end(self) -> None:
        """Stop the timer."""
        if self._stop_timer is not None:
            self._stop_timer.cancel()
        _Counted.ended += 1

    # ----------------------------------------------------------------------------------------------- in the thread

    def _serve(self) -> None:
        self._thread_ident = threading.get_ident()
        _HERE.set(self)
        run: Generator[Any, Any, None] = drive(self.session)
        slots, out = self._slots, self.out
        try:
            next(run)
            while True:
                data = b"" if self._hushed else self._read()
                self.idle = 0
                if not data:
                    self.session.over = True
                self._working = True
                if slots is None:  # rather than a "with" that does nothing, for each batch
                    found = run.send(data)
                else:
                    with slots:
                        found = run.send(data)
                assert found is MORE, "a callback of a thread has suspended"
                self._working = False
                if out:
                    self.flush()
                elif self._quick_ack:
                    acknowledge(self._socket)
        except StopIteration:
            pass
        except Exception as failure:  # noqa: BLE001 - a bug of ours must end this connection only
            what = "aiomilter has a bug here; closing the connection"
            self.observer.tell(InternalError(self.where(), what, failure))
        finally:
            self._socket.close()
            with contextlib.suppress(RuntimeError):  # the loop may be gone, if a callback has outlived its time
                self.loop.call_soon_threadsafe(self._has_left)

    def _read(self) -> bytes:
        """Return the octets that come; none at the end, or if a packet that has begun gets no octet for too long."""
        try:
            if self._read_timeout is not None and self.session.wire.buffer.unfinished:
                poll = select.poll()
                poll.register(self._socket, select.POLLIN)
                if not poll.poll(min(self._read_timeout, LONGEST_DELAY) * 1000):
                    report_peer_error(self.session, PeerErrorKind.UNFINISHED, _unfinished(self._read_timeout))
                    return b""
            return self._socket.recv(_READ_SIZE)
        except OSError:
            return b""

    def flush(self) -> None:
        """Write the answers that wait, in one write.

        Another thread, of the program or of the loop, may report progress.  It does not wait; octets that it cannot write
        leave with the next answer.
        """
        out = self.out
        if self._hushed:
            out.clear()
            return
        own = threading.get_ident() == self._thread_ident
        if out and self._writing.acquire(blocking=own):
            try:
                octets = _taken(out)
                sent = send_now(self._socket, octets) if own else 0
                if sent < len(octets):
                    self._write_rest(memoryview(octets)[sent:])
            except OSError:
                self._hushed = self.session.over = True
            finally:
                self._writing.release()

    def _write_rest(self, rest: memoryview) -> None:
        """Write what the system did not take at once."""
        while rest:
            try:
                rest = rest[self._socket.send(rest, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                if threading.get_ident() != self._thread_ident:
                    self.out.insert(0, bytes(rest))
                    return
                poll = select.poll()
                poll.register(self._socket, select.POLLOUT)
                if not poll.poll(self.options.write_timeout * 1000):
                    what = f"the MTA read nothing for {self.options.write_timeout:g} s; closing"
                    report_peer_error(self.session, PeerErrorKind.WRITE_TIMEOUT, what)
                    raise

    async def turn(self) -> None:
        """Write the answers that wait; other connections have threads of their own."""
        self.flush()

    async def drain(self) -> None:
        """Do nothing: :meth:`flush` has waited until the MTA has read enough."""

    def close(self) -> None:
        """Do nothing: the thread closes when it ends."""

    def hush(self) -> None:
        """End the connection without an answer."""
        self._hushed = self.session.over = True

    async def settle(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a callback that is a coroutine on the event loop; this thread waits, and another one may use its slot.

        The callback gets the context variables of the thread, and the thread those that the callback has set.
        """
        context = contextvars.copy_context()
        done: Future[Any] = Future()
        self.loop.call_soon_threadsafe(self._begin_settling, coroutine, context, done)
        if self._slots is not None:
            self._slots.release()
        try:
            return done.result()
        finally:
            if self._slots is not None:
                self._slots.acquire()
            for variable, value in context.items():
                if variable.get(None) is not value:
                    variable.set(value)

    def _begin_settling(
        self, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context, done: "Future[Any]"
    ) -> None:
        """Begin a callback as a task of the loop."""
        task = self._settling = self.loop.create_task(self._caught(coroutine), context=context)
        seconds, late = self.options.callback_timeout, False
        if self.options.callback_timeouts:
            stage = STAGE_OF.get(self.session.callback)
            seconds = seconds if stage is None else self.options.callback_timeouts.get(stage, seconds)

        def expire() -> None:
            nonlocal late
            late = task.cancel()

        def ended(task: "asyncio.Task[Any]") -> None:
            self._settling = None
            timer.cancel()
            coroutine.close()  # if it was cancelled at once, it has not begun
            if task.cancelled() and late:
                what = f"the callback did not end within {seconds:g} s (callback_timeout)"
                done.set_exception(TimeoutError(what))
            elif task.cancelled():
                done.set_exception(asyncio.CancelledError())
            elif (failure := task.exception() or task.result()[1]) is not None:
                done.set_exception(failure)
            else:
                done.set_result(task.result()[0])

        timer = self.loop.call_later(seconds, expire)
        task.add_done_callback(ended)

    async def _caught(self, coroutine: Coroutine[Any, Any, Any]) -> tuple[Any, BaseException | None]:
        """Return a callback's answer, or an exception that would end the event loop if a task raised it."""
        session = cast(ClassicAnswering, self.session.answering)
        answer: Any = None
        ending: BaseException | None = None
        try:
            answer = await coroutine
        except BaseException as failure:
            ending = failure
            if not session.forked and not isinstance(failure, SystemExit | KeyboardInterrupt):
                raise
        if session.forked:
            end_child(ending)
        return answer, ending


def _unfinished(seconds: float) -> str:
    return f"no octet of a packet that has begun came for {seconds:g} s; closing"
