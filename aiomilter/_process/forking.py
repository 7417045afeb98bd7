"""Forking a worker, and the supervisor's view of it."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

from aiomilter._process.channel import Order, WorkerChannel, channel_pair
from aiomilter._process.pipe import FeedPipe
from aiomilter._process.worker import SIGNALS, flush

__all__ = ["Worker", "fork_worker"]

_UNREADY_TIMEOUT: Final = 1.0
"""Seconds for a worker that is not ready to end: it serves no connection, and while it loads a filter it may hear nothing."""


class Worker:
    """A worker as the supervisor sees it.

    Args:
        pid: Its process.
        channel: The supervisor's end.
        place: Its place among those that accept from the same sockets; -1 if it is none of these.
    """

    def __init__(self, pid: int, channel: WorkerChannel, place: int = -1) -> None:
        self.pid = pid
        self.channel = channel
        self.place = place
        self.pipe: FeedPipe | None = None
        """The supervisor's end of the pipe for what it counts; None where that is not shown."""
        self.born = time.monotonic()
        self.ready = False
        self.seen: float | None = None
        """When it last gave a sign of life; None before the first."""
        self.kill_at: float | None = None
        self.dismissed = False
        """It has no connections, and its exit status does not matter."""
        self.status: int | None = None
        """Its exit status, or the negative number of the signal that ended it; None while it runs."""

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal.  Until we have waited for the process, its number belongs to no other."""
        if self.status is None:
            os.kill(self.pid, number)

    def has_ended(self, *, wait: bool = False) -> bool:
        """Return whether it has ended; wait for its end if asked to."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, 0 if wait else os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def close(self) -> None:
        """Close the supervisor's ends of its channel and its pipe."""
        self.channel.close()
        if self.pipe is not None:
            self.pipe.close()

    def dismiss(self) -> None:
        """Kill one that does not serve."""
        self.dismissed = True
        self.kill()

    def end_by(self, when: float) -> None:
        """Have it killed at a moment, unless an earlier one is set."""
        self.kill_at = when if self.kill_at is None else min(when, self.kill_at)

    def call_off(self) -> None:
        """End one that is not ready: it may leave its factory, if it hears the order in time."""
        self.dismissed = True
        self.channel.send(Order.STOP)
        self.end_by(time.monotonic() + _UNREADY_TIMEOUT)


def fork_worker(run: Callable[[WorkerChannel], int], place: int = -1, *, close_rest: Callable[[], None]) -> Worker:
    """Start a process.

    Args:
        run: What it runs, with its end of the channel; returns its exit status.
        place: See :class:`Worker`.
        close_rest: Called in the process: closes what belongs to the supervisor.

    Raises:
        OSError: The system has no process or descriptor left.
    """
    ours, its = channel_pair()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        flush()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                ours.close()
                close_rest()
                status = run(its)
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    sys.stderr.close()  # a stream that does not wait for its reader waits here, for a while
            finally:
                os._exit(status)
    except OSError:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        its.close()
    return Worker(pid, ours, place)
