"""Of 10,000 addresses that policies are told, none stands in a file, a dump, a server's log or our own, or in an error."""

import asyncio
import logging
from pathlib import Path
from typing import Any, Final

import pytest

from aiomilter._cli import main
from aiomilter.policy import Greylist, KnownSenders, Rate, RateLimit, Reputation, Traps
from aiomilter.policy.stores import GuardedStore, open_store
from tests.interop.rigs.postgresql import PostgresqlServer
from tests.interop.rigs.redis import RedisServer
from tests.patience import PATIENCE
from tests.policy.test_stores_redis import SECRET, ask

pytestmark = pytest.mark.slow
PLANTED: Final = 10_000
_TOGETHER: Final = 250


async def plant(store: GuardedStore, count: int = PLANTED) -> set[str]:
    """Tell policies of a login, a sender, a client and domains by number, and return what was the problem."""
    rates = RateLimit(store, {"user": Rate(5, per=60)}, on_failure="tempfail")
    greylist, known, reputation = Greylist(store), KnownSenders(store), Reputation(store)
    traps = Traps(store, ["@traps.example"])

    async def one(number: int) -> list[str]:
        user, other = f"planted{number}@ours.example", f"planted{number}@theirs.example"
        client = f"203.{number >> 8}.{number & 255}.77"
        # Each is told to one policy: all of them see thousands.
        match number % 5:
            case 0:
                return [(await rates.hit("user", user)).problem]
            case 1:
                return [(await greylist.check(client, other, user, domain="theirs.example")).problem]
            case 2:
                return [await known.note(user, [other])]
            case 3:
                return [(await reputation.record("ip_net", client, True)).problem]
            case _:
                bad = await reputation.record("domain", f"planted{number}.example", False)
                return [bad.problem, (await traps.note(client)).problem]

    found: set[str] = set()
    for start in range(0, count, _TOGETHER):
        for problems in await asyncio.gather(*map(one, range(start, start + _TOGETHER))):
            found.update(problems)
    return found - {""}


def readable(octets: bytes) -> list[bytes]:
    """Return what was planted and can be read."""
    return [word for word in (b"planted", b".example", b"203.", b"traps") if word in octets]


def files(*directories: Path) -> bytes:
    """Return all that is in some directories."""
    return b"".join(path.read_bytes() for each in directories for path in each.rglob("*") if path.is_file())


async def test_no_address_stands_in_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_store(f"sqlite:{tmp_path / 'state.db'}", timeout=PATIENCE, on_change=logging.warning) as store:
        assert await plant(store) == set()
        octets = files(tmp_path)  # with the log that is written ahead
    assert len(octets) > 1_000_000
    assert readable(octets + files(tmp_path) + caplog.text.encode()) == []


@pytest.mark.interop
async def test_no_address_stands_in_a_dump_or_log_of_redis(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ask(redis_server, "config", "set", "slowlog-log-slower-than", "0", "slowlog-max-len", "20000")
    async with open_store(redis_server.url, keys=[SECRET], timeout=PATIENCE) as store:
        assert await plant(store) == set()
    ask(redis_server, "save")
    octets = files(redis_server.directory) + ask(redis_server, "slowlog", "get", "20000").encode()
    assert len(octets) > 1_000_000
    assert readable(octets + caplog.text.encode()) == []


@pytest.mark.interop
async def test_no_address_stands_in_the_files_of_postgresql(postgresql_server: PostgresqlServer) -> None:
    async with open_store(postgresql_server.url, keys=[SECRET], timeout=PATIENCE, prefix="hidden:") as store:
        assert await plant(store, PLANTED // 4) == set()
    # What an installation holds before, its samples among it, has names such as .example.
    kept = files(postgresql_server.directory)
    assert kept.count(b"hidden:") > PLANTED // 4
    assert [word for word in readable(kept) if word in (b"planted", b"203.")] == []


async def test_no_address_stands_in_what_is_said_of_a_store_that_is_down(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    for url in ("redis://127.0.0.1:1", "postgresql://u:s3cret@127.0.0.1:1/x", f"sqlite:{tmp_path}/no/state.db"):
        async with open_store(url, keys=[SECRET], on_change=told.append) as store:
            told += await plant(store, 500)
    assert told
    assert readable("\n".join([*told, caplog.text]).encode()) == []
    assert "s3cret" not in "\n".join([*told, caplog.text])


async def test_no_address_stands_in_what_is_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:{tmp_path / 'state.db'}"
    async with open_store(url, timeout=PATIENCE) as store:
        await plant(store, 1000)
    assert await asyncio.to_thread(main, ["state", "export", url]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") > 1000
    assert readable((out + err).encode()) == []


async def test_what_policies_are_made_of_shows_no_secret() -> None:
    async with open_store("memory:", keys=[SECRET], password="s3cret") as store:
        shown: list[Any] = [
            store,
            store.keys,
            store.store,
            RateLimit(store, {}),
            Greylist(store),
            Traps(store, ["@traps.example"]),
        ]
        text = "".join(map(repr, shown))
    assert SECRET.decode() not in text
    assert "s3cret" not in text
    assert "traps.example" not in text
