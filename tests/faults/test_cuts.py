"""The connection between MTA and filter is cut at each octet of a session."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from aiomilter import CONTINUE, Context, EndOfMessageContext, Milter, serve
from aiomilter.wire.framing import packet
from aiomilter.wire.modifications import AddHeader
from tests.faults.load import Books, Load
from tests.faults.process import FilterProcess
from tests.faults.proxy import Cut, proxy
from tests.faults.report import Report
from tests.interop.scene import Scene
from tests.patience import PATIENCE
from tests.peer import ABORT, MESSAGE, OPENING, QUIT, Watcher, macros, unknown

SESSION: Final = (
    OPENING + macros("M", i="Q1") + MESSAGE + ABORT + unknown() + macros("M", i="Q2") + MESSAGE + ABORT + QUIT
)
"""All that an MTA may say in two messages."""


class Counting(Milter):
    """Counts what it is told; some of its callbacks suspend."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts
        self.client = False

    async def connect(self, ctx: Context, connect: Any) -> None:
        self.counts["connect"] += 1

    async def envfrom(self, ctx: Context, mail: Any) -> None:
        self.counts["begun"] += 1
        ctx.on_end(self.counts.update, ["ended"])
        await asyncio.sleep(0)

    async def header(self, ctx: Context, header: Any) -> None:
        await asyncio.sleep(0)

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Filter", "yes")
        await asyncio.sleep(0)
        self.counts["decided"] += 1

    async def abort(self, ctx: Context) -> None:
        self.counts["aborted"] += 1

    async def close(self, ctx: Context) -> None:
        self.counts["close"] += 1


@pytest.mark.parametrize("reset", [False, True])
async def test_a_client_that_goes_at_any_octet_leaves_nothing_behind(reset: bool) -> None:
    """P-064, P-065, P-066, P-136: every callback that begins has its end, and the others are served."""
    add_header = packet(AddHeader.CODE, AddHeader("X-Filter", "yes").payload)
    counts: Counter[str] = Counter()
    watcher = Watcher()
    tasks = asyncio.all_tasks()
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))

    async def go_at(octets: int) -> None:
        reader, writer = await asyncio.open_connection(*at)
        writer.write(SESSION[:octets])
        if octets % 2:
            await reader.read(1)  # it has been heard
        if reset:
            writer.transport.abort()
        writer.close()

    async with serve(lambda: Counting(counts), "inet:0@127.0.0.1", observer=watcher) as server:
        port, _, host = server.addresses[0].removeprefix("inet:").partition("@")
        at = (host, int(port))
        for start in range(20, len(SESSION), 20):
            await asyncio.gather(*(go_at(octets) for octets in range(start, min(start + 20, len(SESSION)))))
        reader, writer = await asyncio.open_connection(*at)
        writer.write(OPENING + MESSAGE + MESSAGE)
        for _ in range(2):
            async with asyncio.timeout(PATIENCE):
                await reader.readuntil(add_header + CONTINUE.packet)
        writer.write(QUIT)
        assert await reader.read() == b""
        writer.close()

    assert counts["close"] >= counts["connect"] > 0
    assert counts["begun"] == counts["ended"] == counts["decided"] + counts["aborted"] > 0
    assert watcher.failures == []
    assert failures == []
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.parametrize("scene", ["postfix", "sendmail"], indirect=True)
async def test_no_message_is_lost_wherever_the_connection_is_cut(scene: Scene, directory: Path, report: Report) -> None:
    """A message is refused for now or passes whole: with the mark that comes before the verdict, and once."""
    filter_ = FilterProcess(f"unix:{directory}/filter", directory)
    try:
        await filter_.start()
        idle = filter_.descriptors
        async with proxy(scene.sockets[0], f"{directory}/filter") as between:
            await Load(scene.rig, scene.port, lines=1).run([10000], 1)
            await scene.rig.settled()
            whole = await between.ended()
            there = [Cut(to_filter=octets) for octets in range(1, whole.to_filter + 1)]
            back = [Cut(to_mta=octets) for octets in range(whole.to_mta + 1)]
            cuts = [cut._replace(reset=number % 2 == 0) for number, cut in enumerate(there + back)]
            between.add(cuts)
            load = Load(scene.rig, scene.port, per_connection=1, lines=1)
            earlier = len(scene.rig.deliveries)
            await load.run(range(10001, 10001 + len(cuts)))
            books = await Books.close(scene.rig, load, earlier)
            assert not between.cuts
            later = Load(scene.rig, scene.port, lines=1)
            await later.run([10000], 1)
        await filter_.until(lambda: filter_.descriptors <= idle, "end of all connections")
    finally:
        await filter_.kill()
    report.add(scene.name, "connection cut at every octet", books)

    books.balance()
    assert books.by("2", "4") == set(books.replies)
    assert books.by("4")
    assert all(marks == [" yes"] for marks in books.marks.values())
    assert later.replies[10000]["."].startswith("250")
    assert " ERROR " not in filter_.log
