import asyncio
import os
import random
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aiomilter import Context
from aiomilter.message import Message, MessageMilter
from aiomilter.message.spool import BUDGET, Budget, Spool
from aiomilter.testing import session


async def filled(octets: bytes, size: int, memory_size: int, budget: Budget) -> Spool:
    found = Spool(memory_size, budget=budget)
    for at in range(0, len(octets), size):
        if found.add(octets[at : at + size]):
            await found.store()
    return found


@pytest.mark.parametrize("size", [1, 100, 20_000, 65_535])
@pytest.mark.parametrize("memory_size", [0, 70_000, 10**9])
async def test_what_was_added_is_read_anywhere(size: int, memory_size: int) -> None:
    octets = random.Random(size).randbytes(min(300_000, size * 500))
    budget = Budget(10**9)
    found = await filled(octets, size, memory_size, budget)
    chance = random.Random(1)
    for _ in range(20):
        start, stop = sorted(chance.randrange(len(octets) + 1) for _ in range(2))
        assert b"".join([piece async for piece in found.read(start, stop)]) == octets[start:stop]
    assert found.size == len(octets)
    assert (found.in_file > 0) is (memory_size < len(octets))
    found.close()
    assert budget.used == 0


async def test_memory_is_bounded_for_one_and_for_all() -> None:
    budget = Budget(300_000)
    spools = [Spool(200_000, budget=budget) for _ in range(10)]
    most = 0
    for _ in range(30):
        for each in spools:
            if each.add(b"x" * 65_535):
                await each.store()
            most = max(most, budget.used)
    assert most <= 300_000 + 10 * 65_535
    for each in spools:
        each.close()
    assert budget.used == 0


async def test_a_file_is_closed_once_its_thread_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """The callback was cancelled and the message has ended while a write went on."""
    begun, go_on = threading.Event(), threading.Event()
    write = os.write
    files: list[Any] = []
    make = tempfile.TemporaryFile

    def slow(descriptor: int, octets: bytes) -> int:
        begun.set()
        go_on.wait()
        return write(descriptor, octets)

    def remember(**options: Any) -> Any:
        files.append(make(**options))
        return files[-1]

    monkeypatch.setattr(os, "write", slow)
    monkeypatch.setattr(tempfile, "TemporaryFile", remember)
    found = Spool(0, budget=Budget(10**9))
    found.add(b"x" * 100)
    task = asyncio.create_task(found.store())
    await asyncio.to_thread(begun.wait)
    writing = found._task
    assert writing is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    found.close()
    assert not files[0].closed
    go_on.set()
    await writing
    assert files[0].closed


async def test_a_read_that_is_cancelled_before_its_thread_begins_leaves_no_descriptor() -> None:
    """All threads are busy."""
    begun, go_on = threading.Event(), threading.Event()
    found = await filled(b"x" * 100, 100, 0, Budget(10**9))

    def work() -> None:
        begun.set()
        go_on.wait()

    with ThreadPoolExecutor(1) as threads:
        asyncio.get_running_loop().set_default_executor(threads)
        busy = asyncio.create_task(asyncio.to_thread(work))
        while not begun.is_set():
            await asyncio.sleep(0)
        before = len(os.listdir("/proc/self/fd"))
        reading = asyncio.ensure_future(anext(found.read(0, 100)))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        go_on.set()
        await busy
    assert len(os.listdir("/proc/self/fd")) == before
    found.close()


@pytest.mark.parametrize("memory_size", [0, 1000])
async def test_a_message_that_has_ended_cannot_be_read(memory_size: int) -> None:
    found = await filled(b"x" * 100, 10, memory_size, Budget(10**9))
    found.close()
    with pytest.raises(ValueError, match="has not ended"):
        _ = [piece async for piece in found.read(0, 100)]


@pytest.mark.slow
async def test_25_mebibytes_take_little_memory() -> None:
    seen: list[int] = []

    class Watching(MessageMilter):
        def chunk(self, octets: bytes) -> None:
            seen.append(BUDGET.used)

        async def message(self, ctx: Context, message: Message) -> None:
            message.add_part("x")
            message.headers.append("X", str(message.body.size))

    body = b"--b\r\n\r\n" + b"0123456789abcdef" * 4096 * 400 + b"\r\n--b--\r\n"
    async with session(Watching) as s:
        head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        result = await s.send(head + body, "a@x.example", ["bob@y.example"])
        assert f"X: {len(body)}\r\n".encode() in result.octets
    assert len(result.octets) > len(body)
    assert max(seen) <= Watching.memory_size + 65_536
    assert BUDGET.used == 0


@pytest.mark.parametrize(("most", "largest"), [(2 * 1_048_576, 1_048_576), (2 * 1_048_576 - 1, 262_144)])
async def test_blocks_that_are_read_are_small_where_much_is_in_memory(most: int, largest: int) -> None:
    octets = random.Random(1).randbytes(3 * 1_048_576)
    budget = Budget(most)
    found = await filled(octets, 65_535, 0, budget)
    assert (found.in_file, budget.used) == (len(octets), 0)
    pieces = []
    async for piece in found.read(0, len(octets)):
        pieces.append(piece)
        assert budget.used == len(piece)
    assert b"".join(pieces) == octets
    assert max(map(len, pieces)) == largest
    reader = found.read(0, len(octets))
    await anext(reader)
    await reader.aclose()
    found.close()
    assert budget.used == 0
