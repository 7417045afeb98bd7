"""``run``: a filter as a process of its own, with signals, reloads, a service manager and an exit."""

import asyncio
import contextlib
import gc
import signal
import ssl as tls
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol, TypeAlias, TypedDict, TypeVar, Unpack

from aiomilter._systemd import Systemd
from aiomilter.observe import SERVER, Observer
from aiomilter.server import Factory, Server, serve
from aiomilter.wire.constants import Stage
from aiomilter.wire.replies import Response

__all__ = [
    "RELOADED",
    "UNCHANGED",
    "Reload",
    "ServeOptions",
    "Service",
    "Systemd",
    "reload",
    "run",
    "run_service",
    "run_until_stopped",
]

Reload: TypeAlias = Callable[[], Coroutine[Any, Any, bool]]
"""Loads a filter anew and returns whether that worked; what it could not do, it has logged."""
_T = TypeVar("_T")

RELOADED: Final = "reloaded; open connections finish on what they began with"
UNCHANGED: Final = "nothing has changed"
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SERVING: Final = "Serving"


class ServeOptions(TypedDict, total=False):
    """The options of :func:`aiomilter.serve`, written out for :func:`run`."""

    on_error: Response
    on_timeout: Response | None
    callback_timeout: float
    callback_timeouts: Mapping[Stage, float] | None
    answer_timeout: float | None
    answer_timeouts: Mapping[Stage, float] | None
    progress_interval: float | None
    cancel_timeout: float
    drain_timeout: float
    idle_timeout: float | None
    write_timeout: float
    max_connections: int
    max_connections_per_peer: int | None
    max_refused_connections: int
    max_waiting_size: int
    max_frame_size: int
    max_headers: int
    max_headers_size: int
    max_recipients: int
    max_edits: int
    max_edits_size: int
    allowed_networks: Collection[str] | None
    allowed_users: Collection[str | int] | None
    allowed_groups: Collection[str | int] | None
    ssl: tls.SSLContext | None
    socket_mode: int | None
    socket_owner: str | int | None
    socket_group: str | int | None
    backlog: int
    observer: Observer | None


class Service(AbstractAsyncContextManager[object], Protocol):
    """What runs until a signal comes: a :class:`aiomilter.Server`, or one together with what goes with it."""

    drain_timeout: float

    async def drain(self, timeout: float | None = None) -> None:
        """End what is open in its own time, within ``timeout``."""

    async def close(self) -> None:
        """End everything now."""


def run(factory: Factory, *sockets: str, uvloop: bool | None = None, **options: Unpack[ServeOptions]) -> None:
    """Serve a filter until SIGTERM or SIGINT, then drain and return; a second signal closes at once.

    SIGHUP enters the factory again: new connections get their filters from what it then gives, open ones finish on the old.
    If it fails, a log record says why, and nothing has changed.

    Under systemd (``Type=notify``) readiness, reloads and the end are told, and a watchdog is fed from the event loop; what
    systemd has left in the environment is removed from it.  Logging is the program's to set up:
    ``logging.basicConfig(level=logging.INFO)`` shows a line per message.

    Args:
        factory: As for :func:`aiomilter.serve`.
        sockets: As for :func:`aiomilter.serve`; also ``fd:NAME``, a socket that systemd has handed over under that name.  None
            for all that it has handed over.
        uvloop: Whether to run on uvloop; None to do so where it is installed.
        options: As for :func:`aiomilter.serve`.

    Raises:
        AddressError: A text of ``sockets`` names no endpoint.
        OSError: A socket cannot be listened on.
        RuntimeError: An event loop runs already; use :func:`aiomilter.serve` in it.
    """
    systemd = Systemd.from_environment()
    server = serve(factory, *systemd.sockets(sockets), **options)
    run_service(server, uvloop=uvloop, reload=lambda: reload(server, factory), systemd=systemd)


async def reload(server: Server, factory: Factory) -> bool:
    """Have new connections served by what a factory gives now; return whether that worked, the log says what has happened."""
    try:
        await server.reload(factory)
    except Exception as error:  # noqa: BLE001 - it is logged, and what has served so far goes on
        server.observer.failed(SERVER, f"cannot reload: {type(error).__name__}: {error}; {UNCHANGED}", error)
        return False
    server.observer.noted(RELOADED)
    return True


def run_service(
    service: Service, *, uvloop: bool | None = None, reload: Reload | None = None, systemd: Systemd | None = None
) -> None:
    """Run a service in a loop of its own, as :func:`run_until_stopped` does."""
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("run: an event loop runs here already; write 'async with aiomilter.serve(...)' instead")
    with asyncio.Runner(loop_factory=_loop_factory(uvloop)) as runner:
        runner.run(run_until_stopped(service, own_process=True, reload=reload, systemd=systemd))


async def run_until_stopped(
    service: Service, *, own_process: bool = False, reload: Reload | None = None, systemd: Systemd | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal closes at once, one while it starts gives that up.

    In the main thread only.

    Args:
        service: What to serve.
        own_process: Whether the process has no other purpose, so that what it has made so far stays for good.
        reload: What SIGHUP is for: loads anew, and returns whether that worked.  None to stop then, too.
        systemd: Is told of start, reload and end, and fed while the event loop turns.
    """
    loop = asyncio.get_running_loop()
    orders = Orders()
    for number in _SIGNALS:
        loop.add_signal_handler(
            number, orders.reload.set if number == signal.SIGHUP and reload else orders.told_to_stop
        )
    try:
        await live(service, orders, own_process=own_process, reload=reload, systemd=systemd or Systemd())
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


class Orders:
    """What a service is told to do, by signals or by the process it works for; made in the task that serves."""

    def __init__(self) -> None:
        self.reload = asyncio.Event()
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self._starting = asyncio.current_task()

    def told_to_stop(self) -> None:
        """Stop; the second time, hurry."""
        (self.hurry if self.stop.is_set() else self.stop).set()
        if self._starting is not None:
            self._starting.cancel()

    def started(self) -> None:
        """Take note that there is something to stop now."""
        self._starting = None

    def gave_up(self) -> bool:
        """Return whether a cancellation was ours, for a service that has not started yet."""
        if self._starting is None or not self.stop.is_set():
            return False
        self._starting.uncancel()
        return True


async def live(service: Service, orders: Orders, *, own_process: bool, reload: Reload | None, systemd: Systemd) -> None:
    """Start a service, have it serve until it is ordered to stop, and end it."""
    try:
        async with service:
            orders.started()
            if own_process:
                # Full collections need not look at modules and classes again: with 500 sessions open they held up the
                # others for 77 ms, and do for 6 (python -m benchmarks spf dnspython-filter).
                gc.collect()
                gc.freeze()
            with _alive(systemd):
                systemd.ready(_SERVING)
                await _serve(orders, reload, systemd)
                systemd.stopping()
                await _until(service.drain(service.drain_timeout), orders.hurry)
            await service.close()
    except asyncio.CancelledError:
        if not orders.gave_up():
            raise


async def _serve(orders: Orders, reload: Reload | None, systemd: Systemd) -> None:
    """Wait for the order to stop, and reload at every order to do so."""
    while not orders.stop.is_set():
        await _until(orders.reload.wait(), orders.stop)
        if reload is not None and orders.reload.is_set() and not orders.stop.is_set():
            orders.reload.clear()
            systemd.reloading()
            done = await _until(reload(), orders.stop)
            systemd.ready(_SERVING if done else f"{_SERVING}; the last reload failed, see the log")


async def _until(work: Coroutine[Any, Any, _T], event: asyncio.Event) -> _T | None:
    """Do some work until an event happens; return its result, None if it was not finished."""
    working = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (waiting, working):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    return None if working.cancelled() else working.result()


@contextlib.contextmanager
def _alive(systemd: Systemd) -> Iterator[None]:
    """Give signs of life twice as often as they are wanted, for as long as the event loop turns."""
    if systemd.watchdog is None:
        yield
        return
    loop, interval = asyncio.get_running_loop(), systemd.watchdog / 2
    timer: asyncio.TimerHandle

    def beat() -> None:
        nonlocal timer
        systemd.alive()
        timer = loop.call_later(interval, beat)

    beat()
    try:
        yield
    finally:
        timer.cancel()


def _loop_factory(wanted: bool | None) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if wanted is False:
        return None
    try:
        import uvloop
    except ImportError:
        if wanted:
            raise
        return None
    return uvloop.new_event_loop
