"""A callback that blocks the event loop is named while it does, and costs nobody a thread that outlives the server."""

import asyncio
import logging
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import pytest
import uvloop

from aiomilter import Context, Mail, Milter, serve
from aiomilter._serving import stall
from aiomilter.observe import SERVER, LoopStalled, Where
from aiomilter.observe.log import LogObserver
from aiomilter.server import Server

from .patience import PATIENCE
from .peer import Watcher, connect, filter_class, macros, mail, offer

LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
TIMEOUT: Final = 0.04


class Releasing(Watcher):
    """Ends a stall as soon as it is told of it.

    Args:
        culprit: The function that blocks; a machine under load may hold up others, which is not the test's concern.
    """

    def __init__(self, culprit: str = "look_up") -> None:
        super().__init__()
        self.culprit = culprit
        self.told = threading.Event()
        self.over = asyncio.Event()
        self.threads: list[str] = []

    def loop_stalled(self, event: LoopStalled) -> None:
        if f" in {self.culprit}\n" in event.stack:
            super().loop_stalled(event)
            self.threads.append(threading.current_thread().name)
            if event.over:
                self.over.set()
            else:
                self.told.set()


class Blocking(Milter):
    """Blocks in the callback of MAIL, at once or after it has waited."""

    def __init__(self, told: threading.Event, later: bool = False) -> None:
        self.told = told
        self.later = later

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        if self.later:
            await asyncio.sleep(0)
        self.look_up()

    def look_up(self) -> None:
        assert self.told.wait(PATIENCE), "nobody has noticed"
        threading.Event().wait(2 * TIMEOUT)  # and nobody says so again


def guards() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "milter-stall-guard"]


def on(loop: str, main: Callable[[], Awaitable[None]]) -> None:
    """Run on a loop, and see that no thread is left."""

    async def run() -> None:
        async with asyncio.timeout(PATIENCE):
            await main()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(run())
    assert guards() == []


@asynccontextmanager
async def client(server: Server, octets: bytes) -> AsyncIterator[None]:
    """Be an MTA that says something, over a real socket."""
    port = int(server.addresses[0].split("@")[0].split(":")[1])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(octets)
    try:
        yield
    finally:
        writer.close()
        await writer.wait_closed()


CLIENT: Final = offer() + connect() + macros("M", i="Q1") + mail()


@pytest.mark.parametrize("later", [False, True], ids=["inline", "suspended before"])
@pytest.mark.parametrize("loop", LOOPS)
def test_who_blocks_the_loop_is_said_while_it_lasts_and_again_when_it_is_over(loop: str, later: bool) -> None:
    observer = Releasing()

    async def main() -> None:
        async with (
            serve(
                lambda: Blocking(observer.told, later), "inet:0@127.0.0.1", observer=observer, stall_timeout=TIMEOUT
            ) as server,
            client(server, CLIENT),
        ):
            await observer.over.wait()

    on(loop, main)
    first, last = observer.stalls
    for each in (first, last):
        where = each.where
        assert (where.connection, where.callback, where.client, where.queue_id) == (1, "envfrom", "192.0.2.1", "Q1")
        assert where.filter == "tests.test_stall.Blocking"
        names = [line.rpartition(" in ")[2] for line in each.stack.splitlines() if line.startswith("  File ")]
        assert names[:2] == ["envfrom", "look_up"], "its own frames, and none of ours"
    assert (first.over, last.over) == (False, True)
    assert TIMEOUT < first.duration <= last.duration < 20
    assert observer.threads == ["milter-stall-guard", threading.current_thread().name]


@pytest.mark.parametrize("loop", LOOPS)
def test_each_stall_is_said_for_itself_and_a_filter_that_waits_is_none(loop: str) -> None:
    observer = Releasing()

    async def main() -> None:
        class Both(Blocking):
            async def connect(self, ctx: Context, connect: object) -> None:
                await asyncio.sleep(3 * TIMEOUT)

        async with serve(
            lambda: Both(observer.told), "inet:0@127.0.0.1", observer=observer, stall_timeout=TIMEOUT
        ) as server:
            for _ in range(2):
                observer.told.clear()
                observer.over.clear()
                async with client(server, CLIENT):
                    await observer.over.wait()

    on(loop, main)
    assert [(stall.where.connection, stall.over) for stall in observer.stalls] == [
        (1, False),
        (1, True),
        (2, False),
        (2, True),
    ]


@pytest.mark.parametrize("loop", LOOPS)
def test_servers_of_one_loop_share_a_thread_and_each_is_told_of_its_own(loop: str) -> None:
    observer, other = Releasing(), Watcher()

    async def main() -> None:
        async with (
            serve(filter_class(), "inet:0@127.0.0.1", observer=other, stall_timeout=2 * TIMEOUT),
            serve(
                lambda: Blocking(observer.told), "inet:0@127.0.0.1", observer=observer, stall_timeout=TIMEOUT
            ) as server,
        ):
            assert len(guards()) == 1
            async with client(server, CLIENT):
                await observer.over.wait()
            assert len(guards()) == 1

    on(loop, main)
    assert len(observer.stalls) == 2
    assert [stall for stall in other.stalls if "in look_up" in stall.stack] == []


@pytest.mark.parametrize("loop", LOOPS)
def test_whoever_else_blocks_the_loop_is_shown(loop: str) -> None:
    """In a service that embeds a filter, all that others do to it is the loop's."""
    observer = Releasing("somebody_else")

    def somebody_else() -> None:
        assert observer.told.wait(PATIENCE)

    async def main() -> None:
        async with serve(filter_class(), "inet:0@127.0.0.1", observer=observer, stall_timeout=TIMEOUT):
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(somebody_else)
            await observer.over.wait()

    on(loop, main)
    first, last = observer.stalls
    assert (first.where, last.where) == (SERVER, SERVER)
    assert "in somebody_else" in first.stack


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_that_has_nothing_to_do_is_not_stuck(loop: str) -> None:
    """However late it is: the whole process was stopped for a while."""
    observer = Watcher()

    def look(guard: stall._Guard) -> bool:
        """Look until nothing is found; at first the loop may still be on its way to where it waits."""
        for _ in range(1000):
            before = len(observer.stalls)
            guard._look(100.0)
            if len(observer.stalls) == before:
                return True
            threading.Event().wait(0.005)
        return False

    async def main() -> None:
        async with serve(filter_class(), "inet:0@127.0.0.1", observer=observer, stall_timeout=TIMEOUT):
            this = asyncio.get_running_loop()
            guard = stall._GUARDS[this]
            while guard._base is None:
                await asyncio.sleep(0)
            assert await this.run_in_executor(None, look, guard)

    on(loop, main)


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
def test_what_keeps_the_interpreters_lock_is_said_as_soon_as_it_lets_go(loop: str) -> None:
    """No thread runs while a regular expression explodes; the callback has not gone on by the time that one does."""
    length, took = 10, 0.0
    while took < 5 * TIMEOUT:
        length, before = length + 1, time.perf_counter()
        re.match("(a+)+$", "a" * length + "b")
        took = time.perf_counter() - before
    observer = Releasing("explode")

    class Exploding(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            self.explode()

        def explode(self) -> None:
            re.match("(a+)+$", "a" * (length + 1) + "b")

    async def main() -> None:
        server = serve(Exploding, "inet:0@127.0.0.1", observer=observer, stall_timeout=TIMEOUT)
        async with server, client(server, CLIENT):
            await observer.over.wait()

    on(loop, main)
    assert [stall.where.callback for stall in observer.stalls] == ["envfrom", "envfrom"]


def test_a_loop_that_was_closed_under_its_servers_is_watched_no_more() -> None:
    async def main() -> None:
        stall.watch(stall.StallWatch(TIMEOUT, lambda frame: None, lambda stall: None))

    asyncio.run(main())
    for thread in guards():
        thread.join(PATIENCE)
    assert guards() == []
    assert stall._GUARDS == {}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("timeout", [float("inf"), 1e12])
def test_a_time_longer_than_any_clock_can_wait_is_watched_as_any_other(loop: str, timeout: float) -> None:
    async def main() -> None:
        async with serve(Milter, "inet:0@127.0.0.1", observer=Watcher(), stall_timeout=timeout):
            (guard,) = guards()
            guard.join(TIMEOUT)
            assert guard.is_alive()

    on(loop, main)


def test_off_means_no_thread() -> None:
    async def main() -> None:
        async with serve(filter_class(), "inet:0@127.0.0.1", observer=Watcher(), stall_timeout=None):
            assert guards() == []

    on("asyncio", main)


def test_a_server_that_cannot_start_leaves_no_thread() -> None:
    async def main() -> None:
        async with serve(filter_class(), "inet:0@127.0.0.1", observer=Watcher()) as server:
            with pytest.raises(OSError, match="cannot listen"):
                await serve(filter_class(), server.addresses[0], observer=Watcher()).__aenter__()
            assert len(guards()) == 1

    on("asyncio", main)


def test_loops_in_several_threads_are_watched_each_by_itself() -> None:
    observer = Releasing()
    seen: list[int] = []

    async def main() -> None:
        async with serve(
            lambda: Blocking(observer.told), "inet:0@127.0.0.1", observer=observer, stall_timeout=TIMEOUT
        ) as server:
            both.wait(PATIENCE)
            seen.append(len(guards()))
            both.wait(PATIENCE)
            async with client(server, CLIENT):
                await observer.over.wait()

    async def quiet() -> None:
        async with serve(filter_class(), "inet:0@127.0.0.1", observer=Watcher(), stall_timeout=20):
            both.wait(PATIENCE)
            both.wait(PATIENCE)

    both = threading.Barrier(2)
    thread = threading.Thread(target=lambda: asyncio.run(quiet()))
    thread.start()
    on_asyncio = asyncio.Runner()
    with on_asyncio:
        on_asyncio.run(main())
    thread.join(PATIENCE)
    assert seen == [2]
    assert guards() == []


def test_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """One record with the stack, one with the length; what comes from outside can forge nothing."""
    where = Where(7, "192.0.2.1\r\nx", "envfrom", "Q1\n", filter="filters.Greylist")
    stall = LoopStalled(where, '  File "f.py", line 3, in envfrom\n    time.sleep(9)', 1.234, False)
    with caplog.at_level(logging.WARNING, logger="aiomilter"):
        LogObserver().loop_stalled(stall)
        LogObserver().loop_stalled(replace(stall, duration=9.0, over=True))
        LogObserver().loop_stalled(replace(stall, where=SERVER))

    first, last, other = caplog.records
    found: Any = first
    assert (found.levelname, found.queue_id, found.stage, found.connection) == ("WARNING", "Q1\n", "envfrom", 7)
    assert first.getMessage() == (
        "filters.Greylist.envfrom has blocked the event loop for 1.2 s, client='192.0.2.1\\r\\nx' queue_id='Q1\\n'; all"
        " sessions wait"
    )
    assert logging.Formatter("%(message)s").format(first).splitlines()[1:] == [
        "Stack (most recent call last):",
        '  File "f.py", line 3, in envfrom',
        "    time.sleep(9)",
    ]
    assert last.getMessage().startswith("filters.Greylist.envfrom blocked the event loop for 9.0 s in all, client=")
    assert last.stack_info is None
    assert other.getMessage().startswith("something that is no callback of a filter has blocked")
