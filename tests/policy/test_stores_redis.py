"""A real Redis: what is kept in it, and each way in which it can fail; a step never takes longer than it may."""

import asyncio
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aiomilter.exceptions import StoreError
from aiomilter.policy import Rate, RateLimit
from aiomilter.policy.stores import GuardedStore, open_store
from aiomilter.policy.stores.operations import SECOND
from aiomilter.policy.stores.redis import RedisStore
from tests.interop.rigs.mta import free_port
from tests.interop.rigs.postgresql import PostgresqlServer
from tests.interop.rigs.redis import RedisServer
from tests.listening import listening_ports
from tests.patience import PATIENCE
from tests.policy.test_stores import KEYS, note, passed_in_processes
from tests.programs import need, program

pytestmark = [pytest.mark.interop, pytest.mark.slow]
SECRET = b"k" * 16


@asynccontextmanager
async def opened(server: RedisServer | PostgresqlServer, **options: Any) -> AsyncIterator[GuardedStore]:
    """Open a store with all the patience there is, unless told otherwise."""
    async with open_store(server.url, **{"keys": [SECRET], "timeout": PATIENCE, **options}) as store:
        yield store


def ask(server: RedisServer, *command: str) -> str:
    done = subprocess.run(
        [program("redis-cli") or "redis-cli", "-p", str(server.port), *command],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


async def outcome(store: GuardedStore) -> str:
    """Return what is wrong with a step; "" if nothing is."""
    rates = RateLimit(store, {"client": Rate(1000, per=60)})
    return (await rates.hit("client", "192.0.2.1")).problem


async def answering(store: GuardedStore) -> None:
    """Wait until a step succeeds."""
    async with asyncio.timeout(PATIENCE):
        while await outcome(store):
            await asyncio.sleep(0.05)


async def test_keys_are_hashes_under_a_prefix_and_expire(redis_server: RedisServer) -> None:
    async with opened(redis_server, prefix="gate:") as store:
        assert await store.ready() is None
        rates = RateLimit(store, {"user": Rate(200, per=3600, burst=50)})
        assert (await rates.hit("user", "bob@example.org")).remaining == 49
    (key,) = ask(redis_server, "keys", "*").split()  # what ready() has written is gone
    assert key == f"gate:rate_user:{KEYS.of('rate_user', 'bob@example.org', '0')[0][-16:].hex()}"
    assert 0 < int(ask(redis_server, "pttl", key)) <= 78_000
    assert "bob" not in ask(redis_server, "get", key)


async def test_scripts_that_the_server_has_forgotten_are_sent_again(redis_server: RedisServer) -> None:
    async with opened(redis_server) as store:
        assert await outcome(store) == ""
        ask(redis_server, "script", "flush")
        assert await outcome(store) == ""


async def test_the_time_is_the_servers(redis_server: RedisServer) -> None:
    async with opened(redis_server) as store:
        await store.step(*note("a"))
        (key,) = ask(redis_server, "keys", "*").split()
        seconds, microseconds = ask(redis_server, "time").split()
        now = int(seconds) * SECOND + int(microseconds)
        assert now - PATIENCE * SECOND < int(ask(redis_server, "get", key).split()[0]) - 100 * SECOND <= now


@pytest.mark.parametrize("stop", ["hang", "end"])
async def test_a_server_that_stops_costs_half_a_second_and_then_nothing(redis_server: RedisServer, stop: str) -> None:
    async with opened(redis_server, timeout=0.5) as store:
        await answering(store)  # the first step connects, and on a busy machine that takes a while
        redis_server.signal(signal.SIGSTOP if stop == "hang" else signal.SIGKILL)
        found = [await outcome(store) for _ in range(3)]
        assert all(found)
        steps = store.store.step
        store.store.step = pytest.fail  # type: ignore[method-assign, assignment]  # nobody may ask now
        assert (await outcome(store)).startswith("the store is down: ")
        store.store.step = steps  # type: ignore[method-assign]
        if stop == "hang":
            redis_server.signal(signal.SIGCONT)
        else:
            redis_server.start()
        await answering(store)
        assert store.problem == ""


async def test_a_black_hole_costs_no_more_than_the_deadline() -> None:
    """It takes connections, and never answers; of many at once none waits for longer than one."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as hole:
        url = f"redis://127.0.0.1:{hole.getsockname()[1]}"
        async with open_store(url, keys=[SECRET], timeout=2) as store:
            assert all(await asyncio.gather(*(outcome(store) for _ in range(50))))
            assert store.problem != ""
        assert len(asyncio.all_tasks()) == 1


async def test_a_server_that_speaks_something_else_is_the_problem() -> None:
    """The client raises what comes to its mind then, not only errors of its own."""

    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"$x\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(odd, "127.0.0.1", 0)
    store = RedisStore([server.sockets[0].getsockname()], timeout=PATIENCE)
    with pytest.raises(StoreError, match="invalid literal"):
        await store.step(*note("a"))
    await store.aclose()
    server.close()


async def test_a_step_that_is_cancelled_ends_whatever_the_client_does(monkeypatch: pytest.MonkeyPatch) -> None:
    store = RedisStore([("127.0.0.1", 1)])
    ended = asyncio.Event()

    async def deaf(commands: object) -> list[object]:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            await ended.wait()
        return [None]

    monkeypatch.setattr(store, "_exchange", deaf)
    task = asyncio.create_task(store.step(*note("a")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    closing = asyncio.create_task(store.aclose())
    await asyncio.sleep(0)
    ended.set()
    await closing
    assert len(asyncio.all_tasks()) == 1


async def test_steps_that_wait_for_an_answer_when_a_store_is_closed_are_told() -> None:
    """Those that were sent, and those that wait for a connection."""
    with socket.create_server(("127.0.0.1", 0)) as hole:
        store = RedisStore([hole.getsockname()], max_connections=1, timeout=PATIENCE)
        tasks = [asyncio.create_task(store.step(*note("a"))) for _ in range(150)]
        await asyncio.sleep(0)
        await store.aclose()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, StoreError) for each in found), found
        with pytest.raises(StoreError, match="the store is closed"):
            await store.step(*note("a"))


async def test_of_too_many_steps_that_wait_some_fail_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:
        store = RedisStore([hole.getsockname()], max_connections=1, timeout=PATIENCE)
        tasks = [asyncio.create_task(store.step(*note("a"))) for _ in range(10_200)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        failed = [task for task in tasks if task.done()]
        assert len(failed) == 200
        assert str(failed[0].exception()) == "Redis: 10000 steps wait already"
        await store.aclose()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_steps_of_one_turn_share_a_connection(redis_server: RedisServer) -> None:
    async with opened(redis_server, max_connections=3) as store:
        found = await asyncio.gather(*(store.step(*note("a")) for _ in range(250)))
        assert sorted(count for (count,) in found) == list(range(250))
        assert len(ask(redis_server, "client", "list").splitlines()) <= 4


async def test_one_that_the_server_refuses_does_not_harm_the_others(redis_server: RedisServer) -> None:
    async with opened(redis_server, prefix="") as store:
        await store.step(*note("a"))
        (key,) = ask(redis_server, "keys", "*").split()
        ask(redis_server, "del", key)
        ask(redis_server, "lpush", key, "no text")
        found = await asyncio.gather(*(store.step(*note(name)) for name in ("x", "a", "y")), return_exceptions=True)
        assert [found[0], found[2]] == [[0], [0]]
        assert "WRONGTYPE" in str(found[1])


@pytest.mark.parametrize(
    ("options", "url", "why"),
    [
        (("--requirepass", "right"), "", "Authentication required"),
        (("--requirepass", "right"), ":wrong@", "invalid username-password pair"),
        (("--maxmemory", "100kb", "--maxmemory-policy", "noeviction"), "", "maxmemory"),
    ],
)
async def test_what_the_server_says_is_the_problem(options: tuple[str, ...], url: str, why: str) -> None:
    need(RedisServer.missing())
    server = RedisServer(*options)
    server.start()
    try:
        where = f"redis://{url}127.0.0.1:{server.port}"
        async with open_store(where, keys=[SECRET], timeout=PATIENCE) as store:
            found = [str(await store.ready()), await outcome(store)]
            assert any(why in problem for problem in found)
            assert "" not in found
            assert not any("\n" in problem for problem in found)
        async with open_store(where, keys=[SECRET], timeout=PATIENCE, password="right") as store:
            assert (await outcome(store) == "") is ("--requirepass" in options)
    finally:
        server.stop()


async def test_a_user_may_be_allowed_no_more_than_it_needs() -> None:
    need(RedisServer.missing())
    rights = "on >right ~gate:* +get +set +del +time +eval +evalsha +select"
    server = RedisServer("--user", "filter", *rights.split(), "--user", "default", "off")
    server.start()
    try:
        where = f"redis://filter@127.0.0.1:{server.port}/2"
        async with open_store(where, keys=[SECRET], timeout=PATIENCE, prefix="gate:", password="right") as store:
            assert await outcome(store) == ""
        async with open_store(where, keys=[SECRET], timeout=PATIENCE, prefix="other:", password="right") as store:
            assert "NOPERM" in (said := await outcome(store)) or "permission" in said
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("host", "ca", "why"),
    [
        ("127.0.0.1", True, ""),
        ("127.0.0.1", False, "CERTIFICATE_VERIFY_FAILED"),
        ("localhost", True, "Hostname mismatch"),
    ],
)
async def test_tls_is_spoken_with_a_server_that_has_a_certificate(
    certificates: Path, host: str, ca: bool, why: str
) -> None:
    need(RedisServer.missing())
    server = RedisServer()
    server.speak_tls(certificates / "cert.pem", certificates / "key.pem")
    server.start()
    try:
        where = f"rediss://{host}:{server.port}/0" + (f"?ca={certificates}/cert.pem" if ca else "")
        async with open_store(where, keys=[SECRET], timeout=PATIENCE) as store:
            found = await outcome(store)
        assert why in found
        assert bool(found) is bool(why)
        async with open_store(f"redis://127.0.0.1:{server.port}", keys=[SECRET], timeout=PATIENCE) as store:
            assert await outcome(store) != ""
    finally:
        server.stop()


def test_of_four_processes_exactly_the_limit_passes(redis_server: RedisServer) -> None:
    url = f"{redis_server.url}/3"
    assert passed_in_processes(url) == (100, 0)


async def test_sentinels_know_the_primary_and_its_successor() -> None:
    need(RedisServer.missing())
    primary, replica = RedisServer(), None
    primary.start()
    replica = RedisServer("--replicaof", "127.0.0.1", str(primary.port))
    replica.start()
    port = free_port()
    configuration = primary.directory / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {primary.directory}\nsentinel monitor mail 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds mail 500\nsentinel failover-timeout mail 2000\n"
    )
    sentinel = subprocess.Popen(
        [program("redis-server") or "", str(configuration), "--sentinel"], stdin=-3, stdout=-3, stderr=-3
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while port not in listening_ports():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        url = f"redis://127.0.0.1:{port}/1?sentinel=mail"
        async with open_store(url, keys=[SECRET], timeout=2) as store:
            while await outcome(store):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            while f"port={replica.port},state=online" not in ask(primary, "info", "replication"):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            while "num-slaves" not in (known := ask_sentinel(port)) or "num-slaves\n0" in known:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            primary.signal(signal.SIGKILL)
            assert await outcome(store) != ""
            while await outcome(store):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            assert ask(replica, "-n", "1", "keys", "*rate_client*").strip()
    finally:
        sentinel.kill()
        sentinel.wait()
        primary.stop()
        replica.stop()


def ask_sentinel(port: int) -> str:
    command = [program("redis-cli") or "", "-p", str(port), "sentinel", "master", "mail"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
