"""The server's lifecycle: start, reload, drain, stop.

``run`` is the one place that leads a service through it, for ``aiomilter run``, :func:`aiomilter.run`, their workers, and
``milter.main()`` of compat.  They differ in what requests each stage, by a :class:`Control`, and in what is notified of it, a
:class:`ServiceManager`.  Workers are processes, which their supervisor starts, reloads and stops without an event loop; each of
them runs its service here.
"""

import asyncio
import contextlib
import gc
from collections.abc import Coroutine, Iterator
from typing import Any, Final, Protocol

from aiomilter._serving.shielded import settle
from aiomilter.observe import LifecycleKind

__all__ = ["UNCHANGED", "Control", "MainService", "NoManager", "ReloadFailed", "Service", "ServiceManager", "run"]

UNCHANGED: Final = "nothing has changed"
_SERVING: Final = "Serving"
_SERVING_AS_BEFORE: Final = "Serving; the last reload failed, see the log"


class Service(Protocol):
    """A service is anything that can start, reload, drain and close: a :class:`aiomilter.Server`, an SMTP server in front."""

    async def start(self) -> None:
        """Begin to serve.  What cannot start, or is cancelled meanwhile, leaves nothing open."""

    async def reload(self) -> None:
        """Serve new connections by what is configured now; open ones finish as they began.

        Raises:
            Exception: That failed, and nothing has changed; see :class:`ReloadFailed`.
        """

    async def drain(self, timeout: float | None = None) -> None:
        """Accept no more, and wait until what is open has ended, at most for ``timeout``; cancelled meanwhile, close."""

    async def close(self) -> None:
        """End everything now; a second time, do nothing."""


class MainService(Service, Protocol):
    """A service that a process runs for."""

    drain_timeout: float
    """Seconds that a drain may take after a request to stop."""

    @property
    def broken(self) -> asyncio.Event:
        """Set while it cannot serve, and will not by itself."""

    def report(self, kind: LifecycleKind, what: str, error: BaseException | None = None) -> None:
        """Report a sentence on its lifecycle to its observers."""


class ReloadFailed(Exception):
    """A reload failed, and the service says how.

    Args:
        what: A sentence for the log.
        shown: The exception to log with its traceback; None if the sentence is enough.
    """

    def __init__(self, what: str, shown: BaseException | None = None) -> None:
        super().__init__(what)
        self.shown = shown


class ServiceManager(Protocol):
    """What is notified of a service's state: systemd, or the supervisor of a worker."""

    watchdog: float | None
    """Seconds within which it wants a sign of life; None if it wants none."""

    def ready(self, status: str) -> None:
        """Note that the service serves, after its start or a reload."""

    def reloading(self) -> None:
        """Note that a reload has begun."""

    def stopping(self) -> None:
        """Note that the end has begun."""

    def alive(self) -> None:
        """Note a sign of life."""


class NoManager:
    """The service manager of a process that has none."""

    watchdog: float | None = None

    def ready(self, status: str) -> None:
        """Do nothing."""

    def reloading(self) -> None:
        """Do nothing."""

    def stopping(self) -> None:
        """Do nothing."""

    def alive(self) -> None:
        """Do nothing."""


class Control:
    """What is requested of a service, by signals or by the supervisor."""

    def __init__(self) -> None:
        self.reload = asyncio.Event()
        self.end = asyncio.Event()
        """Accept no more, and end once everything open has ended; sooner if one of the next two is set."""
        self.stop = asyncio.Event()
        """End within ``drain_timeout``."""
        self.hurry = asyncio.Event()
        """End now."""

    def request_reload(self) -> None:
        """Request a reload; one in progress is cancelled."""
        self.reload.set()

    def request_drain(self) -> None:
        """Request the end, in its own time."""
        self.end.set()

    def request_stop(self) -> None:
        """Request the end within ``drain_timeout``; the second time, now."""
        (self.hurry if self.stop.is_set() else self.stop).set()
        self.end.set()


async def run(service: MainService, control: Control, *, manager: ServiceManager, own_process: bool = False) -> None:
    """Start a service, have it serve until its end is requested, and end it.

    Args:
        service: What serves.
        control: What is requested.  A request to end cancels a start in progress.
        manager: Is notified.
        own_process: Whether the process has no other purpose, so that what it has made so far stays for good.
    """
    if not await _finished(service.start(), control.end):
        return
    with _signs_of_life(manager):
        try:
            if own_process:
                # Full collections need not look at modules and classes again: with 500 sessions open they held up the
                # others for 77 ms, and do for 6 (python -m benchmarks spf dnspython-filter).
                gc.collect()
                gc.freeze()
            manager.ready(_SERVING)
            await _serve(service, control, manager)
            manager.stopping()
            await _drain(service, control)
        finally:
            await service.close()


async def _serve(service: MainService, control: Control, manager: ServiceManager) -> None:
    """Wait for the request to end, and reload at each request to do so.

    A service that cannot serve any more stops, too: the process that watches it may start another.
    """
    while not control.end.is_set() and not service.broken.is_set():
        await _first(control.reload, control.end, service.broken)
        if control.reload.is_set() and not control.end.is_set():
            control.reload.clear()
            await _reload(service, control, manager)
    if service.broken.is_set():
        control.stop.set()


async def _reload(service: MainService, control: Control, manager: ServiceManager) -> None:
    """Reload, unless another reload or the end is requested meanwhile."""
    service.report(LifecycleKind.RELOADING, "reloading")
    manager.reloading()
    try:
        if await _finished(service.reload(), control.end, control.reload):
            service.report(LifecycleKind.RELOADED, "reloaded; open connections finish on what they began with")
            manager.ready(_SERVING)
        else:
            cause = "the server stops" if control.end.is_set() else "another was requested"
            service.report(LifecycleKind.RELOAD_CANCELLED, f"reload cancelled: {cause}")
    except ReloadFailed as failed:
        service.report(LifecycleKind.RELOAD_FAILED, str(failed), failed.shown)
        manager.ready(_SERVING_AS_BEFORE)
    except Exception as error:  # noqa: BLE001 - it is logged, and what has served so far goes on
        what = f"cannot reload: {type(error).__name__}: {error}; {UNCHANGED}"
        service.report(LifecycleKind.RELOAD_FAILED, what, error)
        manager.ready(_SERVING_AS_BEFORE)


async def _drain(service: MainService, control: Control) -> None:
    """Drain for as long as that takes, but not for longer than ``drain_timeout`` after a request to stop, or one to hurry.

    A drain that is cancelled closes.
    """
    draining = asyncio.create_task(service.drain())
    try:
        await _first(draining, control.stop)
        await _first(draining, control.hurry, timeout=service.drain_timeout)
    finally:
        draining.cancel()
        await settle(draining)
    if not draining.cancelled():
        draining.result()


async def _finished(work: Coroutine[Any, Any, object], *unless: asyncio.Event) -> bool:
    """Do some work, which any of the events cancels, and return whether it came to its end."""
    working = asyncio.create_task(work)
    try:
        await _first(working, *unless)
    finally:
        working.cancel()
        await settle(working)
    if working.cancelled():
        return False
    working.result()
    return True


async def _first(*these: "asyncio.Task[Any] | asyncio.Event", timeout: float | None = None) -> None:
    """Wait until a task has ended or an event has happened, at most for a time."""
    events = [asyncio.create_task(each.wait()) for each in these if isinstance(each, asyncio.Event)]
    tasks = [each for each in these if isinstance(each, asyncio.Task)]
    try:
        await asyncio.wait((*tasks, *events), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for event in events:
            event.cancel()
        await settle(*events)


@contextlib.contextmanager
def _signs_of_life(manager: ServiceManager) -> Iterator[None]:
    """Give signs of life twice as often as they are wanted, for as long as the event loop turns."""
    if manager.watchdog is None:
        yield
        return
    loop, interval = asyncio.get_running_loop(), manager.watchdog / 2
    timer: asyncio.TimerHandle

    def beat() -> None:
        nonlocal timer
        manager.alive()
        timer = loop.call_later(interval, beat)

    beat()
    try:
        yield
    finally:
        timer.cancel()
