"""A worker: a forked process that serves, and does as the supervisor orders."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiomilter._process import lifecycle
from aiomilter._process.channel import News, Order, WorkerChannel
from aiomilter._process.lifecycle import Control, MainService
from aiomilter._process.pipe import FeedPipe
from aiomilter._serving.feed import Reporter
from aiomilter._serving.sharing import AcceptBalancer
from aiomilter._worker_count import as_one_of

__all__ = ["SIGNALS", "Make", "Report", "WorkerProgram", "flush", "run_process"]

Make: TypeAlias = Callable[[AcceptBalancer, bool, Reporter | None], MainService]
"""Makes, in a worker, the service.  The second argument says whether other workers have served before, the third takes what it
counts; None if that is not shown."""
Report: TypeAlias = Callable[[BaseException, str], int]
"""Reports to the user, in a worker, what failed and why, and returns the exit status.  The text is "reload" or "start a
worker"; "" where the whole cannot start, or this worker did not end well."""

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
"""The signals that the supervisor handles."""


@dataclass(frozen=True, slots=True)
class WorkerProgram:
    """What every worker runs.

    Args:
        make: See :data:`Make`.
        report: See :data:`Report`.
        loop_factory: Makes the event loop; None for asyncio's.
        watchdog: Seconds within which the supervisor wants a sign of life; None if it wants none.
        workers: How many there are, this one included.
    """

    make: Make
    report: Report
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None
    watchdog: float | None
    workers: int = 1

    def run(
        self,
        channel: WorkerChannel,
        share: AcceptBalancer,
        pipe: FeedPipe | None = None,
        *,
        later: bool,
        purpose: str,
    ) -> int:
        """Serve in this process, which was just forked with :data:`SIGNALS` blocked, and return its exit status.

        Args:
            channel: To the supervisor.
            share: The part of this process in the sockets of all.
            pipe: To the supervisor, for what is counted; None if that is not shown.
            later: Whether other workers have served before.
            purpose: What fails if this one cannot start, for the log; "" at the start of the whole, which then fails.
        """
        reporter = Reporter(pipe.send) if pipe is not None else None

        def make() -> MainService:
            return self.make(share, later, reporter)

        with as_one_of(self.workers):
            return run_process(
                make, channel, share, self.report, self.loop_factory, watchdog=self.watchdog, purpose=purpose
            )


def run_process(
    make: Callable[[], MainService],
    channel: WorkerChannel,
    share: AcceptBalancer | None,
    report: Report,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
    *,
    watchdog: float | None,
    purpose: str,
) -> int:
    """Run a service in this process, which was just forked with :data:`SIGNALS` blocked, and return its exit status.

    Args:
        make: Makes the service.
        channel: To the supervisor.
        share: The part of this process in the sockets of all; None if it accepts from none of them.
        report: See :data:`Report`.
        loop_factory: As for :class:`WorkerProgram`.
        watchdog: As for :class:`WorkerProgram`.
        purpose: As for :meth:`WorkerProgram.run`.
    """
    _reset_signals()
    link = _SupervisorLink(channel, watchdog)
    try:
        service = make()
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_serve(service, share, link))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it is reported, and the process ends
        return report(error, "" if link.was_ready else purpose) or 1
    finally:
        flush()
    return 0


def _reset_signals() -> None:
    """Undo what the supervisor has set: a terminal signals the whole process group, and the supervisor alone acts on that."""
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN if number in (signal.SIGINT, signal.SIGHUP) else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


async def _serve(service: MainService, share: AcceptBalancer | None, link: "_SupervisorLink") -> None:
    control = Control()
    loop = asyncio.get_running_loop()

    def drain(*_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, the process about to exit
            loop.call_soon_threadsafe(control.request_drain)

    # SIGTERM is for an administrator who wants this worker replaced.  A second one, of a service manager that signals every
    # process, does not hurry it.  It is not a handler of the loop: closing the loop removes those, and SIGTERM would kill a
    # process about to exit.
    signal.signal(signal.SIGTERM, drain)
    link.follow(loop, control, share)
    await lifecycle.run(service, control, manager=link, own_process=True)


class _SupervisorLink:
    """The worker's end of the channel: the supervisor is its service manager.

    Args:
        channel: To the supervisor.
        watchdog: Seconds within which the supervisor wants a sign of life.
    """

    def __init__(self, channel: WorkerChannel, watchdog: float | None) -> None:
        # Twice as often as systemd wants it: the supervisor's own delay comes on top.
        self.watchdog = watchdog / 2 if watchdog is not None else None
        self.was_ready = False
        self._channel = channel

    def follow(self, loop: asyncio.AbstractEventLoop, control: Control, share: AcceptBalancer | None) -> None:
        """Obey orders from now on; stop if the supervisor has ended."""

        def obey() -> None:
            words = self._channel.receive()
            if self._channel.ended:
                loop.remove_reader(self._channel.fileno())
                if not control.stop.is_set():
                    control.request_stop()
            for word in words:
                match Order(word):
                    case Order.BEGIN:
                        if share is not None:
                            share.begin()
                    case Order.DRAIN:
                        control.request_drain()
                    case Order.STOP:
                        control.request_stop()

        if share is not None:
            share.when_ended(lambda: self._channel.send(News.CLOSED))
        loop.add_reader(self._channel.fileno(), obey)

    def ready(self, status: str) -> None:
        """Report that the service could accept."""
        self.was_ready = True
        self._channel.send(News.READY)

    def alive(self) -> None:
        """Give a sign of life."""
        self._channel.send(News.ALIVE)

    def reloading(self) -> None:
        """Do nothing: a worker is replaced, not reloaded."""

    def stopping(self) -> None:
        """Do nothing: the supervisor knows."""


def flush() -> None:
    """Write what Python has buffered: a fork would write it twice, and ``os._exit`` not at all."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none
            stream.flush()
