"""Mail that comes in from many sessions while something happens to the filter."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from tests.interop.scene import Scene
from tests.patience import PATIENCE

__all__ = ["Traffic", "flowing"]


class Traffic(ABC):
    """Sessions that each bring a message, again and again."""

    def __init__(self) -> None:
        self.enough = False
        self._news = asyncio.Event()

    async def session(self, port: int) -> None:
        """Bring messages until it is enough."""
        while not self.enough:
            await self.bring(port)
            self._news.set()

    @abstractmethod
    async def bring(self, port: int) -> None:
        """Bring a message, and note what became of it."""

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until what was brought is enough for something."""
        async with asyncio.timeout(PATIENCE):
            while not done():
                self._news.clear()
                await self._news.wait()


_Kind = TypeVar("_Kind", bound=Traffic)


@asynccontextmanager
async def flowing(traffic: _Kind, scene: Scene, sessions: int) -> AsyncIterator[_Kind]:
    """Have mail come in."""
    tasks = [asyncio.create_task(traffic.session(scene.port)) for _ in range(sessions)]
    try:
        yield traffic
    finally:
        traffic.enough = True
        await asyncio.gather(*tasks)
