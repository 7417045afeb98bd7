"""Stores: how they are opened, what they keep and for how long, and what becomes of files that cannot be used."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from aiomilter.exceptions import StoreError
from aiomilter.policy import Rate, RateLimit
from aiomilter.policy.stores import Mode, Op, open_store, urls
from aiomilter.policy.stores.clock import Clock
from aiomilter.policy.stores.keys import Keys
from aiomilter.policy.stores.memory import MemoryStore
from aiomilter.policy.stores.operations import SECOND
from aiomilter.policy.stores.sqlite import SqliteStore
from aiomilter.policy.stores.urls import StoreUrl
from tests.patience import PATIENCE
from tests.policy.store_steps import Moved

KEYS = Keys([b"k" * 16])
KEPT = 100 * SECOND


def note(*names: str, kind: str = "pair", keys: Keys = KEYS, mode: Mode = Mode.DO) -> Any:
    """Return a step that notes some subjects and answers how often they were noted before."""
    return Op.PAIR, [key for name in names for key in keys.of(kind, name)], (keys.each, mode, KEPT)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("memory:", StoreUrl("memory")),
        ("memory:?max_keys=5&per_worker", StoreUrl("memory", query={"max_keys": "5", "per_worker": ""})),
        ("sqlite:state.db", StoreUrl("sqlite", path="state.db")),
        ("sqlite:/var/lib/x?y", StoreUrl("sqlite", path="/var/lib/x?y")),
        ("sqlite:///var/lib/x", StoreUrl("sqlite", path="/var/lib/x")),
        ("redis://localhost", StoreUrl("redis", (("localhost", 6379),))),
        ("REDIS://127.0.0.1:7000/3", StoreUrl("redis", (("127.0.0.1", 7000),), "3")),
        ("rediss://u:p%40ss@[::1]:7000", StoreUrl("rediss", (("::1", 7000),), "", "u", "p@ss")),
        ("redis://[::1]", StoreUrl("redis", (("::1", 6379),))),
        (
            "redis://a,b:7,[::1]/2?sentinel=mail",
            StoreUrl("redis", (("a", 26379), ("b", 7), ("::1", 26379)), "2", query={"sentinel": "mail"}),
        ),
        ("redis+unix:/run/redis.sock", StoreUrl("redis+unix", path="/run/redis.sock")),
        ("postgres://u@db/mail", StoreUrl("postgresql", (("db", 5432),), "mail", "u")),
    ],
)
def test_a_url_says_where_a_store_is(text: str, url: StoreUrl) -> None:
    assert urls.parse(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "memory", "mysql://x", "memory:x", "memory:?x=1", "sqlite:", "sqlite://", "redis://", "redis://:6379",
        "redis://a,b", "redis://a:x", "redis://a:0", "redis://a:65536", "redis://a:99999999", "redis://a/x",
        "redis://a/-1", "redis://a?x=1", "redis://[::1", "redis+unix:", "redis://a\n", "sqlite:a\0b", "redis://a/123456",
    ],
)  # fmt: skip
def test_what_is_no_url_of_a_store_is_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|unknown|Invalid") as caught:
        urls.parse(text)
    assert "\n" not in str(caught.value)


def test_an_error_in_a_url_shows_no_password() -> None:
    with pytest.raises(ValueError, match="port") as caught:
        urls.parse("redis://user:s3cret@host:port")
    assert "s3cret" not in str(caught.value)


async def test_a_shared_store_needs_keys() -> None:
    with pytest.raises(ValueError, match="keys="):
        async with open_store("redis://127.0.0.1"):
            pass


@pytest.mark.parametrize(
    "wrong", [{"keys": [b"short"]}, {"timeout": 0}, {"max_connections": 0}, {"where": "memory:?max_keys=0"}]
)
async def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        async with open_store(**{"where": "memory:", **wrong}):
            pass


def test_nothing_is_imported_before_a_store_is_opened() -> None:
    program = (
        "import sys, aiomilter.policy.stores; print(*{'redis', 'asyncpg', 'sqlite3', 'threading'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert set(found) <= {"threading"}


# Keys


def test_keys_tell_nothing_and_parts_do_not_run_together() -> None:
    made = [
        *KEYS.of("pair", "ab", "c"),
        *KEYS.of("pair", "a", "bc"),
        *KEYS.of("pair", "abc"),
        *KEYS.of("other", "ab", "c"),
    ]
    assert len(set(made)) == 4
    assert {len(key) for key in made} == {len("pair:") + 16, len("other:") + 16}
    assert Keys([b"another secret of"]).of("pair", "abc") != KEYS.of("pair", "abc")
    assert b"k" * 16 not in repr(KEYS).encode()


@pytest.mark.parametrize("secrets", [[], [b""], [b"x" * 15], [b"x" * 16, b"y"]])
def test_secrets_have_16_octets(secrets: list[bytes]) -> None:
    with pytest.raises(ValueError, match="16 octets"):
        Keys(secrets)


async def test_what_was_kept_under_the_old_secret_is_found_and_moves_to_the_new_one() -> None:
    store = MemoryStore(clock=Moved())
    old, new = Keys([b"o" * 16]), Keys([b"n" * 16])
    both = Keys([b"n" * 16, b"o" * 16])
    await store.step(*note("a", "b", keys=old))
    assert await store.step(*note("a", keys=both, mode=Mode.LOOK)) == (1,)
    assert await store.step(*note("a", keys=both)) == (1,)
    assert await store.step(*note("a", "b", keys=new, mode=Mode.LOOK)) == (2, 0)
    assert await store.step(*note("a", "b", keys=old, mode=Mode.LOOK)) == (0, 1)
    await store.step(*note("a", "b", keys=both, mode=Mode.FORGET))
    assert len(store) == 0


# Memory


async def test_what_is_kept_has_an_end() -> None:
    clock = Moved()
    store = MemoryStore(clock=clock)
    await store.step(*note("a"))
    clock.move(99.9)
    assert await store.step(*note("a", mode=Mode.LOOK)) == (1,)
    clock.move(0.1)
    assert await store.step(*note("a", mode=Mode.LOOK)) == (0,)


async def test_a_flood_of_one_kind_pushes_out_its_own() -> None:
    store = MemoryStore(max_keys=100, clock=Moved())
    for number in range(20):
        await store.step(*note(f"user{number}", kind="user"))
    for number in range(1000):
        await store.step(*note(f"client{number}", kind="client"))
    assert len(store) == 100
    assert store.evicted == 920
    assert await store.step(*note(*(f"user{number}" for number in range(20)), kind="user")) == (1,) * 20
    assert await store.step(*note("client919", "client920", "client999", kind="client")) == (0, 1, 1)


async def test_what_was_used_last_stays() -> None:
    store = MemoryStore(max_keys=3, clock=Moved())
    for name in ("a", "b", "c"):
        await store.step(*note(name))
    await store.step(*note("a", mode=Mode.LOOK))
    await store.step(*note("d"))
    assert await store.step(*note("a", "b", "c", "d", mode=Mode.LOOK)) == (1, 0, 1, 1)


def test_a_clock_that_goes_back_stands_still() -> None:
    times, jumps = iter([100, 90, 110, 20, 21, 200]), list[float]()
    clock = Clock(lambda: next(times) * 10**9, jumps.append)
    assert [clock() // SECOND for _ in range(6)] == [100, 100, 110, 110, 111, 290]
    assert jumps == [90.0]


# sqlite


async def test_a_file_is_kept_for_the_next_time_with_its_secret(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    for expected in (2, 1):
        async with open_store(f"sqlite:{path}") as store:
            assert await store.ready() is None
            rates = RateLimit(store, {"user": Rate(3, per=86_400)})
            assert (await rates.hit("user", "bob@example.org")).remaining == expected
    files = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert files == {"state.db": 0o600, "state.db.key": 0o600}
    assert b"bob" not in path.read_bytes()


async def test_a_file_that_is_broken_is_moved_aside(tmp_path: Path) -> None:
    path, told = tmp_path / "state.db", list[str]()
    path.write_bytes(b"no database" * 1000)
    async with open_store(f"sqlite:{path}", on_change=told.append) as store:
        assert await store.ready() is None
    (aside,) = tmp_path.glob("*.broken")
    assert aside.read_bytes() == b"no database" * 1000
    assert len(told) == 1
    assert str(aside) in told[0]


async def test_a_new_file_is_not_moved_aside_by_who_has_seen_the_broken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several workers find it broken at once."""
    path = tmp_path / "state.db"
    path.write_bytes(b"no database" * 1000)
    first, second = SqliteStore(str(path)), SqliteStore(str(path))
    opened, seen, renewed = second._opened, threading.Event(), threading.Event()

    def late() -> sqlite3.Connection:
        try:
            return opened()
        finally:
            seen.set()
            renewed.wait()

    monkeypatch.setattr(second, "_opened", late)
    step = asyncio.create_task(second.step(*note("a")))
    await asyncio.to_thread(seen.wait)
    assert await first.step(*note("a")) == (0,)
    renewed.set()
    assert await step == (1,)
    assert len([*tmp_path.glob("*.broken")]) == 1
    await first.aclose()
    await second.aclose()


async def test_what_becomes_of_a_file_is_told_in_the_loop(tmp_path: Path) -> None:
    """Not in the thread: what asyncio programs call is not for threads, and an error there would end it."""
    path, told = tmp_path / "state.db", list[asyncio.AbstractEventLoop]()
    path.write_bytes(b"no database" * 1000)
    async with open_store(f"sqlite:{path}", on_change=lambda what: told.append(asyncio.get_running_loop())) as store:
        assert await store.ready() is None
    assert told == [asyncio.get_running_loop()]


async def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    connection = sqlite3.connect(path)
    connection.execute("pragma user_version=99")
    connection.close()
    async with open_store(f"sqlite:{path}", keys=[b"k" * 16]) as store:
        assert "version 1, found 99" in str(await store.ready())


@pytest.mark.parametrize("path", ["nowhere/state.db", "."])
async def test_a_file_that_cannot_be_opened_is_a_store_error(tmp_path: Path, path: str) -> None:
    async with open_store(f"sqlite:{tmp_path / path}", keys=[b"k" * 16]) as store:
        assert str(await store.ready()).startswith(str(tmp_path / path))
        with pytest.raises(StoreError):
            await store.step(*note("a"))


async def test_a_step_waits_no_longer_for_another_process_than_it_may(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = SqliteStore(str(path))
    await store.step(*note("a"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(StoreError, match="locked"):
        await store.step(*note("a"))
    other.execute("rollback")
    assert await store.step(*note("a")) == (1,)
    other.close()
    await store.aclose()


async def test_a_row_that_makes_no_sense_is_a_store_error(tmp_path: Path) -> None:
    """And not the end of the thread that does all steps."""
    path = tmp_path / "state.db"
    store = SqliteStore(str(path))
    await store.step(*note("a"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("update state set expiry = 'soon'")
    other.close()
    with pytest.raises(StoreError, match="not supported between"):
        await asyncio.wait_for(store.step(*note("a")), PATIENCE)
    assert await store.step(*note("b")) == (0,)
    await store.aclose()


async def test_steps_that_wait_together_are_done_in_order(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "state.db"))
    found = await asyncio.gather(*(store.step(*note("a")) for _ in range(1200)))
    assert [count for (count,) in found] == list(range(1200))
    await store.aclose()
    with pytest.raises(StoreError, match="closed"):
        await store.step(*note("a"))


async def test_old_rows_are_swept_away(tmp_path: Path) -> None:
    clock, path = Moved(), tmp_path / "state.db"
    store = SqliteStore(str(path), clock=clock)
    await store.step(*note(*map(str, range(1500))))
    # While there are more than are swept at once the next step goes on; else they would come faster than they go.
    for later, left in ((101, 501), (0, 1)):
        clock.move(later)
        await store.step(*note("last"))
        rows = sqlite3.connect(path)
        assert rows.execute("select count(*) from state").fetchone() == (left,)
        rows.close()
    await store.aclose()


async def test_a_step_that_is_cancelled_does_no_harm(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "state.db"))
    await store.step(*note("a"))
    tasks = [asyncio.create_task(store.step(*note("b"))) for _ in range(50)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    assert await store.step(*note("a")) == (1,)
    await store.aclose()


WORKER = """
import asyncio, itertools, sys
rounds = int(sys.argv[2])
from aiomilter.policy import Greylist, KnownSenders, Rate, RateLimit, Reputation
from aiomilter.policy.stores import open_store

async def main():
    async with open_store(sys.argv[1], keys=[b"k" * 16], timeout=300) as store:
        rates = RateLimit(store, {"user": Rate(100, per=86_400 * 300)}, on_failure="tempfail")
        for one in range(rounds):
            users = (rates.hit("user", f"bob{one}") for _ in range(200 if rounds == 1 else 1000))
            found = [state for some in batched(users) for state in await asyncio.gather(*some)]
            print(sum(not state.exceeded for state in found), sum(bool(state.problem) for state in found), flush=True)

def batched(users):
    while some := list(itertools.islice(users, 50)):
        yield some

asyncio.run(main())
"""


def passed_in_processes(url: str, processes: int = 4) -> tuple[int, int]:
    """Return what passes of a rate of 100 where processes try 200 times each; and how often the store failed."""
    ((passed, failed),) = passed_in_rounds(url, 1, processes)
    return passed, failed


def passed_in_rounds(url: str, rounds: int, processes: int = 4) -> list[tuple[int, int]]:
    """Return the same of several logins, one after the other, with 1000 tries of each process."""
    command = [sys.executable, "-c", WORKER, url, str(rounds)]
    running = [subprocess.Popen(command, stdout=-1, text=True, env={**os.environ}) for _ in range(processes)]
    found = [[tuple(map(int, line.split())) for line in process.communicate()[0].splitlines()] for process in running]
    return [(sum(one[0] for one in each), sum(one[1] for one in each)) for each in zip(*found, strict=True)]


@pytest.mark.slow
def test_of_four_processes_with_a_file_exactly_the_limit_passes(tmp_path: Path) -> None:
    passed, failed = passed_in_processes(f"sqlite:{tmp_path / 'state.db'}")
    assert passed == 100
    assert failed < 400  # another process may have kept it locked for too long
