"""Stores for tests: on a clock that the test moves, and steps to try on all of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from hypothesis import strategies as st

from aiomilter.policy.stores.keys import Keys
from aiomilter.policy.stores.memory import MemoryStore
from aiomilter.policy.stores.operations import SECOND, Mode, Op, Store

NOW: Final = 1_800_000_000 * SECOND
DAY: Final = 86_400 * SECOND
OLD: Final = Keys([b"o" * 16])
ROTATED: Final = Keys([b"n" * 16, b"o" * 16])


class Moved:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


class Step(NamedTuple):
    """One step of a test: first the clock is moved."""

    later: int
    op: Op
    keys: tuple[bytes, ...]
    args: tuple[int, ...]


_TIMES = st.sampled_from([0, 0, 1, 999_999, SECOND, 60 * SECOND, 300 * SECOND, 3600 * SECOND, DAY, 40 * DAY])
_TIMES |= st.integers(0, 100 * SECOND)
_MODES = st.sampled_from([Mode.DO] * 8 + [Mode.LOOK, Mode.FORGET])
_NAMES = st.integers(0, 2).map(str)


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """Draw a step on a few subjects, with the old secret or after its rotation."""
    op, keys = draw(st.sampled_from(Op)), draw(st.sampled_from([OLD, ROTATED]))
    number = 1
    match op:
        case Op.GCRA:
            number = draw(st.integers(1, 3))
            cost = draw(st.integers(0, 12))
            rates = st.tuples(st.sampled_from([1, 7, 1000, SECOND, 18 * SECOND, 3 * DAY]), st.integers(1, 11))
            args = [cost]
            for _ in range(number):
                interval, burst = draw(rates)
                args += (interval, interval * burst)
        case Op.COUNT:
            half_life = draw(st.sampled_from([1, 60, 3600, 30 * 86_400]))
            added = st.sampled_from([0, 1, 1000, 17, 2**31 - 1])
            args = [half_life, 300 * DAY, draw(added), draw(added)]
        case Op.PAIR:
            number = draw(st.integers(0, 3))
            args = [draw(st.sampled_from([SECOND, 60 * DAY]))]
        case Op.GREY:
            ways = draw(st.integers(1, 2))
            number = ways + draw(st.integers(0, 1))
            args = [300 * SECOND, 2 * DAY, 36 * DAY, draw(st.integers(0, 3)), ways]
    names = draw(st.lists(_NAMES, min_size=number, max_size=number, unique=True))
    kind = f"op_{op.name.lower()}"
    places = tuple(
        key for place, name in enumerate(names) for key in keys.of(kind, name, str(place if op is Op.GREY else 0))
    )
    return Step(draw(_TIMES), op, places, (keys.each, int(draw(_MODES)), *args))


@asynccontextmanager
async def memory(clock: Moved) -> AsyncIterator[Store]:
    yield MemoryStore(clock=clock)


@asynccontextmanager
async def sqlite(clock: Moved, path: Path) -> AsyncIterator[Store]:
    from aiomilter.policy.stores.sqlite import SqliteStore

    store = SqliteStore(str(path), clock=clock)
    yield store
    await store.aclose()


@asynccontextmanager
async def redis(clock: Moved, port: int, prefix: str) -> AsyncIterator[Store]:
    from aiomilter.policy.stores.redis import RedisStore

    store = RedisStore([("127.0.0.1", port)], clock=clock, prefix=prefix, timeout=300)
    yield store
    await store.aclose()


@asynccontextmanager
async def postgresql(clock: Moved, port: int, prefix: str) -> AsyncIterator[Store]:
    from aiomilter.policy.stores.postgresql import PostgresqlStore

    where = {"database": "postgres", "username": "filter", "prefix": prefix}
    store = PostgresqlStore("127.0.0.1", port, clock=clock, timeout=300, max_connections=1, **where)
    yield store
    await store.aclose()


async def answers(store: Store, clock: Moved, tried: list[Step]) -> list[list[int]]:
    """Return what a store answers to some steps."""
    found = []
    for step in tried:
        clock.now += step.later
        found.append(list(await store.step(step.op, step.keys, step.args)))
    return found
