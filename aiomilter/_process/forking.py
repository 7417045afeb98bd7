"""Forking a worker, and the supervisor's view of it."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

from aiomilter._process.channel import Order, WorkerChannel, channel_pair
from aiomilter._process.worker import SIGNALS, WorkerProgram, flush
from aiomilter._serving.sharing import AcceptBalancer

__all__ = ["Worker", "fork_worker"]

_UNREADY_TIMEOUT: Final = 1.0
"""Seconds for a worker that is not ready to end: it serves no connection, and while it loads a filter it may hear nothing."""


class Worker:
    """A worker as the supervisor sees it.

    Args:
        pid: Its process.
        channel: The supervisor's end.
        place: Its place among those that accept from the same sockets.
    """

    def __init__(self, pid: int, channel: WorkerChannel, place: int) -> None:
        self.pid = pid
        self.channel = channel
        self.place = place
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


def fork_worker(
    program: WorkerProgram,
    share: AcceptBalancer,
    place: int,
    *,
    later: bool,
    purpose: str,
    close_rest: Callable[[], None],
) -> Worker:
    """Start a worker.

    Args:
        program: What it runs.
        share: Its part in the sockets.
        place: See :class:`Worker`.
        later: As for :meth:`WorkerProgram.run`.
        purpose: As for :meth:`WorkerProgram.run`.
        close_rest: Called in the worker: closes what belongs to the supervisor.

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
                status = program.run(its, share, later=later, purpose=purpose)
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
