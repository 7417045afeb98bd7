"""A store that is down costs its callers no more than the deadline, and nothing once that is known."""

import asyncio
import itertools
from collections.abc import Sequence

import pytest

from aiomilter.exceptions import StoreError
from aiomilter.policy.stores import GuardedStore, Mode, Op
from aiomilter.policy.stores.keys import Keys
from tests.clock import on_clock

STEP = (Op.PAIR, (), (1, Mode.LOOK, 0))


class Fake:
    """Answers, fails or hangs."""

    def __init__(self, how: str = "answer") -> None:
        self.how = how
        self.asked = 0

    async def step(self, op: Op, keys: Sequence[bytes], args: Sequence[int]) -> Sequence[int]:
        self.asked += 1
        match self.how:
            case "hang":
                await asyncio.get_running_loop().create_future()
            case "fail":
                raise StoreError("gone")
            case "refuse":
                raise ConnectionRefusedError("refused")
        return ()

    async def ready(self) -> str | None:
        await self.step(*STEP)
        return None

    async def aclose(self) -> None: ...


def guarded(fake: Fake, told: list[str] | None = None) -> GuardedStore:
    on_change = None if told is None else told.append
    return GuardedStore(fake, Keys([b"k" * 16]), on_change=on_change, clock=asyncio.get_running_loop().time)


async def outcome(store: GuardedStore) -> str:
    try:
        await store.step(*STEP)
    except StoreError as error:
        return str(error)
    return ""


@on_clock
async def test_a_step_takes_half_a_second_at_most_and_none_when_that_is_known() -> None:
    fake, loop = Fake("hang"), asyncio.get_running_loop()
    store = guarded(fake)
    began = loop.time()
    assert [await outcome(store) for _ in range(3)] == ["no answer in 0.5 s"] * 3
    assert loop.time() - began == pytest.approx(1.5)
    assert [await outcome(store) for _ in range(100)] == ["the store is down: no answer in 0.5 s"] * 100
    assert loop.time() - began == pytest.approx(1.5)
    assert (fake.asked, store.steps, store.failures) == (3, 103, 103)


@pytest.mark.parametrize(("how", "why"), [("fail", "gone"), ("refuse", "refused")])
@on_clock
async def test_it_is_asked_again_after_1_2_4_and_up_to_30_seconds(how: str, why: str) -> None:
    fake, loop = Fake(how), asyncio.get_running_loop()
    store, times = guarded(fake), []
    for _ in range(2000):
        before = fake.asked
        assert why in await outcome(store)
        if fake.asked > before:
            times.append(loop.time())
        await asyncio.sleep(0.1)
    pauses = [round(b - a) for a, b in itertools.pairwise(times)]
    assert pauses[:8] == [0, 0, 1, 2, 4, 8, 16, 30]
    assert set(pauses[8:]) == {30}


@on_clock
async def test_one_step_tries_while_the_others_fail_at_once() -> None:
    fake = Fake("fail")
    told: list[str] = []
    store = guarded(fake, told)
    for _ in range(3):
        await outcome(store)
    await asyncio.sleep(1)
    fake.how, fake.asked = "hang", 0
    found = await asyncio.gather(*(outcome(store) for _ in range(20)))
    assert fake.asked == 1
    assert sorted(found) == ["no answer in 0.5 s", *["the store is down: gone"] * 19]
    await asyncio.sleep(2)
    fake.how = "answer"
    assert [await outcome(store) for _ in range(3)] == [""] * 3
    assert store.problem == ""
    assert told == ["the store is down: gone", "the store is back"]


@on_clock
async def test_many_that_fail_at_once_are_one_failure_of_the_store() -> None:
    """Else a hundred steps under way would have it asked no more for half a minute."""
    fake = Fake("hang")
    store = guarded(fake)
    await asyncio.gather(*(outcome(store) for _ in range(100)))
    fake.how = "answer"
    await asyncio.sleep(1)
    assert await outcome(store) == ""


@on_clock
async def test_what_was_under_way_when_another_step_succeeded_says_nothing_of_the_store() -> None:
    """Else a crowd at the start, some of whom wait too long, would have it up and down by turns."""
    fake = Fake("hang")
    told: list[str] = []
    store = guarded(fake, told)
    crowd = [asyncio.create_task(outcome(store)) for _ in range(50)]
    await asyncio.sleep(0.4)
    fake.how = "answer"
    assert await outcome(store) == ""
    assert await asyncio.gather(*crowd) == ["no answer in 0.5 s"] * 50
    assert store.problem == ""
    assert told == []


@on_clock
async def test_a_success_between_failures_keeps_it_asked() -> None:
    fake = Fake()
    store = guarded(fake)
    for _ in range(10):
        fake.how = "fail"
        assert [await outcome(store) for _ in range(2)] == ["gone"] * 2
        fake.how = "answer"
        assert await outcome(store) == ""


@on_clock
async def test_a_step_that_is_cancelled_leaves_room_for_another_try() -> None:
    fake = Fake("fail")
    store = guarded(fake)
    for _ in range(3):
        await outcome(store)
    await asyncio.sleep(1)
    fake.how = "hang"
    task = asyncio.create_task(store.step(*STEP))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    fake.how = "answer"
    assert await outcome(store) == ""


@on_clock
async def test_whether_it_is_ready_is_known_in_time() -> None:
    assert await guarded(Fake("hang")).ready() == "no answer in 0.5 s"
    assert await guarded(Fake()).ready() is None
