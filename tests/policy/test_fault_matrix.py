"""Each way in which a store fails, with each policy: the stated verdict, in time; and afterwards all is as before.

What a step may take is half a second.  Of several tries the fastest is measured: a busy machine makes any of them slow, and
what waits for longer than it may is slow each time.
"""

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from aiomilter.policy import Authenticated, Greylist, KnownSenders, Rate, RateLimit, Reputation, Traps
from aiomilter.policy.stores import GuardedStore, open_store
from aiomilter.policy.stores.sqlite import SqliteStore
from tests.interop.rigs.postgresql import PostgresqlServer
from tests.interop.rigs.redis import RedisServer
from tests.patience import PATIENCE
from tests.policy.test_stores_redis import SECRET, answering, ask

MOST: Final = 0.6
"""Seconds."""
Do = Callable[[RedisServer], object]


def saved(server: RedisServer, how: str) -> None:
    """Have it save what it keeps, and return when it knows how that went."""
    ask(server, "config", "set", "save", "3600 1000000")  # it takes what it cannot save unless it saves by itself
    ask(server, "bgsave")
    deadline = time.monotonic() + PATIENCE
    while f"rdb_last_bgsave_status:{how}" not in (said := ask(server, "info", "persistence")) or (
        "rdb_bgsave_in_progress:1" in said
    ):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def save_fails(server: RedisServer) -> None:
    """As on a full disk: what it has written cannot be put in its place, where a directory is."""
    (server.directory / "dump.rdb").mkdir()
    saved(server, "err")


def save_succeeds(server: RedisServer) -> None:
    (server.directory / "dump.rdb").rmdir()
    saved(server, "ok")


FAULTS: dict[str, tuple[Do, Do]] = {
    "stopped": (lambda server: server.signal(signal.SIGSTOP), lambda server: server.signal(signal.SIGCONT)),
    "killed": (lambda server: server.signal(signal.SIGKILL), lambda server: server.start()),
    "ended": (lambda server: server.signal(signal.SIGTERM), lambda server: server.start()),
    "paused": (
        lambda server: ask(server, "client", "pause", "600000", "write"),
        lambda server: ask(server, "client", "unpause"),
    ),
    "full": (
        lambda server: ask(server, "config", "set", "maxmemory", "1"),
        lambda server: ask(server, "config", "set", "maxmemory", "0"),
    ),
    "out of disk": (lambda server: save_fails(server), lambda server: save_succeeds(server)),
    "read-only": (
        lambda server: ask(server, "replicaof", "127.0.0.1", "1"),
        lambda server: ask(server, "replicaof", "no", "one"),
    ),
}


class Policies:
    """One of each, with what they have to say without a store."""

    def __init__(self, store: GuardedStore) -> None:
        self.store = store
        self.rates = RateLimit(store, {"client": Rate(5, per=60), "user": Rate(5, per=3600)})
        self.greylist = Greylist(store)
        self.reputation = Reputation(store)
        self.known = KnownSenders(store)
        self.traps = Traps(store, ["trap@example.org"])

    async def verdicts(self) -> tuple[object, ...]:
        """Return what mail gets."""
        sender, user = "alice@client.example", "bob@example.org"
        proved = Authenticated("client.example", "spf")
        return (
            (await self.greylist.check("192.0.2.1", sender, user)).verdict,
            (await self.rates.hit("client", "192.0.2.1")).exceeded,
            (await self.rates.hit("user", "mallory", 4)).exceeded,
            (await self.rates.hit("user", "mallory", 4)).exceeded,
            (await self.reputation.standing("domain", "client.example")).confidence,
            (await self.known.knows(sender, user, proved)).known,
            (await self.traps.caught("192.0.2.1")).caught,
        )

    async def fails_in_time(self) -> None:
        """Fail three times, none of which waits for longer than it may; then it is not asked."""
        loop, times = asyncio.get_running_loop(), []
        for _ in range(3):
            began = loop.time()
            assert (await self.rates.hit("client", "192.0.2.1")).problem != ""
            times.append(loop.time() - began)
        assert min(times) < MOST
        assert self.store.problem != ""


WITHOUT_STORE: Final = ("unavailable", False, False, True, 0.0, False, False)
"""The greylist passes, clients pass, logins are counted here, nothing is known."""


def sockets() -> int:
    """Return how many sockets this process has."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except FileNotFoundError:
            continue
    return found


async def probes(store: GuardedStore) -> int:
    """Return how many steps are tried until one succeeds: the pauses between them are 1 and 2 s."""
    tried, step = 0, store.store.step

    async def counting(*given: Any) -> Any:
        nonlocal tried
        tried += 1
        return await step(*given)

    store.store.step = counting  # type: ignore[method-assign, assignment]  # what is counted
    await answering(store)
    store.store.step = step  # type: ignore[method-assign]
    return tried


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_store_that_fails_costs_no_more_than_its_deadline_and_comes_back(
    redis_server: RedisServer, fault: str
) -> None:
    breaks, mends = FAULTS[fault]
    before, told = sockets(), list[str]()
    async with open_store(redis_server.url, keys=[SECRET], on_change=told.append) as store:
        policies = Policies(store)
        await answering(store)
        async with asyncio.timeout(PATIENCE):
            while await store.ready():
                pass
        breaks(redis_server)
        assert await store.ready()
        await policies.fails_in_time()
        asked = store.steps - store.failures
        assert await policies.verdicts() == WITHOUT_STORE
        assert store.steps - store.failures == asked
        mends(redis_server)
        steps = await probes(store)
        assert steps <= 2
        assert (await policies.greylist.check("192.0.2.9", "a@x.example", "b@y.example")).verdict in (
            "wait",
            "unavailable",
        )
    assert [text.partition(":")[0] for text in told[:2]] == ["the store is down", "the store is back"]
    assert ("MISCONF" in told[0]) is (fault == "out of disk")
    assert len(asyncio.all_tasks()) == 1
    assert sockets() == before


@pytest.mark.interop
@pytest.mark.slow
async def test_a_postgresql_that_is_stopped_costs_no_more_either(postgresql_server: PostgresqlServer) -> None:
    before = sockets()
    async with open_store(postgresql_server.url, keys=[SECRET]) as store:
        policies = Policies(store)
        await answering(store)
        postgresql_server.signal(signal.SIGSTOP)
        try:
            await policies.fails_in_time()
            assert await policies.verdicts() == WITHOUT_STORE
        finally:
            postgresql_server.signal(signal.SIGCONT)
        await answering(store)
    async with asyncio.timeout(PATIENCE):
        while len(asyncio.all_tasks()) > 1 or sockets() > before:
            await asyncio.sleep(0.01)


async def _with_file(tmp_path: Path, breaks: Callable[[SqliteStore], Awaitable[object]]) -> list[str]:
    """Fail as a broken file has it; return what was told."""
    told = list[str]()
    async with open_store(f"sqlite:{tmp_path}/state.db", keys=[SECRET], on_change=told.append) as store:
        policies = Policies(store)
        await answering(store)
        assert isinstance(store.store, SqliteStore)
        await breaks(store.store)
        await policies.fails_in_time()
        assert await policies.verdicts() == WITHOUT_STORE
    return told


@pytest.mark.slow
async def test_a_disk_that_is_full_is_a_problem_of_the_store(tmp_path: Path) -> None:
    async def full(store: SqliteStore) -> None:
        connection = sqlite3.connect(tmp_path / "state.db")
        ((size,),) = connection.execute("pragma page_count")
        connection.close()

        def limited(of: Callable[[], sqlite3.Connection] = store._open) -> sqlite3.Connection:
            opened = of()
            opened.execute(f"pragma max_page_count={size}")
            # What is kept outgrows the pages that there are.
            opened.execute("create table if not exists filling(a)")
            return opened

        store._open = limited  # type: ignore[method-assign]  # the disk of the test

    assert ["is full" in text for text in await _with_file(tmp_path, full)] == [True]


@pytest.mark.slow
async def test_a_file_that_another_process_keeps_locked_is_one(tmp_path: Path) -> None:
    locks = list[sqlite3.Connection]()

    async def locked(store: SqliteStore) -> None:
        locks.append(sqlite3.connect(tmp_path / "state.db", isolation_level=None))
        locks[0].execute("begin immediate")

    assert ["is locked" in text for text in await _with_file(tmp_path, locked)] == [True]
    locks[0].close()
