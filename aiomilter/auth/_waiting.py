"""What is asked for early and wanted late: tasks that nobody has to wait for, and a bound on the questions of a message."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, Generic, TypeVar

from aiomilter.dns import Answer, RdType, Resolver
from aiomilter.exceptions import ResolverError

__all__ = ["BoundedResolver", "Pending"]

Found = TypeVar("Found")

_MAX_QUESTIONS: Final = 100


class BoundedResolver:
    """Asks another resolver, so many questions and no more.

    Args:
        resolver: Who answers.
        most: How many questions it is asked.
    """

    def __init__(self, resolver: Resolver, most: int = _MAX_QUESTIONS) -> None:
        self._resolver = resolver
        self._most = most
        self.asked = 0

    async def lookup(self, name: str, rdtype: RdType, /) -> Answer:
        """Answer one question; see :meth:`aiomilter.dns.Resolver.lookup`."""
        if self.asked >= self._most:
            raise ResolverError(f"more than {self._most} DNS questions for one message")
        self.asked += 1
        return await self._resolver.lookup(name, rdtype)


class Pending(Generic[Found]):
    """A result that is being found out.

    Whoever waits for it may give up without it being given up, and any number may wait.

    Args:
        work: What finds it out; begun at once.  None where there is nothing to find out.
        otherwise: The result if there is nothing to find out, or it is given up.
    """

    __slots__ = ("_task", "otherwise")

    def __init__(self, work: Coroutine[Any, Any, Found] | None, otherwise: Found) -> None:
        self.otherwise: Found = otherwise
        self._task = None if work is None else asyncio.get_running_loop().create_task(work)

    async def get(self) -> Found:
        """Wait for the result."""
        if self._task is not None:
            await asyncio.wait((self._task,))
        return self.now(self.otherwise)

    def now(self, late: Found) -> Found:
        """Return the result; ``late`` if it is not there yet."""
        task = self._task
        if task is None or task.cancelled():
            return self.otherwise
        return task.result() if task.done() else late

    def cancel(self) -> None:
        """Give it up."""
        if self._task is not None:
            self._task.cancel()
