"""The life of what serves: it starts, is told to reload, to let go or to stop, and ends well."""

import asyncio
import contextlib
import gc
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from aiomilter._serving.shielded import settle

__all__ = ["Control", "Reload", "Service", "ServiceManager", "run"]

Reload: TypeAlias = Callable[[], Coroutine[Any, Any, bool]]
"""Loads a filter anew and returns whether that worked; what it has begun and what it could not do, it has logged.  It is
cancelled if another is asked for, or the end."""
_T = TypeVar("_T")

_SERVING: Final = "Serving"


class Service(AbstractAsyncContextManager[object], Protocol):
    """What runs until a signal comes: a :class:`aiomilter.Server`, or one together with what goes with it."""

    drain_timeout: float

    @property
    def broken(self) -> asyncio.Event:
        """Set while it cannot serve, and will not by itself."""

    async def drain(self, timeout: float | None = None) -> None:
        """End what is open in its own time, within ``timeout``; cancelled meanwhile, close."""

    async def close(self) -> None:
        """End everything now."""


class ServiceManager(Protocol):
    """Who is told how a service does: systemd, or the process that watches over workers."""

    watchdog: float | None
    """Seconds within which a sign of life is wanted; None if none is."""

    def ready(self, status: str) -> None:
        """Hear that it serves, after its start or a reload."""

    def reloading(self) -> None:
        """Hear that a reload has begun."""

    def stopping(self) -> None:
        """Hear that the end has begun."""

    def alive(self) -> None:
        """Hear a sign of life."""


class Control:
    """What a service is told to do, by signals or by the process it works for; made in the task that serves."""

    def __init__(self) -> None:
        self.reload = asyncio.Event()
        self.end = asyncio.Event()
        """To end, in its own time if neither of the next two is set."""
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self._starting = asyncio.current_task()

    def request_drain(self) -> None:
        """Take nobody new, and end when those that are open have ended."""
        self.end.set()
        if self._starting is not None:
            self._starting.cancel()

    def request_stop(self) -> None:
        """Stop; the second time, hurry."""
        (self.hurry if self.stop.is_set() else self.stop).set()
        self.request_drain()

    def started(self) -> None:
        """Take note that there is something to stop now."""
        self._starting = None

    def gave_up(self) -> bool:
        """Return whether a cancellation was ours, for a service that has not started yet."""
        if self._starting is None or not self.end.is_set():
            return False
        self._starting.uncancel()
        return True


async def run(
    service: Service, control: Control, *, own_process: bool, reload: Reload | None, manager: ServiceManager
) -> None:
    """Start a service, have it serve until it is ordered to end, and end it."""
    with contextlib.ExitStack() as stack:
        try:
            async with service:
                control.started()
                if own_process:
                    # Full collections need not look at modules and classes again: with 500 sessions open they held up the
                    # others for 77 ms, and do for 6 (python -m benchmarks spf dnspython-filter).
                    gc.collect()
                    gc.freeze()
                stack.enter_context(_alive(manager))
                manager.ready(_SERVING)
                await _serve(service, control, reload, manager)
                manager.stopping()
                if service.broken.is_set():
                    control.stop.set()
                await _drain(service, control)
                await service.close()
        except asyncio.CancelledError:
            if not control.gave_up():
                raise


async def _serve(service: Service, control: Control, reload: Reload | None, manager: ServiceManager) -> None:
    """Wait for the order to end, and reload at every order to do so; one that comes meanwhile gives up what has begun.

    A service that cannot serve any more ends, too: whoever watches over it may start another.
    """
    while not control.end.is_set() and not service.broken.is_set():
        await _until(control.reload.wait(), control.end, service.broken)
        if reload is None or not control.reload.is_set() or control.end.is_set():
            continue
        control.reload.clear()
        manager.reloading()
        done = await _until(reload(), control.end, control.reload)
        if not control.reload.is_set():
            manager.ready(_SERVING if done else f"{_SERVING}; the last reload failed, see the log")


async def _drain(service: Service, control: Control) -> None:
    """Have it end what is open in its own time; in less once it is told to stop, and now once it is told to hurry.

    The drain without a time-out goes on beside the one with it: cancelled, it would close.
    """
    draining: list[asyncio.Task[None]] = []
    try:
        if not control.stop.is_set():
            draining.append(asyncio.create_task(service.drain(None)))
            await _first(draining[0], control.stop)
        if control.stop.is_set():
            draining.append(asyncio.create_task(service.drain(service.drain_timeout)))
            await _first(draining[-1], control.hurry)
    finally:
        for task in draining:
            task.cancel()
        await settle(*draining)
    for task in draining:
        if not task.cancelled():
            task.result()


async def _first(task: "asyncio.Task[Any]", event: asyncio.Event) -> None:
    """Wait until a task has ended or an event has happened."""
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        await settle(waiting)


async def _until(work: Coroutine[Any, Any, _T], *events: asyncio.Event) -> _T | None:
    """Do some work until an event happens; return its result, None if it was not finished."""
    working = asyncio.ensure_future(work)
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait((working, *waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*waiting, working):
            task.cancel()
        await settle(*waiting, working)
    return None if working.cancelled() else working.result()


@contextlib.contextmanager
def _alive(manager: ServiceManager) -> Iterator[None]:
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
