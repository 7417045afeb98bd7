import asyncio
import os

import pytest

from aiomilter.inspector.charts import memory_used
from aiomilter.inspector.frames import Head
from aiomilter.inspector.recording import Recorded
from aiomilter.inspector.store import Store
from aiomilter.observe import Answer, MessageEnded, Where


def recorded(size: int = 100, queue_id: str = "") -> Recorded:
    where = Where(callback="eom", queue_id=queue_id)
    event = MessageEnded(where, "", "a@x.example", ("b@y.example",), (), 0, Answer("continue"), "", (), 0, None, 0.1)
    return Recorded(event, [], Head(), None, [], size, False)


def fill(store: Store, count: int, size: int = 100) -> None:
    for _ in range(count):
        store.size += size
        store.add(recorded(size))


def test_the_oldest_go_when_there_are_too_many() -> None:
    store = Store(max_messages=3)
    fill(store, 5)

    assert list(store.messages) == [3, 4, 5]
    assert store.size == 300


def test_the_oldest_go_when_they_take_too_much_memory() -> None:
    store = Store(max_size=250)
    fill(store, 4)

    assert list(store.messages) == [3, 4]


def test_an_original_is_kept_with_its_message_and_counts() -> None:
    store = Store(max_size=1000)
    store.add(recorded(0, "A1"))
    store.add(recorded(0, "B2"))
    store.add_original("A1", b"x" * 50)
    store.add_original("C3", b"x" * 50)

    assert store.messages[1].original == b"x" * 50
    assert store.messages[2].original is None
    assert store.size == 50


async def test_who_waits_is_woken_by_the_next_message() -> None:

    store = Store()
    waiting = asyncio.create_task(store.wait(0))
    await asyncio.sleep(0)
    assert not waiting.done()
    fill(store, 1)
    await waiting


async def test_who_waits_is_woken_at_the_end() -> None:
    store = Store()
    waiting = asyncio.create_task(store.wait(0))
    await asyncio.sleep(0)
    store.wake()
    await waiting
    assert store.last == 0


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="this system does not tell how large a process is")
def test_memory_is_told_in_octets_whatever_the_size_of_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory_used() > 0
    pages = memory_used() // os.sysconf("SC_PAGE_SIZE")
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 1 << 20}.__getitem__)
    assert memory_used() >= pages * (1 << 19)  # it may have shrunk a little meanwhile
