"""Steps mean the same on all stores."""

import asyncio
import itertools
import os
import tempfile
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.policy.stores.operations import Store
from tests.interop.rigs import valkey
from tests.interop.rigs.postgresql import PostgresqlServer
from tests.interop.rigs.redis import RedisServer
from tests.policy.store_steps import Moved, Step, answers, memory, postgresql, redis, sqlite, steps
from tests.policy.test_stores import passed_in_rounds

_NUMBERS = itertools.count()
ROUNDS = int(os.environ.get("ROUNDS", "100"))


async def both(tried: list[Step], other: AbstractAsyncContextManager[Store], clock: Moved) -> None:
    """Try the same on a store in memory and on another."""
    ours = Moved()
    async with memory(ours) as model, other as store:
        assert await answers(store, clock, tried) == await answers(model, ours, tried)


@given(st.lists(steps(), max_size=30))
@settings(max_examples=60)
@pytest.mark.slow
def test_sqlite_answers_as_memory_does(tried: list[Step]) -> None:
    clock = Moved()
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(both(tried, sqlite(clock, Path(directory) / "s"), clock))


@pytest.mark.interop
@pytest.mark.slow
def test_redis_answers_as_memory_does(redis_server: RedisServer) -> None:
    @given(st.lists(steps(), max_size=30))
    @settings(max_examples=100)
    def agrees(tried: list[Step]) -> None:
        clock = Moved()
        asyncio.run(both(tried, redis(clock, redis_server.port, f"{next(_NUMBERS)}:"), clock))

    agrees()


@pytest.mark.interop
@pytest.mark.slow
def test_valkey_answers_as_memory_does() -> None:
    """Debian 12 has it in its backports alone: where they cannot be had, not even CI has it."""
    if (lacking := valkey.missing()) is not None:
        pytest.skip(lacking)
    server = RedisServer(name=str(valkey.SERVER))
    server.start()

    @given(st.lists(steps(), max_size=30))
    @settings(max_examples=40)
    def agrees(tried: list[Step]) -> None:
        clock = Moved()
        asyncio.run(both(tried, redis(clock, server.port, f"{next(_NUMBERS)}:"), clock))

    try:
        agrees()
    finally:
        server.stop()


@pytest.mark.interop
@pytest.mark.slow
def test_postgresql_answers_as_memory_does(postgresql_server: PostgresqlServer) -> None:
    @given(st.lists(steps(), max_size=30))
    @settings(max_examples=60)
    def agrees(tried: list[Step]) -> None:
        clock = Moved()
        asyncio.run(both(tried, postgresql(clock, postgresql_server.port, f"{next(_NUMBERS)}:"), clock))

    agrees()


@pytest.mark.long
@pytest.mark.interop
def test_of_four_processes_exactly_the_limit_passes_a_hundred_times(
    redis_server: RedisServer, postgresql_server: PostgresqlServer, tmp_path: Path
) -> None:
    """A thousand tries of each process, at once."""
    for url in (redis_server.url, postgresql_server.url, f"sqlite:{tmp_path}/state.db"):
        rounds = passed_in_rounds(url, ROUNDS)
        assert len(rounds) == ROUNDS
        # A step that another process has kept waiting for too long is not counted, and does not pass.
        assert {passed for passed, _ in rounds} == {100}, url
