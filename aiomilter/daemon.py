"""``run``: a filter as a process of its own, with signals and an exit."""

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, TypedDict, Unpack

from aiomilter.observe import Observer
from aiomilter.server import Factory, serve
from aiomilter.wire.replies import Response

__all__ = ["ServeOptions", "Service", "run", "run_service", "run_until_stopped"]

_STOPPING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that libmilter stops at, too."""


class ServeOptions(TypedDict, total=False):
    """The options of :func:`aiomilter.serve`, written out for :func:`run`."""

    on_error: Response
    callback_timeout: float
    cancel_timeout: float
    drain_timeout: float
    idle_timeout: float | None
    write_timeout: float
    max_connections: int
    max_waiting_size: int
    max_frame_size: int
    max_headers: int
    max_headers_size: int
    max_recipients: int
    max_edits: int
    max_edits_size: int
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
    """Serve a filter until SIGTERM, SIGINT or SIGHUP, then drain and return; a second signal closes at once.

    Logging is the program's to set up: ``logging.basicConfig(level=logging.INFO)`` shows a line per message.

    Args:
        factory: As for :func:`aiomilter.serve`.
        sockets: As for :func:`aiomilter.serve`.
        uvloop: Whether to run on uvloop; None to do so where it is installed.
        options: As for :func:`aiomilter.serve`.

    Raises:
        AddressError: A text of ``sockets`` names no endpoint.
        OSError: A socket cannot be listened on.
        RuntimeError: An event loop runs already; use :func:`aiomilter.serve` in it.
    """
    run_service(serve(factory, *sockets, **options), uvloop=uvloop)


def run_service(service: Service, *, uvloop: bool | None = None) -> None:
    """Run a service in a loop of its own until a signal comes, then drain and return; a second signal closes at once."""
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("run: an event loop runs here already; write 'async with aiomilter.serve(...)' instead")
    with asyncio.Runner(loop_factory=_loop_factory(uvloop)) as runner:
        runner.run(run_until_stopped(service, own_process=True))


async def run_until_stopped(service: Service, *, own_process: bool = False) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; in the main thread only.  A signal while it starts gives that up.

    Args:
        service: What to serve.
        own_process: Whether the process has no other purpose, so that what it has made so far stays for good.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    hurry = asyncio.Event()
    starting = asyncio.current_task()

    def stopped() -> None:
        (hurry if stop.is_set() else stop).set()
        if starting is not None:
            starting.cancel()

    for number in _STOPPING:
        loop.add_signal_handler(number, stopped)
    try:
        async with service:
            starting = None
            if own_process:
                # Full collections need not look at modules and classes again: with 500 sessions open they held up the
                # others for 77 ms, and do for 6 (python -m benchmarks spf dnspython-filter).
                gc.collect()
                gc.freeze()
            await stop.wait()
            draining = asyncio.create_task(service.drain(service.drain_timeout))
            hurrying = asyncio.create_task(hurry.wait())
            await asyncio.wait((draining, hurrying), return_when=asyncio.FIRST_COMPLETED)
            for task in (draining, hurrying):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await service.close()
    except asyncio.CancelledError:
        if starting is None or not stop.is_set():
            raise
        starting.uncancel()
    finally:
        for number in _STOPPING:
            loop.remove_signal_handler(number)


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
