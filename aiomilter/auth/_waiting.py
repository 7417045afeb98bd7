"""Results that are asked for early and needed late, and a bound on the DNS questions of a message."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, Generic, TypeVar

from aiomilter.dns import Answer, RdType, Resolver
from aiomilter.exceptions import ResolverError

__all__ = ["BoundedResolver", "Expired", "Pending", "remembered", "until", "within"]

Found = TypeVar("Found")

_MAX_QUESTIONS: Final = 100


class Expired(Exception):
    """The time for some work is over."""


class _NotInMemory(Exception):
    """A question has to be asked; it never leaves this module."""


class BoundedResolver:
    """Asks another resolver, so many questions and no more.

    Args:
        resolver: Who answers.
        most: How many questions it is asked.
    """

    def __init__(self, resolver: Resolver, most: int = _MAX_QUESTIONS) -> None:
        self._resolver = resolver
        self._most = most
        self._remembers = getattr(resolver, "lookup_cached", None)
        self.asked = 0

    async def lookup(self, name: str, rdtype: RdType, /) -> Answer:
        """Answer one question; see :meth:`aiomilter.dns.Resolver.lookup`."""
        if self.asked >= self._most:
            raise ResolverError(f"more than {self._most} DNS questions for one message")
        self.asked += 1
        return await self._resolver.lookup(name, rdtype)

    def lookup_cached(self, name: str, rdtype: RdType, /) -> Answer | None:
        """Return an answer that is in memory, which counts as a question; None if it has to be asked for.

        See :meth:`aiomilter.dns.CachingResolver.lookup_cached`.
        """
        if self._remembers is None or self.asked >= self._most:
            return None
        answer: Answer | None = self._remembers(name, rdtype)
        if answer is not None:
            self.asked += 1
        return answer


class Pending(Generic[Found]):
    """A result that a task is working out.

    Any number of callers may wait for it; cancelling one of them does not cancel the task.

    Args:
        work: Works it out; started at once.  None if there is nothing to do.
        otherwise: Returns the result if there is nothing to do, or the task was cancelled.
    """

    __slots__ = ("_task", "otherwise")

    def __init__(self, work: Coroutine[Any, Any, Found] | None, otherwise: Callable[[], Found]) -> None:
        self.otherwise: Callable[[], Found] = otherwise
        self._task = None if work is None else asyncio.get_running_loop().create_task(work)

    @property
    def task(self) -> "asyncio.Task[Found] | None":
        """The task, if there is one that has not ended."""
        return None if self._task is None or self._task.done() else self._task

    async def get(self) -> Found:
        """Wait for the result."""
        if self._task is not None:
            await asyncio.wait((self._task,))
        return self.now(self.otherwise)

    def now(self, late: Callable[[], Found]) -> Found:
        """Return the result; what ``late`` returns if it is not there yet."""
        task = self._task
        if task is None or task.cancelled():
            return self.otherwise()
        return task.result() if task.done() else late()

    def cancel(self) -> None:
        """Cancel the task."""
        if self._task is not None:
            self._task.cancel()


async def until(end: float, *waited: Pending[Any]) -> None:
    """Wait until all of some results are there, or a time of the event loop's clock has come."""
    tasks = [each.task for each in waited if each.task is not None]
    if tasks:
        await asyncio.wait(tasks, timeout=max(0.0, end - asyncio.get_running_loop().time()))


async def within(end: float, work: Coroutine[Any, Any, Found]) -> Found:
    """Do some work, until a time of the event loop's clock has come.

    The timer is set when the work first waits: where all answers are in memory it never does, and a timer costs as much as
    most of the work (``benchmarks auth``).

    Args:
        end: The time, in seconds.
        work: The work, not begun.
    Raises:
        Expired: The time has come; the work was cancelled.
    """
    try:
        waited = work.send(None)
    except StopIteration as done:
        found: Found = done.value
        return found
    try:
        async with asyncio.timeout_at(end) as deadline:
            return await _Begun(work, waited)
    except TimeoutError as error:
        if deadline.expired():
            raise Expired from error
        raise


class _Begun(Generator[Any, Any, Found]):
    """Work that has begun and waits, to be awaited from there on.

    Args:
        work: The work.
        waited: What it waits for.
    """

    def __init__(self, work: Coroutine[Any, Any, Found], waited: object) -> None:
        self._work = work
        self._waited = waited
        self._told = False

    def __await__(self) -> Generator[Any, Any, Found]:
        return self

    def send(self, value: object, /) -> object:
        if self._told:
            return self._work.send(value)
        self._told = True
        return self._waited

    def throw(self, *error: Any) -> object:
        return self._work.throw(*error)


class _Memory:
    """Answers with what another resolver has in memory, and asks nothing."""

    def __init__(self, resolver: BoundedResolver) -> None:
        self._remembers = resolver.lookup_cached

    async def lookup(self, name: str, rdtype: RdType, /) -> Answer:
        answer = self._remembers(name, rdtype)
        if answer is None:
            raise _NotInMemory
        return answer


def remembered(work: Callable[[Resolver], Coroutine[Any, Any, Found]], resolver: BoundedResolver) -> Found | None:
    """Return what some work finds if it has to ask nothing, since all answers are in memory; None if it has to.

    Args:
        work: Begins the work, which waits for nothing but answers of the resolver it is given.
        resolver: Whose memory that is.
    """
    asked = resolver.asked
    begun = work(_Memory(resolver))
    try:
        begun.send(None)
    except StopIteration as done:
        found: Found = done.value
        return found
    except _NotInMemory:
        pass
    # It is done again, and so are its questions.
    begun.close()
    resolver.asked = asked
    return None
