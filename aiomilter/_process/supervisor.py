"""The supervisor: forks the workers, watches them, replaces those that die, and leads them through reloads and the end.

It binds the sockets and serves no mail itself.  It has no event loop and no threads, so that it may fork at any time.
``channel`` has the words that it and its workers exchange; ``forking`` starts one.  Signals that the whole process group
gets, from a terminal or a service manager, are for the supervisor alone.

A reload is a new set of workers, which load the code as it is then.  They accept connections once all of them are ready.
"""

import contextlib
import errno
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from aiomilter._process.backoff import Backoff
from aiomilter._process.channel import News, Order, WorkerChannel
from aiomilter._process.forking import Worker, fork_worker
from aiomilter._process.relay import Relay, StatusProgram
from aiomilter._process.systemd import Systemd
from aiomilter._process.worker import SIGNALS, WorkerProgram
from aiomilter._serving.binding import Bound
from aiomilter._serving.sharing import PLACES, AcceptBalancer, absent, present, shared_counts
from aiomilter.observe import SERVER, Lifecycle, LifecycleKind
from aiomilter.observe.guard import Guard

__all__ = ["Rereading", "Supervisor"]

_HURRY_TIMEOUT: Final = 10.0
"""Least seconds for a worker to end after its time is over, or after the order to hurry; then it is killed."""


class Rereading:
    """What is read in the supervisor's own process at a reload, before workers are started: here nothing."""

    def begin(self) -> str | None:
        """Read it; return a sentence for the log on why the reload cannot be, None if it can."""
        return None

    def end(self, *, serves: bool) -> None:
        """Note the end of a reload.

        Args:
            serves: Whether the new set of workers serves.
        """


class Supervisor:
    """Starts workers and keeps their number.

    Args:
        program: What each worker runs.
        workers: How many.
        bound: The sockets.
        backlog: Connections the system may keep waiting.
        drain_timeout: Seconds that a worker has for open sessions at the end.
        cancel_timeout: Seconds that a callback has there to end.
        systemd: The service manager.
        observer: Hears what happens, in this process.
        name: Of the server.
        listening: Called once the sockets listen for the first time.
        rereading: Has in hand, in this process, what the next set of workers is made from.
        status: The HTTP listener; None for none.
    """

    def __init__(
        self,
        program: WorkerProgram,
        workers: int,
        bound: Sequence[Bound],
        *,
        backlog: int,
        drain_timeout: float,
        cancel_timeout: float,
        systemd: Systemd,
        observer: Guard,
        name: str = "",
        listening: Callable[[], object] = lambda: None,
        rereading: "Rereading | None" = None,
        status: StatusProgram | None = None,
    ) -> None:
        self._program = program
        self._count = workers
        self._bound = bound
        self._backlog = backlog
        self._drain_timeout = drain_timeout
        self._hurry_timeout = max(_HURRY_TIMEOUT, 2 * cancel_timeout)
        self._systemd = systemd
        self._observer = observer
        self._where = replace(SERVER, server=name)
        self._listening = listening
        self._rereading = rereading or Rereading()
        self._counts = shared_counts()
        self._backoff = Backoff()
        self._selector = selectors.DefaultSelector()
        self._relay = None if status is None else Relay(status, self._selector, self._status_failed)
        # Those that serve, those of a set that is not ready yet, and those that are about to end.
        self._serving: list[Worker] = []
        self._starting: list[Worker] | None = None
        self._ending: list[Worker] = []
        self._started = False
        # A worker may have ended right after it was looked at.
        self._child_ended = False
        self._stops = 0
        # Those that are about to end and may still accept; and whether the log has the record that the others serve.
        self._accepting: list[Worker] = []
        self._announced = False
        self._reload_again = False
        self._status = 0
        self._restart_at: list[float] = []
        self._alive_at: float | None = None

    # ------------------------------------------------------------------------------------------------------ supervising

    def run(self) -> int:
        """Serve until a signal to stop, and return the exit status: 0, or that of the worker that could not start or end."""
        with _caught_signals() as caught:
            self._selector.register(caught, selectors.EVENT_READ)
            try:
                self._start_set()
                while self._all() or self._restart_at:
                    self._turn(caught)
            finally:
                for worker in self._all():  # none, unless something has gone wrong here
                    worker.dismiss()
                    worker.has_ended(wait=True)
                self._close_sockets()
                if self._relay is not None:
                    self._relay.stop()
                self._selector.close()
        return self._status

    def _turn(self, caught: socket.socket) -> None:
        """Wait for something to happen, and react to it.

        Signals are read last and obeyed first: a signal to the whole process group has reached this process before a worker
        reports, or shows by its end, the effect of the signal on it.
        """
        now = time.monotonic()
        if self._relay is not None:
            self._relay.turn(now, self._close_in_status, restart=not self._stops)
        timers = [*self._restart_at, *self._deadlines()]
        timeout = max(0.0, min(timers) - now) if timers else None
        keys = [key for key, _ in self._selector.select(0.0 if self._child_ended else timeout)]
        received = [(key.data, self._read(key.data)) for key in keys if isinstance(key.data, Worker)]
        for read in (key.data for key in keys if callable(key.data)):
            read()
        dead = [worker for worker in self._all() if worker.has_ended()]
        self._child_ended = False
        with contextlib.suppress(BlockingIOError):
            for number in caught.recv(4096):
                # It may be that of a worker that had not ended a moment ago.  Its channel ended before that, and wakes us no
                # more: look again at once.
                self._child_ended = self._child_ended or number == signal.SIGCHLD
                self._signalled(number)
        for worker, words in received:
            self._heed(worker, words)
        for worker in dead:
            self._heed(worker, self._read(worker))  # its last words
            self._reap(worker)
        self._keep_time(time.monotonic())

    def _all(self) -> list[Worker]:
        return [*self._serving, *(self._starting or ()), *self._ending]

    def _deadlines(self) -> Iterator[float]:
        if self._alive_at is not None:
            yield self._alive_at
        if self._relay is not None and self._relay.restart_at is not None:
            yield self._relay.restart_at
        for worker in self._all():
            if worker.kill_at is not None:
                yield worker.kill_at
            if self._systemd.watchdog is not None and worker.seen is not None:
                yield worker.seen + self._systemd.watchdog

    def _keep_time(self, now: float) -> None:
        due = [when for when in self._restart_at if when <= now]
        self._restart_at = [when for when in self._restart_at if when > now]
        for _ in due:
            try:
                self._serving.append(self._fork("start a worker"))
            except OSError as error:
                delay = self._backoff.died(0.0) or Backoff.FIRST
                self._log(LifecycleKind.WORKER_FAILED, f"cannot start a worker: {error}; trying again in {delay:g} s")
                self._restart_at.append(now + delay)
        watchdog = self._systemd.watchdog
        if self._alive_at is not None and self._alive_at <= now and watchdog is not None:
            self._systemd.alive()
            self._alive_at = now + watchdog / 2
        for worker in self._all():
            stuck = watchdog is not None and worker.seen is not None and worker.seen + watchdog <= now
            if stuck or (worker.kill_at is not None and worker.kill_at <= now):
                why = f"gave no sign of life for {watchdog:g} s" if stuck else "did not end in time"
                if stuck or not worker.dismissed:
                    self._log(LifecycleKind.WORKER_FAILED, f"worker {worker.pid} {why}; killing it", worker.pid)
                worker.seen = worker.kill_at = None
                # With a core or Python's own report (faulthandler) of where it was stuck, if these are on.
                worker.kill(signal.SIGABRT if stuck else signal.SIGKILL)
                worker.kill_at = now + self._hurry_timeout if stuck else None

    # ---------------------------------------------------------------------------------------------------------- signals

    def _signalled(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop()
        elif number == signal.SIGHUP and not self._stops:
            if self._announced or (self._started and self._starting):
                self._reload()
            else:
                self._reload_again = True

    def _reload(self) -> None:
        """Begin with a new set, and cancel one that is not ready yet: it may have loaded the code as it was before."""
        why = self._rereading.begin()
        if why is not None:
            self._systemd.reloading()
            self._log(LifecycleKind.RELOAD_FAILED, why)
            self._systemd.ready(f"{self._serving_status()}; the last reload failed, see the log")
            return
        for worker in self._starting or ():
            worker.call_off()
            self._ending.append(worker)
        if self._starting:
            self._log(LifecycleKind.RELOAD_CANCELLED, "reload cancelled: another was requested")
        self._log(LifecycleKind.RELOADING, "reloading")
        self._announced = False
        self._systemd.reloading()
        self._start_set()

    def _stop(self) -> None:
        """Have all stop within ``drain_timeout``; hurry them the second time, kill them the third."""
        by = time.monotonic() + self._hurry_timeout
        self._stops += 1
        if self._stops > 2:
            self._status = 1
            for worker in self._all():
                worker.dismiss()
            return
        if self._stops == 1:
            by += self._drain_timeout
            self._systemd.stopping()
            self._close_sockets()
        self._restart_at.clear()
        self._ending = self._all()
        self._serving, self._starting = [], None
        self._announced = True
        for worker in self._ending:
            if worker.ready:
                worker.channel.send(Order.STOP)
                worker.end_by(by)
            else:
                worker.call_off()

    def _close_sockets(self) -> None:
        for bound in self._bound:
            bound.close()
        self._bound = ()

    # ---------------------------------------------------------------------------------------------------------- workers

    def _start_set(self) -> None:
        """Start the first worker of a set.  The others follow once it is ready: a filter that cannot be built fails once."""
        self._starting = []
        self._add_to(self._starting)

    def _add_to(self, starting: list[Worker]) -> bool:
        """Fork a worker of a set, and return whether that was possible; at the start an error is raised instead."""
        try:
            starting.append(self._fork("reload" if self._started else ""))
        except OSError as error:
            if not self._started:
                raise
            self._log(LifecycleKind.RELOAD_FAILED, f"cannot reload: {error}; nothing has changed")
            self._cancel_set()
            return False
        return True

    def _read(self, worker: Worker) -> bytes:
        """Return the words that a worker has sent."""
        words = worker.channel.receive()
        if worker.channel.ended:
            self._forget_channel(worker)  # it is about to end; SIGCHLD says when it has
        return words

    def _heed(self, worker: Worker, words: bytes) -> None:
        """React to the words of a worker."""
        if not words:
            return
        worker.seen = time.monotonic()
        if News.CLOSED in words and worker in self._accepting:
            self._accepting.remove(worker)
            self._serve_if_alone()
        elif News.CLOSED in words and worker.ready and worker in self._serving:
            # It has no such order, but its sessions may last: another accepts meanwhile.
            what = f"worker {worker.pid} accepts no more; {self._replace(worker)}"
            self._log(LifecycleKind.WORKER_ENDED, what, worker.pid)
            self._ending.append(worker)
        if News.READY in words:
            worker.ready = True
            if worker in self._serving:
                present(self._counts, worker.place)
                worker.channel.send(Order.BEGIN)
                self._log(LifecycleKind.WORKER_STARTED, f"worker {worker.pid} serves", worker.pid)
            elif self._starting is not None and worker in self._starting:
                self._advance(self._starting)

    def _advance(self, starting: list[Worker]) -> None:
        """Start the rest of a set once the first is ready, and have it serve once all are."""
        while len(starting) < self._count:
            if not self._add_to(starting):
                return
        if not all(worker.ready for worker in starting):
            return
        for bound in self._bound:
            bound.listen(self._backlog)
        if not self._started:
            self._listening()
        for worker in starting:
            present(self._counts, worker.place)  # first of all, or the first to begin takes every waiting connection
        for worker in starting:
            worker.channel.send(Order.BEGIN)
        for worker in self._serving:
            if worker.ready:
                worker.channel.send(Order.DRAIN)
            else:
                worker.call_off()
        self._accepting = [worker for worker in self._serving if worker.ready]
        self._ending += self._serving
        self._serving, self._starting = starting, None
        self._restart_at.clear()
        self._serve_if_alone()

    def _serve_if_alone(self) -> None:
        """Report that the set serves, once those before it accept no more."""
        if self._announced or self._accepting:
            return
        self._announced = True
        self._rereading.end(serves=True)
        kind = LifecycleKind.RELOADED if self._started else LifecycleKind.WORKER_STARTED
        how = "reloaded: " if self._started else ""
        self._log(kind, f"{how}workers {_pids(self._serving)} serve new connections")
        self._started = True
        self._systemd.ready(self._serving_status())
        if self._systemd.watchdog is not None and self._alive_at is None:
            self._alive_at = time.monotonic()
        self._continue()

    def _continue(self) -> None:
        """Reload once more if that was requested meanwhile: the set may have loaded its code before the request."""
        if self._reload_again:
            self._reload_again = False
            self._signalled(signal.SIGHUP)

    def _serving_status(self) -> str:
        return f"Serving with {self._count} workers"

    def _reap(self, worker: Worker) -> None:
        """Forget a worker that has ended, and replace it if it served."""
        assert worker.status is not None
        status = worker.status
        self._forget_channel(worker)
        if self._relay is not None and worker.pipe is not None:
            self._relay.ended(worker.pid, worker.pipe)
        worker.close()
        absent(self._counts, worker.place)
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        if worker in self._accepting:
            self._accepting.remove(worker)
            self._serve_if_alone()
        if worker in self._ending:
            self._ending.remove(worker)
            if status and not worker.dismissed:
                self._log(LifecycleKind.WORKER_FAILED, f"worker {worker.pid} {how}", worker.pid)
                self._status = 1 if self._stops else self._status
        elif worker in self._serving:
            what = f"worker {worker.pid} {how}; {self._replace(worker)}"
            # One with status 0 that was not ready yet had the order to end.
            ended = not (status or worker.ready)
            self._log(LifecycleKind.WORKER_ENDED if ended else LifecycleKind.WORKER_FAILED, what, worker.pid)
        else:
            self._set_failed(worker, status, how)

    def _log(self, kind: LifecycleKind, what: str, pid: int | None = None) -> None:
        self._observer.tell(Lifecycle(self._where, kind, what, pid=pid))

    def _replace(self, worker: Worker) -> str:
        """Have another serve in the place of one, and return a phrase about that for the log."""
        self._serving.remove(worker)
        delay = self._backoff.died(time.monotonic() - worker.born)
        self._restart_at.append(time.monotonic() + delay)
        return f"another takes its place{f' in {delay:g} s' if delay else ''}"

    def _forget_channel(self, worker: Worker) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.channel)

    def _set_failed(self, worker: Worker, status: int, how: str) -> None:
        """Cancel a set of which one could not start; it has reported why, unless it was killed."""
        if self._starting is not None:
            self._starting.remove(worker)
        if not self._started:
            self._status = status if status > 0 else 1
            if status <= 0:
                what = f"worker {worker.pid} {how} before it was ready"
                self._log(LifecycleKind.WORKER_FAILED, what, worker.pid)
        elif status <= 0:
            what = f"cannot reload: worker {worker.pid} {how}; nothing has changed"
            self._log(LifecycleKind.RELOAD_FAILED, what, worker.pid)
        self._cancel_set()

    def _cancel_set(self) -> None:
        for other in self._starting or ():
            other.dismiss()
            self._ending.append(other)
        self._starting = None
        self._rereading.end(serves=False)
        self._announced = self._started
        if self._started:
            self._systemd.ready(f"{self._serving_status()}; the last reload failed, see the log")
            self._continue()

    # ------------------------------------------------------------------------------------------------------------- fork

    def _fork(self, purpose: str) -> Worker:
        """Start a worker.

        Args:
            purpose: As for :meth:`WorkerProgram.run`.

        Raises:
            OSError: That is not possible now.
        """
        taken = {worker.place for worker in self._all()}
        place = next((place for place in range(PLACES) if place not in taken), None)
        if place is None:
            raise OSError(errno.EAGAIN, f"{PLACES} workers run already, most of them until their last connections end")
        share = AcceptBalancer(self._bound, self._counts, place)
        ours, its = self._relay.pipe() if self._relay is not None else (None, None)

        def run(channel: WorkerChannel) -> int:
            return self._program.run(channel, share, its, later=self._started, purpose=purpose)

        def close_rest() -> None:
            self._close_in_worker()
            if ours is not None:
                ours.close()

        try:
            worker = fork_worker(run, place, close_rest=close_rest)
        finally:
            if its is not None:
                its.close()
        worker.pipe = ours
        self._selector.register(worker.channel, selectors.EVENT_READ, worker)
        return worker

    def _close_in_worker(self) -> None:
        self._close_pipes()
        if self._relay is not None:
            self._relay.close_in_child()

    def _close_in_status(self) -> None:
        self._close_pipes()
        for bound in self._bound:
            bound.socket.close()

    def _close_pipes(self) -> None:
        self._selector.close()
        for worker in self._all():
            worker.close()

    def _status_failed(self, what: str, pid: int | None) -> None:
        self._log(LifecycleKind.WORKER_FAILED, what, pid)


@contextmanager
def _caught_signals() -> Iterator[socket.socket]:
    """Yield a socket from which the number of each signal can be read, an octet each."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
        fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(fd)
            for number, handler in before.items():
                signal.signal(number, handler)


def _pids(workers: Iterable[Worker]) -> str:
    return ", ".join(str(worker.pid) for worker in workers)
