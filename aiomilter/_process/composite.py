"""Several services served as one: the server of a filter, and what goes with it."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from aiomilter._process.lifecycle import MainService, Service
from aiomilter._serving.shielded import settle
from aiomilter.observe import LifecycleKind

__all__ = ["Composite"]


class Composite:
    """Several services as one, of which the first is the one that the process runs for.

    They start one after the other, drain all at once, since one may wait for another, and close in reverse order.

    Args:
        main: The first.
        others: Make the others; each is called once those before it have started.
    """

    def __init__(self, main: MainService, *others: Callable[[], Service]) -> None:
        self.drain_timeout: float = main.drain_timeout
        self._main = main
        self._others = others
        self._started: list[Service] = []

    @property
    def broken(self) -> asyncio.Event:
        """As of the first."""
        return self._main.broken

    def report(self, kind: LifecycleKind, what: str, error: BaseException | None = None) -> None:
        """Report to the observers of the first."""
        self._main.report(kind, what, error)

    async def start(self) -> None:
        """Start all; if one fails, close those that have started."""
        try:
            await self._start(self._main)
            for make in self._others:
                await self._start(make())
        except BaseException:
            await self.close()
            raise

    async def _start(self, service: Service) -> None:
        await service.start()
        self._started.append(service)

    async def reload(self) -> None:
        """Reload all, until one fails."""
        for service in self._started:
            await service.reload()

    async def drain(self, timeout: float | None = None) -> None:
        """Drain all at once; cancelled meanwhile, all of them close.

        Raises:
            Exception: What one of them raised, once all have ended.
        """
        tasks = [asyncio.create_task(service.drain(timeout)) for service in self._started]
        try:
            if tasks:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            await settle(*tasks)
            # Here, since what a service raises as it closes goes before the cancellation.
            for task in tasks:
                if not task.cancelled():
                    task.result()

    async def close(self) -> None:
        """Close all."""
        async with AsyncExitStack() as stack:
            for service in self._started:
                stack.push_async_callback(service.close)
