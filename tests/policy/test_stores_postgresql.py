"""A real PostgreSQL: what is kept in it, and each way in which it can fail; a step never takes longer than it may."""

import asyncio
import signal
import socket
import time
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it has no types
import pytest

from aiomilter.policy.stores import open_store
from aiomilter.policy.stores.postgresql import PostgresqlStore
from tests.interop.rigs.postgresql import PostgresqlServer
from tests.patience import PATIENCE
from tests.policy.test_stores import KEYS, note, passed_in_processes
from tests.policy.test_stores_redis import SECRET, answering, opened, outcome

CONNECTIONS = "from pg_stat_activity"
pytestmark = [pytest.mark.interop, pytest.mark.slow]


async def ask(server: PostgresqlServer, query: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(server.url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


def test_of_four_processes_exactly_the_limit_passes(postgresql_server: PostgresqlServer) -> None:
    """All of them find no tables, and make them."""
    assert passed_in_processes(postgresql_server.url) == (100, 0)


async def test_only_rates_are_lost_where_the_server_crashes(postgresql_server: PostgresqlServer) -> None:
    async with opened(postgresql_server, prefix="crash:") as store:
        assert await store.ready() is None
        assert await outcome(store) == ""
        await store.step(*note("a"))
    kinds = await ask(
        postgresql_server, "select relname, relpersistence from pg_class where relname like 'aiomilter_%_1'"
    )
    assert sorted(kinds) == [("aiomilter_rates_1", b"u"), ("aiomilter_state_1", b"p")]
    rows = await ask(postgresql_server, "select key from aiomilter_state_1 where key like 'crash:pair:%'")
    assert [len(key) for (key,) in rows] == [len("crash:pair:") + 16]


async def test_old_rows_are_swept_away(postgresql_server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(postgresql_server, prefix="sweep:") as store:
        await store.step(*note("a", "b"))
        await ask(postgresql_server, "update aiomilter_state_1 set expiry = 1 where key like 'sweep:%'")
        monkeypatch.setattr(store.store, "_swept", {"aiomilter_state_1": -1e9})
        await store.step(*note("c"))
    assert await ask(postgresql_server, "select count(*) from aiomilter_state_1 where key like 'sweep:%'") == [(1,)]


async def test_a_sweep_of_many_goes_on_with_the_next_step(
    postgresql_server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else rows would come faster than they go."""
    async with opened(postgresql_server, prefix="many:") as store:
        await store.step(*note("a"))
        many = "select convert_to('many:' || n, 'UTF8'), 1, 0, 0, 0 from generate_series(1, 1500) n"
        await ask(postgresql_server, f"insert into aiomilter_state_1 {many}")
        monkeypatch.setattr(store.store, "_swept", {"aiomilter_state_1": -1e9})
        for _ in range(2):
            await store.step(*note("a"))
    assert await ask(postgresql_server, "select count(*) from aiomilter_state_1 where key like 'many:%'") == [(1,)]


@pytest.mark.parametrize("stop", ["hang", "end"])
async def test_a_server_that_stops_costs_half_a_second_and_then_nothing(
    postgresql_server: PostgresqlServer, stop: str
) -> None:
    before = len(asyncio.all_tasks())
    async with opened(postgresql_server, timeout=0.5) as store:
        await answering(store)  # the first step connects, and on a busy machine that takes a while
        postgresql_server.signal(signal.SIGSTOP if stop == "hang" else signal.SIGKILL)
        try:
            found = [await outcome(store) for _ in range(3)]
            assert all(found)
            assert (await outcome(store)).startswith("the store is down: ")
        finally:
            if stop == "hang":
                postgresql_server.signal(signal.SIGCONT)
            else:
                postgresql_server.start()
        await answering(store)
        assert store.problem == ""
    deadline = time.monotonic() + PATIENCE
    while len(asyncio.all_tasks()) > before:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_a_query_that_is_left_leaves_no_connection(postgresql_server: PostgresqlServer) -> None:
    """As a step does, whose connection may be one to a server that hangs; here the store was closed meanwhile."""
    other = await asyncpg.connect(postgresql_server.url)
    async with other.transaction():
        async with opened(postgresql_server) as store:
            assert await store.ready() is None
            assert isinstance(store.store, PostgresqlStore)
            await other.execute("lock table aiomilter_rates_1")
            looking = asyncio.create_task(store.store.fetch(KEYS.of("pair", "a")))
            async with asyncio.timeout(PATIENCE):
                while not await other.fetchval(f"select count(*) {CONNECTIONS} where wait_event_type = 'Lock'"):
                    await asyncio.sleep(0.01)
        looking.cancel()
        await asyncio.wait([looking])
    async with asyncio.timeout(PATIENCE):
        while await other.fetchval(
            f"select count(*) {CONNECTIONS} where query like '%any($1)%' and pid <> pg_backend_pid()"
        ):
            await asyncio.sleep(0.01)
    await other.close()


async def test_a_black_hole_costs_no_more_than_the_deadline() -> None:
    """It takes connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as hole:
        url = f"postgresql://filter@127.0.0.1:{hole.getsockname()[1]}/postgres"
        async with open_store(url, keys=[SECRET], timeout=0.2) as store:
            began = asyncio.get_running_loop().time()
            assert await outcome(store) != ""
            assert asyncio.get_running_loop().time() - began < PATIENCE / 10


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("/postgres", "/nowhere"), 'database "nowhere" does not exist'),
        (("filter@", "eve@"), 'role "eve" does not exist'),
    ],
)
async def test_what_the_server_says_is_the_problem(
    postgresql_server: PostgresqlServer, change: tuple[str, str], why: str
) -> None:
    async with open_store(postgresql_server.url.replace(*change), keys=[SECRET], timeout=PATIENCE) as store:
        assert await store.ready() == f"PostgreSQL: {why}"
        assert await outcome(store) == f"PostgreSQL: {why}"
