"""What workers report, on its way through the supervisor to the HTTP listener, which is a process of its own.

The supervisor keeps the sums: an HTTP listener that dies is replaced, and gets all of them.
"""

import asyncio
import contextlib
import selectors
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from aiomilter._process.channel import Order, WorkerChannel
from aiomilter._process.forking import Worker, fork_worker
from aiomilter._process.lifecycle import MainService
from aiomilter._process.pipe import FeedPipe, pipe_pair
from aiomilter._process.worker import Report, run_process
from aiomilter._serving.binding import Bound
from aiomilter._serving.feed import Feed, ended_frame

__all__ = ["Relay", "StatusProgram"]

_END_TIMEOUT: Final = 3.0
"""Seconds for the HTTP listener to end, once the workers have."""
_RETRY: Final = 1.0
"""Seconds until another is started, where one has died soon."""


@dataclass(frozen=True, slots=True)
class StatusProgram:
    """What the process of the HTTP listener runs.

    Args:
        bound: Its sockets.
        make: Makes, in that process, the service that listens on them.
        report: As for a worker.
        loop_factory: As for a worker.
    """

    bound: Sequence[Bound]
    make: Callable[[Feed], MainService]
    report: Report
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None

    def run(self, channel: WorkerChannel, pipe: FeedPipe) -> int:
        """Listen in this process, which was just forked, and return its exit status.

        Args:
            channel: To the supervisor.
            pipe: From the supervisor.
        """
        feed = Feed()

        def make() -> MainService:
            return _Fed(self.make(feed), feed, pipe)

        purpose = "start the HTTP listener"
        return run_process(make, channel, None, self.report, self.loop_factory, watchdog=None, purpose=purpose)


class _Fed:
    """A service that reads a pipe while it runs."""

    def __init__(self, service: MainService, feed: Feed, pipe: FeedPipe) -> None:
        self.drain_timeout: float = service.drain_timeout
        self.broken = service.broken
        self.report = service.report
        self.reload = service.reload
        self.drain = service.drain
        self.close = service.close
        self._service = service
        self._feed = feed
        self._pipe = pipe

    async def start(self) -> None:
        """Read the pipe, and start."""
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._read)
        await self._service.start()

    def _read(self) -> None:
        for frame in self._pipe.receive():
            self._feed.take(frame)
        if self._pipe.ended:
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())


class Relay:
    """Starts the process of the HTTP listener, replaces it when it dies, and passes on to it what workers report.

    Args:
        program: What the process runs.
        selector: Gets the pipes, with :meth:`read` of each as data.
        failed: Hears a sentence on a process that has died, and its number.
    """

    def __init__(
        self, program: StatusProgram, selector: selectors.BaseSelector, failed: Callable[[str, int | None], object]
    ) -> None:
        self._program = program
        self._selector = selector
        self._failed = failed
        self._feed = Feed()
        self._process: Worker | None = None
        self._pipe: FeedPipe | None = None
        # What it still has to be told; None if it knows everything.
        self._waiting: list[bytes] | None = None
        # Whether that is no longer all.
        self._stale = False
        self.restart_at: float | None = 0.0
        """When another is to be started; None if one runs, or none is wanted any more."""

    # ---------------------------------------------------------------------------------------------------------- workers

    def pipe(self) -> tuple[FeedPipe, FeedPipe]:
        """Return both ends of a pipe for a worker, of which the first is read here."""
        ours, its = pipe_pair()
        self._selector.register(ours, selectors.EVENT_READ, partial(self.read, ours))
        return ours, its

    def read(self, pipe: FeedPipe) -> bool:
        """Pass on what has arrived from a worker, some hundreds of frames at most; return whether there was anything."""
        found = False
        for frame in pipe.receive():
            found = True
            self._pass_on(frame, needed=self._feed.take(frame))
        if pipe.ended:
            self._forget(pipe)
        return found

    def ended(self, pid: int, pipe: FeedPipe) -> None:
        """Note that a worker has ended: read the rest, and keep what it has counted."""
        while self.read(pipe):  # what it has counted last is behind all records that wait
            pass
        self._forget(pipe)
        pipe.close()
        self._feed.end(pid)
        self._pass_on(ended_frame(pid), needed=True)

    def _forget(self, pipe: FeedPipe) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(pipe)

    def _pass_on(self, frame: bytes, *, needed: bool) -> None:
        if self._pipe is None:
            return
        if self._waiting is None and (self._pipe.send(frame) or not needed):
            return
        if not needed:
            return
        self._stale = True
        self._catch_up()

    def _catch_up(self) -> None:
        """Tell the process everything, as far as there is room; the rest follows with the next report of a worker."""
        if self._pipe is None:
            return
        while True:
            if not self._waiting:
                if not self._stale:
                    self._waiting = None
                    return
                self._waiting, self._stale = list(reversed(list(self._feed.frames()))), False
            while self._waiting:
                if not self._pipe.send(self._waiting[-1]):
                    return
                self._waiting.pop()

    # ---------------------------------------------------------------------------------------------------------- process

    def turn(self, now: float, close_rest: Callable[[], None], *, restart: bool) -> None:
        """Look whether the process has ended, and start another one where one is due.

        Args:
            now: By ``time.monotonic``.
            close_rest: Called in a new process: closes what belongs to the supervisor.
            restart: Whether one that has ended is replaced.
        """
        if self._process is not None:
            self._process.channel.receive()
            if self._process.channel.ended:
                self._forget_process()
            if self._process.has_ended():
                self._replace(self._process, now, restart=restart)
        if self.restart_at is not None and self.restart_at <= now:
            self.restart_at = None
            self._start(now, close_rest)

    def _replace(self, process: Worker, now: float, *, restart: bool) -> None:
        status, age = process.status or 0, now - process.born
        self._dispose()
        if restart:
            how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
            self._failed(f"the HTTP listener {how}; another takes its place", process.pid)
            self.restart_at = now + (0.0 if age > 10 * _RETRY else _RETRY)

    def _start(self, now: float, close_rest: Callable[[], None]) -> None:
        try:
            ours, its = pipe_pair()

            def close_all() -> None:
                close_rest()
                ours.close()

            try:
                self._process = fork_worker(lambda channel: self._program.run(channel, its), close_rest=close_all)
            except OSError:
                ours.close()
                raise
            finally:
                its.close()
        except OSError as error:
            self._failed(f"cannot start the HTTP listener: {error}; trying again in {_RETRY:g} s", None)
            self.restart_at = now + _RETRY
            return
        self._selector.register(self._process.channel, selectors.EVENT_READ, lambda: None)
        self._pipe, self._waiting, self._stale = ours, [], True
        self._catch_up()

    def _forget_process(self) -> None:
        assert self._process is not None
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(self._process.channel)

    def _dispose(self) -> None:
        assert self._process is not None
        self._forget_process()
        self._process.channel.close()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = self._waiting = None

    def stop(self) -> None:
        """End the process, and wait for that, once no worker runs."""
        self.restart_at = None
        if self._process is not None:
            self._process.channel.send(Order.STOP)
            until = time.monotonic() + _END_TIMEOUT
            with selectors.DefaultSelector() as selector:
                selector.register(self._process.channel, selectors.EVENT_READ)
                while not self._process.channel.ended and (left := until - time.monotonic()) > 0:
                    selector.select(left)
                    self._process.channel.receive()
            if not self._process.channel.ended:
                self._process.dismiss()
            self._process.has_ended(wait=True)
            self._dispose()
        for bound in self._program.bound:
            bound.close()

    def close_in_child(self, *, sockets: bool = True) -> None:
        """Close, in a process that was forked, what is for the supervisor and for the process of the HTTP listener.

        Args:
            sockets: Whether the sockets of HTTP are among it; their files stay.
        """
        if self._process is not None:
            self._process.channel.close()
        if self._pipe is not None:
            self._pipe.close()
        for bound in self._program.bound if sockets else ():
            bound.socket.close()
