"""Debian's postgrey beside our greylist: the same attempts get the same answers, and what it has kept is taken over."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from aiomilter._cli import main
from aiomilter.policy import Greylist
from aiomilter.policy.stores import GuardedStore, open_store
from aiomilter.policy.stores.keys import Keys
from aiomilter.policy.stores.memory import MemoryStore
from tests.interop.rigs.postgrey import Postgrey, request
from tests.policy.store_steps import Moved
from tests.programs import need

pytestmark = [pytest.mark.interop, pytest.mark.slow]
DELAY = 2


class Attempt(NamedTuple):
    """Of a client, and whether it is let through."""

    client: str
    sender: str
    recipient: str
    passes: bool


TO = "bob@example.org"
FIRST = [
    Attempt("192.0.2.7", "alice@client.example", TO, False),
    Attempt("192.0.2.7", "alice@client.example", TO, False),
    Attempt("192.0.2.7", "list-123-bob=example.org@client.example", TO, False),
    Attempt("2001:db8::7", "alice@client.example", TO, False),
]
THEN = [
    Attempt("192.0.2.7", "alice@client.example", TO, True),
    Attempt("192.0.2.200", "Alice@Client.Example", "BOB@example.org", True),
    Attempt("192.0.2.7", "list-456-bob=example.org@client.example", TO, True),
    Attempt("2001:db8::7", "alice@client.example", TO, True),
    # What differs has to wait by itself.
    Attempt("192.0.3.7", "alice@client.example", TO, False),
    Attempt("192.0.2.7", "eve@client.example", TO, False),
    Attempt("192.0.2.7", "alice@client.example", "carol@example.org", False),
    Attempt("2001:db9::7", "alice@client.example", TO, False),
]


@pytest.fixture(scope="module")
def answered() -> list[bool]:
    """What postgrey answers to all attempts, and its files, dumped."""
    need(Postgrey.missing())
    rig = Postgrey(DELAY)
    rig.start()
    try:
        found = asyncio.run(asked(rig, FIRST))
        time.sleep(DELAY + 1)  # its clock counts seconds
        found += asyncio.run(asked(rig, THEN))
        rig.end()
        DUMPS[:] = [rig.dump("postgrey.db"), rig.dump("postgrey_clients.db")]
    finally:
        rig.stop()
    return found


DUMPS: list[str] = []


async def asked(rig: Postgrey, attempts: list[Attempt]) -> list[bool]:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    found = []
    for attempt in attempts:
        writer.write(request(attempt.client, attempt.sender, attempt.recipient))
        answer = await reader.readuntil(b"\n\n")
        found.append(b"DEFER_IF_PERMIT" not in answer)
    writer.close()
    await writer.wait_closed()
    return found


async def ours() -> AsyncIterator[bool]:
    clock = Moved()
    store = GuardedStore(MemoryStore(clock=clock), Keys([b"k" * 16]), timeout=None)
    greylist = Greylist(store, delay=DELAY)
    for attempts in (FIRST, THEN):
        for attempt in attempts:
            yield (await greylist.check(*attempt[:3])).verdict != "wait"
        clock.move(DELAY + 1)


async def test_the_same_attempts_get_the_same_answers(answered: list[bool]) -> None:
    assert answered == [attempt.passes for attempt in FIRST + THEN]
    assert [found async for found in ours()] == answered


def test_what_it_has_kept_is_taken_over(
    answered: list[bool], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answered
    for name, dump in zip(("postgrey", "clients"), DUMPS, strict=True):
        (tmp_path / name).write_text(dump)
        assert main(["state", "import", f"sqlite:{tmp_path}/state.db", str(tmp_path / name)]) == 0
    out = capsys.readouterr().out
    assert "postgrey: 7 of 7 written" in out
    assert "clients passed over" in out

    async def known() -> list[float]:
        async with open_store(f"sqlite:{tmp_path}/state.db") as store:
            seen = [await Greylist(store).look(*attempt[:3]) for attempt in THEN]
        return [each.first for each in seen]

    assert all(0 < time.time() - first < 1000 for first in asyncio.run(known()))
