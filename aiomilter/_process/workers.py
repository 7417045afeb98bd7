"""Several processes that serve one filter: forked, watched over, replaced when they die, and led through reloads and the end.

One process, the supervisor, binds the sockets and serves nobody.  It has no event loop and no threads, so that it may fork at
any time.  A worker hears what to do through a channel of one octet an order, and says the same way how it does; signals that
the whole process group gets, from a terminal or a service manager, are for the supervisor alone.

A reload is a new set of workers: their code is fresh, and nobody is served by them before all of them are ready.
"""

import asyncio
import contextlib
import errno
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, TypeAlias

from aiomilter._process import lifecycle
from aiomilter._process.lifecycle import Control, Service
from aiomilter._process.systemd import Systemd
from aiomilter._serving.binding import Bound
from aiomilter._serving.sharing import PLACES, AcceptBalancer, absent, present, shared_counts
from aiomilter.observe import SERVER, Lifecycle, LifecycleKind
from aiomilter.observe.guard import Guard

__all__ = ["Backoff", "Make", "Report", "Supervisor"]

Make: TypeAlias = Callable[[AcceptBalancer, bool], Service]
"""Makes, in a worker, what serves there; told whether others have served before it."""
Report: TypeAlias = Callable[[BaseException, str], int]
"""Tells the user, in a worker, what it could not do and why, and returns its exit status: "reload", "start a worker"; "" if
the whole cannot start, or this worker did not end well."""
LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop] | None

# What a worker is told.
_BEGIN: Final = b"b"
_LET_GO: Final = b"l"
_STOP: Final = b"s"
# What it says.
_READY: Final = b"r"
_ALIVE: Final = b"."
_DEAF: Final = b"d"
"""It accepts no more."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_HURRY_TIMEOUT: Final = 10.0
"""Seconds for a worker to end once its time is over, or it was told to hurry, at least; then it is killed."""
_UNREADY_TIMEOUT: Final = 1.0
"""Seconds for one to end that is not ready: it serves nobody, and one that loads a filter may hear nothing."""


class Backoff:
    """How long to wait before another worker is started in the place of one that has died.

    Not at all, unless it was one of several that died young: then longer each time, up to half a minute.
    """

    YOUNG: Final = 10.0
    """Seconds of life."""
    FIRST: Final = 0.5
    MOST: Final = 30.0

    def __init__(self) -> None:
        self._deaths = 0

    def died(self, age: float) -> float:
        """Return seconds to wait after a worker has died at an age."""
        self._deaths = self._deaths + 1 if age < self.YOUNG else 1
        return min(self.FIRST * 2 ** min(self._deaths - 2, 16), self.MOST) if self._deaths > 1 else 0.0


class _Worker:
    """What the supervisor knows of a worker."""

    def __init__(self, pid: int, channel: socket.socket, place: int) -> None:
        self.pid = pid
        self.channel = channel
        self.place = place
        self.born = time.monotonic()
        self.ready = False
        self.seen: float | None = None
        """When it last gave a sign of life; None before the first."""
        self.kill_at: float | None = None
        self.dismissed = False
        """Nobody waits for it, and how it ends is of no interest."""
        self.status: int | None = None
        """How it ended: its exit status, or the number of a signal, negative."""

    def tell(self, order: bytes) -> None:
        """Give an order; one that is gone needs none."""
        with contextlib.suppress(OSError):
            self.channel.send(order)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; it is ours until it has been waited for, so the number is nobody else's."""
        if self.status is None:
            os.kill(self.pid, number)

    def has_ended(self, *, wait: bool = False) -> bool:
        """Return whether it has ended; wait for its end if asked to."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, 0 if wait else os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def dismiss(self) -> None:
        """End one that does not serve."""
        self.dismissed = True
        self.kill()

    def end_by(self, when: float) -> None:
        """Have it killed at a moment, unless it is to be before."""
        self.kill_at = when if self.kill_at is None else min(when, self.kill_at)

    def call_off(self) -> None:
        """End one that is not ready: it may leave what it has entered, if it hears that in time."""
        self.dismissed = True
        self.tell(_STOP)
        self.end_by(time.monotonic() + _UNREADY_TIMEOUT)


class Supervisor:
    """Starts workers and sees to it that they are there.

    Args:
        make: See :data:`Make`.
        workers: How many.
        bound: The sockets.
        backlog: Connections the system may keep waiting.
        drain_timeout: Seconds that a worker has for open sessions at the end.
        cancel_timeout: Seconds that a callback has there to end.
        loop_factory: Makes the event loop of a worker; None for asyncio's.
        systemd: Is told how the whole does.
        observer: Hears what happens, in this process.
        name: Of the server.
        report: See :data:`Report`.
    """

    def __init__(
        self,
        make: Make,
        workers: int,
        bound: Sequence[Bound],
        *,
        backlog: int,
        drain_timeout: float,
        cancel_timeout: float,
        loop_factory: LoopFactory,
        systemd: Systemd,
        observer: Guard,
        name: str = "",
        report: Report,
    ) -> None:
        self._make = make
        self._count = workers
        self._bound = bound
        self._backlog = backlog
        self._drain_timeout = drain_timeout
        self._hurry_timeout = max(_HURRY_TIMEOUT, 2 * cancel_timeout)
        self._loop_factory = loop_factory
        self._systemd = systemd
        self._observer = observer
        self._where = replace(SERVER, server=name)
        self._report = report
        self._counts = shared_counts()
        self._backoff = Backoff()
        self._selector = selectors.DefaultSelector()
        # Those that serve, those that are to, and those that let their last connections end.
        self._serving: list[_Worker] = []
        self._coming: list[_Worker] | None = None
        self._leaving: list[_Worker] = []
        self._started = False
        # A worker may have ended that was not seen to.
        self._child_ended = False
        self._stopping = 0
        # Of those that leave, who may still accept; and whether it was told that the others serve.
        self._accepting: list[_Worker] = []
        self._told = False
        self._reload_again = False
        self._status = 0
        self._replace_at: list[float] = []
        self._alive_at: float | None = None

    # ------------------------------------------------------------------------------------------------------ supervising

    def run(self) -> int:
        """Serve until a signal to stop, and return the exit status: 0, or that of the worker that could not start or end."""
        with _caught_signals() as caught:
            self._selector.register(caught, selectors.EVENT_READ)
            try:
                self._begin_set()
                while self._all() or self._replace_at:
                    self._wait(caught)
            finally:
                for worker in self._all():  # none, unless something has gone wrong here
                    worker.dismiss()
                    worker.has_ended(wait=True)
                self._close_sockets()
                self._selector.close()
        return self._status

    def _wait(self, caught: socket.socket) -> None:
        """Wait for something to happen, and see to it.

        Signals are read last and obeyed first: a signal to the whole process group has reached this process before a
        worker can say, or show by its end, what the signal did to it.
        """
        now = time.monotonic()
        timers = [*self._replace_at, *self._deadlines()]
        timeout = max(0.0, min(timers) - now) if timers else None
        keys = [key for key, _ in self._selector.select(0.0 if self._child_ended else timeout)]
        heard = [(key.data, self._read(key.data)) for key in keys if key.fileobj is not caught]
        dead = [worker for worker in self._all() if worker.has_ended()]
        self._child_ended = False
        with contextlib.suppress(BlockingIOError):
            for number in caught.recv(4096):
                # Of a worker that had not ended a moment ago; its channel, which ends first, is forgotten by now.
                self._child_ended = self._child_ended or number == signal.SIGCHLD
                self._signalled(number)
        for worker, said in heard:
            self._hear(worker, said)
        for worker in dead:
            self._hear(worker, self._read(worker))  # its last words
            self._buried(worker)
        self._keep_time(time.monotonic())

    def _all(self) -> list[_Worker]:
        return [*self._serving, *(self._coming or ()), *self._leaving]

    def _deadlines(self) -> Iterator[float]:
        if self._alive_at is not None:
            yield self._alive_at
        for worker in self._all():
            if worker.kill_at is not None:
                yield worker.kill_at
            if self._systemd.watchdog is not None and worker.seen is not None:
                yield worker.seen + self._systemd.watchdog

    def _keep_time(self, now: float) -> None:
        due = [when for when in self._replace_at if when <= now]
        self._replace_at = [when for when in self._replace_at if when > now]
        for _ in due:
            try:
                self._serving.append(self._fork("start a worker"))
            except OSError as error:
                delay = self._backoff.died(0.0) or Backoff.FIRST
                self._tell(LifecycleKind.WORKER_FAILED, f"cannot start a worker: {error}; trying again in {delay:g} s")
                self._replace_at.append(now + delay)
        watchdog = self._systemd.watchdog
        if self._alive_at is not None and self._alive_at <= now and watchdog is not None:
            self._systemd.alive()
            self._alive_at = now + watchdog / 2
        for worker in self._all():
            stuck = watchdog is not None and worker.seen is not None and worker.seen + watchdog <= now
            if stuck or (worker.kill_at is not None and worker.kill_at <= now):
                why = f"gave no sign of life for {watchdog:g} s" if stuck else "did not end in time"
                if stuck or not worker.dismissed:
                    self._tell(LifecycleKind.WORKER_FAILED, f"worker {worker.pid} {why}; killing it", worker.pid)
                worker.seen = worker.kill_at = None
                # With a core or Python's own report (faulthandler) of where it was stuck, if these are on.
                worker.kill(signal.SIGABRT if stuck else signal.SIGKILL)
                worker.kill_at = now + self._hurry_timeout if stuck else None

    # ---------------------------------------------------------------------------------------------------------- signals

    def _signalled(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop()
        elif number == signal.SIGHUP and not self._stopping:
            if self._told or (self._started and self._coming):
                self._reload()
            else:
                self._reload_again = True

    def _reload(self) -> None:
        """Begin with a new set; one that is not ready yet may have read what was there before, and is given up."""
        for worker in self._coming or ():
            worker.call_off()
            self._leaving.append(worker)
        if self._coming:
            self._tell(LifecycleKind.RELOAD_CANCELLED, "a reload that was under way is given up: another was asked for")
        self._tell(LifecycleKind.RELOADING, "reloading")
        self._told = False
        self._systemd.reloading()
        self._begin_set()

    def _stop(self) -> None:
        """Have all stop within the time that open sessions have; the second time, hurry; the third, kill them."""
        by = time.monotonic() + self._hurry_timeout
        self._stopping += 1
        if self._stopping > 2:
            self._status = 1
            for worker in self._all():
                worker.dismiss()
            return
        if self._stopping == 1:
            by += self._drain_timeout
            self._systemd.stopping()
            self._close_sockets()
        self._replace_at.clear()
        self._leaving = self._all()
        self._serving, self._coming = [], None
        self._told = True
        for worker in self._leaving:
            if worker.ready:
                worker.tell(_STOP)
                worker.end_by(by)
            else:
                worker.call_off()

    def _close_sockets(self) -> None:
        for bound in self._bound:
            bound.close()
        self._bound = ()

    # ---------------------------------------------------------------------------------------------------------- workers

    def _begin_set(self) -> None:
        """Begin with a worker that is to serve with others; if it cannot be made, one attempt has shown it."""
        self._coming = []
        self._add_to(self._coming)

    def _add_to(self, coming: list[_Worker]) -> bool:
        """Fork a worker of a set, and return whether that could be done; at the start it has to be."""
        try:
            coming.append(self._fork("reload" if self._started else ""))
        except OSError as error:
            if not self._started:
                raise
            self._tell(LifecycleKind.RELOAD_FAILED, f"cannot reload: {error}; nothing has changed")
            self._give_up_set()
            return False
        return True

    def _read(self, worker: _Worker) -> bytes:
        """Return what a worker has said since."""
        try:
            said = worker.channel.recv(4096)
        except OSError:
            said = b""
        if not said:
            self._forget_channel(worker)  # it ends; SIGCHLD tells when
        return said

    def _hear(self, worker: _Worker, said: bytes) -> None:
        """Take note of what a worker says."""
        if not said:
            return
        worker.seen = time.monotonic()
        if _DEAF in said and worker in self._accepting:
            self._accepting.remove(worker)
            self._serve_if_alone()
        elif _DEAF in said and worker.ready and worker in self._serving:
            # Nobody has told it to, but its sessions may last: another is to accept meanwhile.
            what = f"worker {worker.pid} accepts no more; {self._replace(worker)}"
            self._tell(LifecycleKind.WORKER_ENDED, what, worker.pid)
            self._leaving.append(worker)
        if _READY in said:
            worker.ready = True
            if worker in self._serving:
                present(self._counts, worker.place)
                worker.tell(_BEGIN)
                self._tell(LifecycleKind.WORKER_STARTED, f"worker {worker.pid} serves", worker.pid)
            elif self._coming is not None and worker in self._coming:
                self._advance(self._coming)

    def _advance(self, coming: list[_Worker]) -> None:
        """Start the rest of a set once the first is ready, and have it serve once all are."""
        while len(coming) < self._count:
            if not self._add_to(coming):
                return
        if not all(worker.ready for worker in coming):
            return
        for bound in self._bound:
            bound.listen(self._backlog)
        for worker in coming:
            present(self._counts, worker.place)  # or the first to hear it would take all that wait
        for worker in coming:
            worker.tell(_BEGIN)
        for worker in self._serving:
            if worker.ready:
                worker.tell(_LET_GO)
            else:
                worker.call_off()
        self._accepting = [worker for worker in self._serving if worker.ready]
        self._leaving += self._serving
        self._serving, self._coming = coming, None
        self._replace_at.clear()
        self._serve_if_alone()

    def _serve_if_alone(self) -> None:
        """Tell that the set serves, once those before it accept no more."""
        if self._told or self._accepting:
            return
        self._told = True
        kind = LifecycleKind.RELOADED if self._started else LifecycleKind.WORKER_STARTED
        how = "reloaded: " if self._started else ""
        self._tell(kind, f"{how}workers {_pids(self._serving)} serve new connections")
        self._started = True
        self._systemd.ready(self._serving_status())
        if self._systemd.watchdog is not None and self._alive_at is None:
            self._alive_at = time.monotonic()
        self._continue()

    def _continue(self) -> None:
        """Reload once more if that was asked for meanwhile: the set may have been made before."""
        if self._reload_again:
            self._reload_again = False
            self._signalled(signal.SIGHUP)

    def _serving_status(self) -> str:
        return f"Serving with {self._count} workers"

    def _buried(self, worker: _Worker) -> None:
        """Forget a worker that has ended, and replace it if it served."""
        assert worker.status is not None
        status = worker.status
        self._forget_channel(worker)
        worker.channel.close()
        absent(self._counts, worker.place)
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        if worker in self._accepting:
            self._accepting.remove(worker)
            self._serve_if_alone()
        if worker in self._leaving:
            self._leaving.remove(worker)
            if status and not worker.dismissed:
                self._tell(LifecycleKind.WORKER_FAILED, f"worker {worker.pid} {how}", worker.pid)
                self._status = 1 if self._stopping else self._status
        elif worker in self._serving:
            what = f"worker {worker.pid} {how}; {self._replace(worker)}"
            # One that was not ready yet was told to end.
            ended = not (status or worker.ready)
            self._tell(LifecycleKind.WORKER_ENDED if ended else LifecycleKind.WORKER_FAILED, what, worker.pid)
        else:
            self._set_failed(worker, status, how)

    def _tell(self, kind: LifecycleKind, what: str, pid: int | None = None) -> None:
        self._observer.tell(Lifecycle(self._where, kind, what, pid=pid))

    def _replace(self, worker: _Worker) -> str:
        """Have another serve in the place of one, and return what to say about that."""
        self._serving.remove(worker)
        delay = self._backoff.died(time.monotonic() - worker.born)
        self._replace_at.append(time.monotonic() + delay)
        return f"another takes its place{f' in {delay:g} s' if delay else ''}"

    def _forget_channel(self, worker: _Worker) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.channel)

    def _set_failed(self, worker: _Worker, status: int, how: str) -> None:
        """Give up a set of which one could not start; it has said why, unless it was killed."""
        if self._coming is not None:
            self._coming.remove(worker)
        if not self._started:
            self._status = status if status > 0 else 1
            if status <= 0:
                what = f"worker {worker.pid} {how} before it was ready"
                self._tell(LifecycleKind.WORKER_FAILED, what, worker.pid)
        elif status <= 0:
            what = f"cannot reload: worker {worker.pid} {how}; nothing has changed"
            self._tell(LifecycleKind.RELOAD_FAILED, what, worker.pid)
        self._give_up_set()

    def _give_up_set(self) -> None:
        for other in self._coming or ():
            other.dismiss()
            self._leaving.append(other)
        self._coming = None
        self._told = self._started
        if self._started:
            self._systemd.ready(f"{self._serving_status()}; the last reload failed, see the log")
            self._continue()

    # ------------------------------------------------------------------------------------------------------------- fork

    def _fork(self, purpose: str) -> _Worker:
        """Start a worker.

        Args:
            purpose: What cannot be done if it cannot start, for the log; "" at the start of the whole, which then fails.
        """
        taken = {worker.place for worker in self._all()}
        place = next((place for place in range(PLACES) if place not in taken), None)
        if place is None:
            raise OSError(errno.EAGAIN, f"{PLACES} workers are there, most of them to let their last connections end")
        ours, its = socket.socketpair()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            _flush()
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    ours.close()
                    status = self._work(its, place, purpose)
                    _flush()
                    with contextlib.suppress(OSError, ValueError, AttributeError):
                        sys.stderr.close()  # the one that does not wait for its reader waits now, for a while
                finally:
                    os._exit(status)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        its.close()
        ours.setblocking(False)
        worker = _Worker(pid, ours, place)
        self._selector.register(ours, selectors.EVENT_READ, worker)
        return worker

    # ------------------------------------------------------------------------------------------- from here in the worker

    def _work(self, channel: socket.socket, place: int, purpose: str) -> int:
        """Serve in a process of its own, and return its exit status."""
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            # A terminal tells the whole process group; the supervisor knows what to make of it.
            signal.signal(number, signal.SIG_IGN if number in (signal.SIGINT, signal.SIGHUP) else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        self._selector.close()
        for worker in self._all():
            worker.channel.close()
        link = _Link(channel, self._systemd.watchdog)
        try:
            share = AcceptBalancer(self._bound, self._counts, place)
            service = self._make(share, self._started)
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                runner.run(self._serve(service, share, link))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is told, and the process ends
            return self._report(error, "" if link.was_ready else purpose) or 1
        return 0

    async def _serve(self, service: Service, share: AcceptBalancer, link: "_Link") -> None:
        control = Control()
        loop = asyncio.get_running_loop()

        def let_go(*_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, the process about to exit
                loop.call_soon_threadsafe(control.request_drain)

        # For whoever wants this one replaced; told twice, by a service manager that tells all of us, it does not hurry.
        # Not a handler of the loop: closing the loop removes those, and SIGTERM would kill a process about to exit.
        signal.signal(signal.SIGTERM, let_go)
        link.follow(loop, control, share)
        await lifecycle.run(service, control, own_process=True, reload=None, manager=link)


class _Link:
    """The worker's end of the channel.

    Args:
        channel: To the supervisor.
        watchdog: Seconds within which it wants a sign of life.
    """

    def __init__(self, channel: socket.socket, watchdog: float | None) -> None:
        # Twice as often as systemd would want it: the supervisor's own turn comes on top.
        self.watchdog = watchdog / 2 if watchdog is not None else None
        self.was_ready = False
        self._channel = channel
        channel.setblocking(False)

    def follow(self, loop: asyncio.AbstractEventLoop, control: Control, share: AcceptBalancer) -> None:
        """Hear what to do; if nobody is left to say it, stop."""

        def hear() -> None:
            try:
                told = self._channel.recv(64)
            except BlockingIOError:
                return
            except OSError:
                told = b""
            if not told:
                loop.remove_reader(self._channel.fileno())
                if not control.stop.is_set():
                    control.request_stop()
            for order in told:
                if order in _BEGIN:
                    share.begin()
                elif order in _LET_GO:
                    control.request_drain()
                else:
                    control.request_stop()

        share.when_ended(lambda: self._say(_DEAF))
        loop.add_reader(self._channel.fileno(), hear)

    def _say(self, what: bytes) -> None:
        with contextlib.suppress(OSError):
            self._channel.send(what)

    def ready(self, status: str) -> None:
        """Say that it could serve."""
        self.was_ready = True
        self._say(_READY)

    def alive(self) -> None:
        """Give a sign of life."""
        self._say(_ALIVE)

    def reloading(self) -> None:
        """Nothing: a worker is replaced, not reloaded."""

    def stopping(self) -> None:
        """Nothing: the supervisor knows."""


@contextmanager
def _caught_signals() -> Iterator[socket.socket]:
    """Yield a socket that gets the number of each signal, an octet each."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(fd)
            for number, handler in before.items():
                signal.signal(number, handler)


def _flush() -> None:
    """Write what Python has kept back: a fork would write it twice, and the end of a worker not at all."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none
            stream.flush()


def _pids(workers: Iterable[_Worker]) -> str:
    return ", ".join(str(worker.pid) for worker in workers)
