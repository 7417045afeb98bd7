"""Work that has an end: its timer is set when it first waits; and work that is done where all answers are in memory."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aiomilter.auth._waiting import BoundedResolver, Expired, remembered, within
from aiomilter.dns import CachingResolver, Resolver
from aiomilter.testing.resolver import ZoneResolver

LATER = 1e9


async def nothing() -> str:
    return "done"


async def turns() -> str:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return "done"


async def future() -> str:
    loop = asyncio.get_running_loop()
    told = loop.create_future()
    loop.call_soon(told.set_result, "done")
    return str(await told)


async def timer_of_its_own() -> str:
    async with asyncio.timeout(LATER):
        return await future()


@pytest.mark.parametrize("work", [nothing, turns, future, timer_of_its_own])
async def test_work_in_time_gives_its_result(work: Callable[[], Any]) -> None:
    assert await within(LATER, work()) == "done"


async def test_work_that_does_not_wait_sets_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[Any] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_at", lambda *args, **named: timers.append(args))

    assert (await within(LATER, nothing()), timers) == ("done", [])


async def test_work_that_hangs_is_cancelled_at_the_end() -> None:
    ended = []

    async def hangs() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    with pytest.raises(Expired):
        await within(asyncio.get_running_loop().time(), hangs())
    assert ended == ["cancelled"]


@pytest.mark.parametrize("first", [nothing, turns])
async def test_a_time_out_of_the_work_itself_is_not_the_end(first: Callable[[], Awaitable[str]]) -> None:
    async def failing() -> None:
        await first()
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await within(LATER, failing())


async def test_who_waits_for_work_may_be_cancelled() -> None:
    task = asyncio.ensure_future(within(LATER, asyncio.Event().wait()))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def two_questions(resolver: Resolver) -> int:
    answers = [await resolver.lookup(name, "TXT") for name in ("a.example", "b.example")]
    return sum(len(answer.texts) for answer in answers)


@pytest.mark.parametrize(("known", "found", "asked"), [((), None, 0), (("a",), None, 0), (("a", "b"), 2, 2)])
async def test_work_is_done_at_once_if_it_has_to_ask_nothing(
    known: tuple[str, ...], found: int | None, asked: int
) -> None:
    cache = CachingResolver(ZoneResolver({"a.example": {"TXT": "1"}, "b.example": {"TXT": "2"}}))
    for each in known:
        await cache.lookup(f"{each}.example", "TXT")
    misses = cache.counters.misses
    bounded = BoundedResolver(cache)

    assert (remembered(two_questions, bounded), bounded.asked, cache.counters.misses) == (found, asked, misses)
