"""What stores keep is looked at and moved to any other, and means the same there."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aiomilter.exceptions import StoreError
from aiomilter.policy.stores import Mode, Op, open_store
from aiomilter.policy.stores.moving import Movable, Row, line, read_lines
from aiomilter.policy.stores.operations import State
from aiomilter.policy.stores.sqlite import SqliteStore
from tests.interop.rigs.postgresql import PostgresqlServer
from tests.interop.rigs.redis import RedisServer
from tests.patience import PATIENCE
from tests.policy.test_stores import KEYS, note

DAY = 86_400 * 1_000_000


async def filled(url: str, *, prefix: str = "moved:") -> AsyncIterator[Movable]:
    """Have a store in which 2,500 subjects and a rate are kept, beside what is another's."""
    async with open_store(url, keys=[b"k" * 16], prefix=prefix + "other:", timeout=PATIENCE) as store:
        await store.step(*note("another"))
    async with open_store(url, keys=[b"k" * 16], prefix=prefix, timeout=PATIENCE) as store:
        for start in range(0, 2500, 100):
            await store.step(*note(*map(str, range(start, start + 100)), kind="known"))
        await store.step(Op.GCRA, KEYS.of("rate_user", "bob", "0"), (1, Mode.DO, 1, DAY, 100 * DAY))
        assert isinstance(store.store, Movable)
        yield store.store


async def both_ways(source: str, target: str) -> None:
    async for store in filled(source):
        rows = [row async for some in store.rows() for row in some]
        assert [*read_lines(map(line, rows))] == rows
        ours = [row for row in rows if row.key.startswith((b"known:", b"rate_user:"))]
        assert len({row.key for row in ours}) == len(ours) == 2501
        wanted = [*KEYS.of("known", "7"), *KEYS.of("known", "none"), *KEYS.of("rate_user", "bob", "0")]
        seven, none, bob = await store.fetch(wanted)
        assert (seven and seven.a, none, bob and bob.a == bob.expiry) == (1, None, True)
    async with open_store(target, keys=[b"k" * 16], prefix="new:", timeout=PATIENCE) as other:
        moved = other.store
        assert isinstance(moved, Movable)
        assert await moved.load(ours) == len(ours)
        assert await moved.load(ours) == 0
        there = [row async for some in moved.rows() for row in some]
        assert sorted(there) == sorted(ours)
        assert [*await other.step(*note("7", "none", kind="known"))] == [1, 0]
        # What is there and lasts longer stays.
        assert await moved.load([Row(ours[0].key, ours[0].state._replace(expiry=ours[0].state.expiry - 1))]) == 0
        assert await moved.load([Row(ours[0].key, ours[0].state._replace(expiry=ours[0].state.expiry + DAY))]) == 1


@pytest.mark.interop
@pytest.mark.slow
async def test_from_redis_to_postgresql_and_on_to_a_file(
    redis_server: RedisServer, postgresql_server: PostgresqlServer, tmp_path: Path
) -> None:
    await both_ways(redis_server.url, postgresql_server.url)
    await both_ways(postgresql_server.url, f"sqlite:{tmp_path}/state.db")


@pytest.mark.interop
@pytest.mark.slow
async def test_from_a_file_to_redis(redis_server: RedisServer, tmp_path: Path) -> None:
    await both_ways(f"sqlite:{tmp_path}/state.db", redis_server.url)


@pytest.mark.interop
@pytest.mark.slow
async def test_a_prefix_with_what_scan_takes_for_patterns_has_its_own_keys_alone(redis_server: RedisServer) -> None:
    async for store in filled(redis_server.url, prefix="a*b?[c]^:"):
        rows = [row async for some in store.rows() for row in some]
        assert len({row.key for row in rows}) == 2501


async def test_a_file_that_cannot_be_read_is_a_store_error(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "no" / "state.db"))
    for work in (store.fetch([]), store.load([]), anext(store.rows())):
        with pytest.raises(StoreError, match="No such file"):
            await work


@pytest.mark.interop
@pytest.mark.slow
async def test_what_has_expired_in_redis_is_not_there(redis_server: RedisServer) -> None:
    """It is removed a minute later."""
    async with open_store(redis_server.url, keys=[b"k" * 16], timeout=PATIENCE) as store:
        await store.step(Op.PAIR, KEYS.of("pair", "a"), (1, Mode.DO, 1))
        assert isinstance(store.store, Movable)
        assert await store.store.fetch(KEYS.of("pair", "a")) == [None]
        assert [row async for some in store.store.rows() for row in some] == []


def test_a_line_is_read_as_it_was_written() -> None:
    row = Row(KEYS.of("rate_user", "bob")[0], State(5, 4, 3, 2))
    assert [*read_lines([line(row)])] == [row]


@pytest.mark.parametrize("text", ["", "x", "grey xyz 1 2 3 4", f"Grey {'0' * 32} 1 2 3 4", f"grey {'0' * 32} 1 2 3 -4"])
def test_what_is_no_such_line_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line 2: expected"):
        [*read_lines([text])]
