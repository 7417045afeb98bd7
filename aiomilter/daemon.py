"""``run``: a filter as a process of its own, with signals and an exit."""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from aiomilter.server import Factory, serve

__all__ = ["Service", "run", "run_service", "run_until_stopped"]


class Service(AbstractAsyncContextManager[object], Protocol):
    """What runs until a signal comes: a :class:`aiomilter.Server`, or one together with what goes with it."""

    drain_timeout: float

    async def drain(self, timeout: float | None = None) -> None:
        """End what is open in its own time, within ``timeout``."""

    async def close(self) -> None:
        """End everything now."""


def run(factory: Factory, *sockets: str, uvloop: bool | None = None, **options: Any) -> None:
    """Serve a filter until SIGTERM or SIGINT, then drain and return; a second signal closes at once.

    Args:
        factory: As for :func:`aiomilter.serve`.
        sockets: As for :func:`aiomilter.serve`.
        uvloop: Whether to run on uvloop; None to do so where it is installed.
        options: As for :func:`aiomilter.serve`.

    Raises:
        AddressError: A text of ``sockets`` names no endpoint.
        OSError: A socket cannot be listened on.
    """
    run_service(serve(factory, *sockets, **options), uvloop=uvloop)


def run_service(service: Service, *, uvloop: bool | None = None) -> None:
    """Run a service in a loop of its own until SIGTERM or SIGINT, then drain and return; a second signal closes at once."""
    with asyncio.Runner(loop_factory=_loop_factory(uvloop)) as runner:
        runner.run(run_until_stopped(service))


async def run_until_stopped(service: Service) -> None:
    """Serve until SIGTERM or SIGINT; in the main thread only.  A signal while it starts gives that up."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    hurry = asyncio.Event()
    starting = asyncio.current_task()

    def stopped() -> None:
        (hurry if stop.is_set() else stop).set()
        if starting is not None:
            starting.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped)
    try:
        async with service:
            starting = None
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
        for number in (signal.SIGTERM, signal.SIGINT):
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
