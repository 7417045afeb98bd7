"""Threads and event loop: where a classic filter's callbacks run, and in what order."""

import asyncio
import contextlib
import contextvars
import gc
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aiomilter.compat import classic as Milter
from aiomilter.compat import sending, serve, threads
from aiomilter.compat.callbacks import Callbacks
from aiomilter.compat.context import Text
from aiomilter.compat.listening import open_socket
from aiomilter.compat.objects import callbacks_of, never_blocks
from aiomilter.compat.service import program_service
from aiomilter.compat.serving import classic_server
from aiomilter.compat.threads import EndingThreads, LoopConnection, ThreadConnection, counted
from aiomilter.wire.constants import Command, ReplyCode, Stage
from aiomilter.wire.framing import packet
from tests.compat.wire import Client, client
from tests.patience import PATIENCE
from tests.peer import ABORT, DATA, EOM, QUIT, QUIT_NC, body, codes, connect, header, helo, mail, offer, rcpt

MESSAGES = int(os.environ.get("COMPAT_LEAK_MESSAGES", "2000"))
"""For a hundred thousand: ``COMPAT_LEAK_MESSAGES=100000``, five minutes."""


class Filter(Milter.Base):
    """Lets all pass."""

    def connect(self, hostname: str, family: int, hostaddr: Any) -> Any:
        return Milter.CONTINUE


@asynccontextmanager
async def serving(factory: Any, tmp_path: Path, **options: Any) -> AsyncIterator[str]:
    """Serve a filter and yield its address."""
    async with serve(factory, f"unix:{tmp_path}/sock", **{"drain_timeout": 5.0, **options}) as server:
        yield server.addresses[0]


async def greet(peer: Client) -> str:
    """Negotiate and bring a client; return the answer to that."""
    assert await peer.ask(offer()) == "O"
    return await peer.ask(connect())


async def test_connections_block_side_by_side_each_in_one_thread_of_its_own(tmp_path: Path) -> None:
    """A hundred callbacks wait until all hundred are there."""
    count = 100
    all_there = threading.Barrier(count, timeout=PATIENCE)
    local = threading.local()
    seen: dict[object, list[Any]] = {}

    class Blocking(Milter.Base):
        def connect(self, hostname: str, family: int, hostaddr: Any) -> Any:
            local.name = threading.current_thread()
            seen[self] = [local.name]
            all_there.wait()
            return Milter.CONTINUE

        def hello(self, hostname: str) -> Any:
            seen[self].append(local.name)
            return Milter.CONTINUE

        def close(self) -> Any:
            seen[self].append(local.name)
            return Milter.CONTINUE

    async def session(address: str) -> None:
        async with client(address) as peer:
            assert await greet(peer) == "c"
            assert await peer.ask(helo()) == "c"
            peer.write(QUIT)
            assert await peer.rest() == b""

    async with serving(Blocking, tmp_path) as address:
        await asyncio.gather(*(session(address) for _ in range(count)))
    threads = {thread for names in seen.values() for thread in names}
    assert [len(set(names)) for names in seen.values()] == [1] * count
    assert len(threads) == count
    assert threading.main_thread() not in threads
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.slow
async def test_a_server_that_has_closed_has_left_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that has told its end but not got its turn since."""
    serve_one, ended = ThreadConnection._serve, EndingThreads.ended
    threads, waited, turn = [], [], threading.Event()

    def serve_and_linger(connection: ThreadConnection) -> None:
        threads.append(threading.current_thread())
        serve_one(connection)
        turn.wait(PATIENCE)

    async def give_turn_and_wait(ending: EndingThreads, timeout: float) -> None:
        waiting = asyncio.create_task(ended(ending, timeout))
        await asyncio.sleep(0)
        waited.append(not waiting.done())
        turn.set()
        await waiting

    monkeypatch.setattr(ThreadConnection, "_serve", serve_and_linger)
    monkeypatch.setattr(EndingThreads, "ended", give_turn_and_wait)
    try:
        async with serving(Filter, tmp_path) as address, client(address) as peer:
            assert await greet(peer) == "c"
        assert [thread.is_alive() for thread in threads] == [False]
        assert waited == [True]
    finally:
        turn.set()


async def test_what_a_thread_has_kept_for_itself_is_freed_before_its_server_has_closed(tmp_path: Path) -> None:
    """Where that needs the event loop, too."""
    loop, local, freed = asyncio.get_running_loop(), threading.local(), []

    class Handle:
        def __del__(self) -> None:
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01), loop).result(PATIENCE)
            freed.append(True)

    class Keeping(Milter.Base):
        def connect(self, hostname: str, family: int, hostaddr: Any) -> Any:
            local.handle = Handle()
            return Milter.CONTINUE

    async with serving(Keeping, tmp_path) as address, client(address) as peer:
        assert await greet(peer) == "c"
    assert freed == [True]


async def test_a_server_waits_for_threads_of_its_own_only_and_not_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    serve_one = ThreadConnection._serve

    def serve_and_wait(connection: ThreadConnection) -> None:
        serve_one(connection)
        go_on.wait(PATIENCE)

    threads = set(threading.enumerate())
    with monkeypatch.context() as patched:
        patched.setattr(ThreadConnection, "_serve", serve_and_wait)
        async with serving(Filter, tmp_path, cancel_timeout=0.01) as address, client(address) as peer:
            assert await greet(peer) == "c"
    async with serving(Filter, tmp_path) as address, client(address) as peer:
        assert await greet(peer) == "c"
    left = set(threading.enumerate()) - threads
    go_on.set()
    for thread in left:
        thread.join(PATIENCE)
    assert len(left) == 1


async def test_a_bound_on_threads_counts_callbacks_at_work_not_idle_connections(tmp_path: Path) -> None:
    pair = threading.Barrier(2, timeout=PATIENCE)
    lock = threading.Lock()
    working = [0, 0]

    class Counted(Milter.Base):
        def connect(self, hostname: str, family: int, hostaddr: Any) -> Any:
            with lock:
                working[0] += 1
                working[1] = max(working)
            pair.wait()
            with lock:
                working[0] -= 1
            return Milter.CONTINUE

    async with serving(Counted, tmp_path, threads=2) as address:
        idle = [client(address) for _ in range(5)]
        for peer in idle:
            assert await (await peer.__aenter__()).ask(offer()) == "O"

        async def session() -> None:
            async with client(address) as peer:
                assert await greet(peer) == "c"

        await asyncio.gather(*(session() for _ in range(8)))
        for peer in idle:
            await peer.__aexit__(None, None, None)
    assert working == [0, 2]


async def test_what_is_async_runs_on_the_loop_and_gives_its_place_away(tmp_path: Path) -> None:
    """With one place, the first connection waits for what only the second one's blocking callback can set."""
    loop_thread = threading.current_thread()
    loop = asyncio.get_running_loop()
    go_on = asyncio.Event()
    where: list[object] = []

    class Mixed(Milter.Base):
        def connect(self, hostname: str, family: int, hostaddr: Any) -> Any:
            if hostname == "second":
                loop.call_soon_threadsafe(go_on.set)
            return Milter.CONTINUE

        async def hello(self, hostname: str) -> Any:
            where.append(threading.current_thread())
            await go_on.wait()
            return Milter.REJECT

    async with serving(Mixed, tmp_path, threads=1) as address, client(address) as first, client(address) as second:
        assert await greet(first) == "c"
        first.write(helo())
        assert await second.ask(offer()) == "O"
        assert await second.ask(connect("second")) == "c"
        assert codes(await first.read()) == "r"
    assert where == [loop_thread]


async def test_sync_and_async_callbacks_see_the_same_context_and_its_variables(tmp_path: Path) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    class Mixed(Milter.Base):
        def envfrom(self, f: str, *params: str) -> Any:
            variable.set("from a thread")
            return Milter.CONTINUE

        async def envrcpt(self, to: str, *params: str) -> Any:
            await asyncio.sleep(0)
            seen.append(variable.get())
            variable.set("from the loop")
            return Milter.CONTINUE

        def data(self) -> Any:
            seen.append(variable.get())
            return Milter.CONTINUE

        async def eom(self) -> Any:
            await asyncio.sleep(0)
            self.addheader("X-First", "1")
            self.progress()
            self.addheader("X-Second", "2")
            self.setreply("550", "5.7.1", "no")
            return Milter.REJECT

    async with serving(Mixed, tmp_path) as address, client(address) as peer:
        assert await peer.ask(offer()) == "O"
        for packet in (mail(), rcpt(), DATA):
            assert await peer.ask(packet) == "c"
        peer.write(EOM)
        answers = [await peer.read() for _ in range(4)]
    assert seen == ["from a thread", "from the loop"]
    assert b"".join(answers)[4:] == (
        b"hX-First\x001\x00" + b"\0\0\0\1p" + b"\0\0\0\x0bhX-Second\x002\x00".replace(b"\x0b", b"\x0c") + answers[3]
    )
    assert answers[3][4:] == b"y550 5.7.1 no\0"


async def test_a_filter_with_nothing_but_async_callbacks_has_no_thread(tmp_path: Path) -> None:
    names: list[str] = []

    class Native(Milter.Base):
        async def connect(self, hostname: str, family: int, hostaddr: Any) -> Any:
            names.extend(thread.name for thread in threading.enumerate())
            return Milter.CONTINUE

        @Milter.noreply
        async def header(self, field: str, value: str) -> Any:
            names.extend(thread.name for thread in threading.enumerate())
            return Milter.CONTINUE

        async def eom(self) -> Any:
            await asyncio.sleep(0)
            self.addheader("X-Seen", "1")
            return Milter.ACCEPT

    async with serving(Native, tmp_path) as address, client(address) as peer:
        assert await greet(peer) == "c"
        peer.write(header("A", "1"), header("B", "2"), EOM)
        assert codes(await peer.read() + await peer.read()) == "ha"
        peer.write(QUIT)
        assert await peer.rest() == b""
    assert names
    assert not [name for name in names if name.startswith("milter-connection")]


@pytest.mark.parametrize("kind", ["blocking", "async"])
async def test_stop_in_a_callback_closes_that_connection_without_an_answer(tmp_path: Path, kind: str) -> None:
    def stop(self: Any, hostname: str, family: int, hostaddr: Any) -> Any:
        Milter.stop()
        return Milter.CONTINUE

    async def stop_later(self: Any, hostname: str, family: int, hostaddr: Any) -> Any:
        await asyncio.sleep(0)
        return stop(self, hostname, family, hostaddr)

    stop.__name__ = stop_later.__name__ = "connect"
    stopping = type("Stopping", (Milter.Base,), {"connect": stop if kind == "blocking" else stop_later})
    async with serving(stopping, tmp_path) as address, client(address) as peer:
        assert await greet(peer) == ""


class Instead:
    """Stands before an object: what a test sets in it takes the place of what is there."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def added(name: str, value: str) -> bytes:
    return packet(ReplyCode.ADDHEADER, f"{name}\0{value}\0".encode())


async def test_the_loop_alone_writes_where_a_thread_that_a_callback_waits_for_reports_progress(tmp_path: Path) -> None:
    writers: set[int] = set()

    class Working(Milter.Base):
        async def eom(self) -> Any:
            return await asyncio.to_thread(self.work)

        def work(self) -> Any:
            self.addheader("X-One", "1")
            self.progress()
            self.addheader("X-Two", "2")
            return Milter.CONTINUE

    async with serve(Working, f"unix:{tmp_path}/sock") as server, client(server.addresses[0]) as peer:
        assert await peer.ask(offer()) == "O"
        (connection,) = server._connections
        assert isinstance(connection, LoopConnection)
        connection._transport = instead = Instead(connection._transport)  # type: ignore[assignment]

        def write(octets: bytes) -> None:
            writers.add(threading.get_ident())
            instead.real.write(octets)

        instead.write = write  # type: ignore[attr-defined]
        peer.write(EOM)
        assert [codes(await peer.read()) for _ in range(4)] in (["h", "p", "h", "c"], ["h", "h", "p", "c"])
    assert writers == {threading.get_ident()}


@pytest.mark.parametrize("kind", ["blocking", "blocking, full", "async"])
async def test_what_is_added_during_a_write_leaves_once_after_it(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_end: list[Any] = []

    def change(self: Any) -> Any:
        at_end.append(self)
        self.addheader("X-One", "1")
        self.progress()
        return Milter.CONTINUE

    async def change_later(self: Any) -> Any:
        return change(self)

    changing = type("Changing", (Milter.Base,), {"eom": change_later if kind == "async" else change})
    async with serve(changing, f"unix:{tmp_path}/sock") as server, client(server.addresses[0]) as peer:
        assert await peer.ask(offer()) == "O"
        (connection,) = server._connections
        channel, write = ("_transport", "write") if kind == "async" else ("_socket", "send")
        instead = Instead(getattr(connection, channel))

        def add() -> None:
            if at_end:
                at_end.pop().addheader("X-During", "2")

        def add_and_write(*args: Any) -> Any:
            add()
            return getattr(instead.real, write)(*args)

        def add_and_send(sock: Any, octets: bytes) -> int:
            add()
            return sending.send_now(sock, octets)

        setattr(instead, write, add_and_write)
        setattr(connection, channel, instead)
        now = add_and_send if kind == "blocking" else lambda sock, octets: 0
        monkeypatch.setattr(threads, "send_now", now)
        peer.write(EOM)
        found = [codes(await peer.read())]
        while found[-1] not in ("c", ""):
            found.append(codes(await peer.read()))
    assert found == ["h", "p", "h", "c"]


async def test_what_another_thread_cannot_write_as_a_whole_leaves_before_anything_else(tmp_path: Path) -> None:
    half, wrote = threading.Event(), threading.Event()

    class Beating(Milter.Base):
        def eom(self) -> Any:
            beating = threading.Thread(target=self.progress, name="beating")
            beating.start()
            half.wait(PATIENCE)
            self.addheader("X-One", "1")
            self.progress()
            beating.join()
            return Milter.CONTINUE

    expected = (
        packet(ReplyCode.PROGRESS) + added("X-One", "1") + packet(ReplyCode.PROGRESS) + packet(ReplyCode.CONTINUE)
    )
    async with serve(Beating, f"unix:{tmp_path}/sock") as server, client(server.addresses[0]) as peer:
        assert await peer.ask(offer()) == "O"
        (connection,) = server._connections
        connection._socket = instead = Instead(connection._socket)  # type: ignore[attr-defined]

        def send(octets: Any, flags: int) -> int:
            if threading.current_thread().name != "beating":
                wrote.set()
            elif len(octets) == len(packet(ReplyCode.PROGRESS)):
                octets = octets[:2]
            else:
                half.set()
                wrote.wait(0.05)  # it must not write now
                raise BlockingIOError
            return int(instead.real.send(octets, flags))

        instead.send = send  # type: ignore[attr-defined]
        peer.write(EOM)
        assert await peer.reader.readexactly(len(expected)) == expected


async def test_a_lost_connection_ends_its_message_and_itself(tmp_path: Path) -> None:
    told: list[tuple[str, object]] = []
    over = threading.Event()

    class Cleaning(Milter.Base):
        def envfrom(self, f: str, *params: str) -> Any:
            told.append(("envfrom", threading.current_thread()))
            return Milter.CONTINUE

        def abort(self) -> Any:
            told.append(("abort", threading.current_thread()))
            return Milter.CONTINUE

        def close(self) -> Any:
            told.append(("close", threading.current_thread()))
            over.set()
            return Milter.CONTINUE

    async with serving(Cleaning, tmp_path) as address:
        async with client(address) as peer:
            assert await peer.ask(offer()) == "O"
            assert await peer.ask(mail()) == "c"
        await asyncio.to_thread(over.wait, 60)
    assert [name for name, _ in told] == ["envfrom", "abort", "close"]
    assert len({thread for _, thread in told}) == 1


async def test_the_end_of_the_server_answers_what_waits_on_the_loop(tmp_path: Path) -> None:
    waiting = asyncio.Event()

    class Waiting(Filter):
        async def envfrom(self, f: str, *params: str) -> Any:
            waiting.set()
            await asyncio.Event().wait()

    async with client_of(Waiting, tmp_path, drain_timeout=0.0) as (peer, leave):
        assert await greet(peer) == "c"
        peer.write(mail())
        await waiting.wait()
        await leave()
        assert codes(await peer.rest()) == "t"


def greeting(kind: str, told: list[str], greeted: asyncio.Event) -> type[Milter.Base]:
    """Return a filter that waits for ever in ``hello``, with a thread or without."""

    class Waiting(Milter.Base):
        async def hello(self, hostname: str) -> Any:
            greeted.set()
            await asyncio.Event().wait()

        async def close(self) -> Any:
            told.append("close")
            return Milter.CONTINUE

    class Mixed(Waiting):
        def data(self) -> Any:
            return Milter.CONTINUE

    return Waiting if kind == "async" else Mixed


@pytest.mark.parametrize("kind", ["async", "mixed"])
async def test_a_connection_goes_on_after_a_hello_whose_time_was_up(tmp_path: Path, kind: str) -> None:
    told: list[str] = []
    factory = greeting(kind, told, asyncio.Event())
    async with (
        serving(factory, tmp_path, callback_timeout=0.01, cancel_timeout=0.05) as address,
        client(address) as peer,
    ):
        assert await peer.ask(offer()) == "O"
        assert await peer.ask(helo()) == ("t" if kind == "async" else "y")
        assert await peer.ask(mail()) == "c"
    assert told == ["close"]


@pytest.mark.parametrize("kind", ["async", "mixed"])
async def test_the_end_of_the_server_ends_a_hello_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    told: list[str] = []
    greeted = asyncio.Event()
    failures: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    factory = greeting(kind, told, greeted)
    async with client_of(factory, tmp_path, drain_timeout=0.0, cancel_timeout=0.05) as (peer, leave):
        assert await peer.ask(offer()) == "O"
        peer.write(helo())
        await greeted.wait()
        await leave()
        assert codes(await peer.rest()) == "t"
    assert (told, failures) == (["close"], [])


@asynccontextmanager
async def client_of(factory: Any, tmp_path: Path, **options: Any) -> AsyncIterator[Any]:
    """Serve a filter and connect to it; yield the client and what ends the server."""
    context = serving(factory, tmp_path, **options)
    address = await context.__aenter__()
    async with client(address) as peer:
        yield peer, lambda: context.__aexit__(None, None, None)


async def test_the_end_of_the_server_waits_for_what_blocks_and_its_answer_still_leaves(tmp_path: Path) -> None:
    entered, go_on = threading.Event(), threading.Event()

    class Waiting(Filter):
        def envfrom(self, f: str, *params: str) -> Any:
            entered.set()
            go_on.wait(PATIENCE)
            return Milter.REJECT

    async with client_of(Waiting, tmp_path, drain_timeout=0.0) as (peer, leave):
        assert await greet(peer) == "c"
        peer.write(mail())
        await asyncio.to_thread(entered.wait, 60)
        leaving = asyncio.ensure_future(leave())
        await asyncio.sleep(0)
        go_on.set()
        await leaving
        assert codes(await peer.rest()) == "r"


async def test_an_mta_that_takes_nothing_is_closed(tmp_path: Path) -> None:
    closed = threading.Event()

    class Big(Milter.Base):
        def eom(self) -> Any:
            for _ in range(100):
                self.replacebody(b"x" * 65535)
            return Milter.ACCEPT

        def close(self) -> Any:
            closed.set()
            return Milter.CONTINUE

    async with serving(Big, tmp_path, write_timeout=0.05) as address, client(address) as peer:
        peer.write(offer(), EOM)
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        assert await asyncio.to_thread(closed.wait, 60)


@pytest.mark.parametrize("kind", ["mixed", "async"])
async def test_a_packet_that_has_begun_has_to_go_on_and_a_connection_may_be_idle(tmp_path: Path, kind: str) -> None:
    told: list[str] = []

    class Telling(Filter if kind == "mixed" else Milter.Base):  # type: ignore[misc]
        async def envfrom(self, f: str, *params: str) -> Any:
            told.append("envfrom")
            return Milter.CONTINUE

        async def close(self) -> Any:
            told.append("close")
            return Milter.CONTINUE

    address = f"unix:{tmp_path}/sock"
    async with (
        classic_server(
            callbacks_of(Telling, "pymilter"),
            address,
            inline=lambda: never_blocks(Telling),
            read_timeout=0.05,
            idle_timeout=3600.0,
            drain_timeout=5.0,
        ),
        client(address) as idle,
        client(address) as stopped,
        client(address) as silent,
    ):
        assert await greet(idle) == "c"
        stopped.write(offer()[:6])
        stopped.write(offer()[6:])
        assert codes(await stopped.read()) == "O"
        stopped.write(mail()[:7])
        assert await stopped.read() == b""
        assert told == ["close"]
        assert await idle.ask(mail()) == "c"
        assert await silent.ask(offer()) == "O"


@pytest.mark.parametrize(
    ("timeout", "read", "idle", "write"),
    [
        (None, 7210.0, 7810.0, 60.0),
        (1, 1.0, 601.0, 1.0),
        (240, 240.0, 840.0, 60.0),
        (0, 0.0, 600.0, 60.0),
        (-1, None, 600.0, 60.0),
    ],
)
async def test_the_timeout_counts_inside_of_packets_and_ten_minutes_more_between_them(
    tmp_path: Path, timeout: int | None, read: float | None, idle: float, write: float
) -> None:
    listening = open_socket(f"unix:{tmp_path}/sock", remove=True, backlog=1)
    made = program_service(Callbacks(), listening, inline=lambda: True, timeout=timeout, backlog=1)._make_server()
    options = made._options
    make: Any = None
    connection: Any = made._connection_factory(
        asyncio.get_running_loop(), make, make, options, made.observer, 1, print, make
    )
    assert (connection._read_timeout, options.idle_timeout, options.write_timeout) == (read, idle, write)
    listening.close()


@pytest.mark.parametrize("ending", [SystemExit(3), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("kind", ["mixed", "async"])
async def test_what_would_end_the_program_is_an_exception_in_an_async_callback(
    tmp_path: Path, kind: str, ending: BaseException
) -> None:
    class Ending(Filter if kind == "mixed" else Milter.Base):  # type: ignore[misc]
        async def envfrom(self, f: str, *params: str) -> Any:
            await asyncio.sleep(0)
            raise ending

        async def hello(self, hostname: str) -> Any:
            return Milter.REJECT

    async with serving(Ending, tmp_path) as address, client(address) as peer:
        assert await peer.ask(offer()) == "O"
        peer.write(mail())
        assert (await peer.read())[4:].startswith(b"y451 4.3.0 pymilter: untrapped exception")
        assert await peer.ask(helo()) == "r"


async def test_the_traceback_of_an_async_callback_begins_with_the_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing(Filter):
        async def envfrom(self, f: str, *params: str) -> Any:
            raise ValueError("not this one")

    async with serving(Failing, tmp_path) as address, client(address) as peer:
        assert await greet(peer) == "c"
        assert await peer.ask(mail()) == "y"
    files = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  File")]
    assert len(files) == 1
    assert __file__ in files[0]


@pytest.mark.parametrize(
    "options", [{"callback_timeout": 0.01}, {"callback_timeouts": {Stage.MAIL: 0.01}}], ids=["all", "by step"]
)
async def test_an_async_callback_whose_time_is_up_raises_a_timeout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any]
) -> None:
    class Waiting(Filter):
        async def envfrom(self, f: str, *params: str) -> Any:
            await asyncio.Event().wait()

    async with serving(Waiting, tmp_path, **options) as address, client(address) as peer:
        assert await greet(peer) == "c"
        peer.write(mail())
        assert (await peer.read())[4:].startswith(b"y451 4.3.0 pymilter: untrapped exception")
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "TimeoutError: the callback did not end within 0.01 s (callback_timeout)"


async def test_a_connection_that_gets_no_thread_is_closed_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("WARNING")
    start = threading.Thread.start

    def full(thread: threading.Thread) -> None:
        if thread.name.startswith("milter-connection"):
            raise RuntimeError("can't start new thread")
        start(thread)

    made, ended = counted()
    async with serve(Filter, f"unix:{tmp_path}/sock") as server:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", full)
            async with client(server.addresses[0]) as peer:
                assert await peer.rest() == b""
        assert not server._connections
        assert counted() == (made + 1, ended + 1)
        async with client(server.addresses[0]) as peer:
            assert await greet(peer) == "c"
    (record,) = (each for each in caplog.records if "may connect" not in each.getMessage())
    assert (record.levelname, record.name.partition(".")[0]) == ("WARNING", "aiomilter")
    assert record.getMessage().endswith("closing a new connection: can't start new thread")


async def test_strangers_are_named_once_a_minute_whatever_thread_they_have(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING")
    async with serve(Filter, "inet:0@127.0.0.1") as server:
        port, _, host = server.addresses[0].removeprefix("inet:").partition("@")
        ports = []
        for _ in range(20):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            ports.append(writer.get_extra_info("sockname")[1])
            writer.close()
    (record,) = [record for record in caplog.records if "other hosts" not in record.getMessage()]
    assert record.getMessage() == f"peer='127.0.0.1:{ports[0]}': speaks HTTP, not the milter protocol"


async def test_the_end_of_the_server_cancels_async_callbacks_at_the_end_of_a_connection_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    waiting = asyncio.Event()
    contexts: list[Any] = []
    failures: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)

    class Waiting(Filter):
        def envfrom(self, f: str, *params: str) -> Any:
            contexts.append(self._ctx)
            return Milter.CONTINUE

        async def abort(self) -> Any:
            await self.wait("abort")

        async def close(self) -> Any:
            await self.wait("close")

        async def wait(self, name: str) -> None:
            told.append(name)
            waiting.set()
            await asyncio.Event().wait()

    async with serve(Waiting, f"unix:{tmp_path}/sock", drain_timeout=0.0, cancel_timeout=0.2) as server:
        async with client(server.addresses[0]) as peer:
            assert await greet(peer) == "c"
            assert await peer.ask(mail()) == "c"
        await waiting.wait()
        (connection,) = server._connections
        connection.stop()
        async with asyncio.timeout(PATIENCE):
            while told != ["abort", "close"]:  # until it begins
                await asyncio.sleep(0)
        connection.stop()
        await asyncio.to_thread(connection._thread.join, 30)  # type: ignore[attr-defined]
    assert not failures
    with pytest.raises(Milter.milter.error, match="bad context"):
        contexts[0].getsymval("i")


async def test_a_stop_finds_an_async_callback_that_the_loop_has_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, asked = threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    call = loop.call_soon_threadsafe

    class Waiting(Filter):
        def envfrom(self, f: str, *params: str) -> Any:
            entered.set()
            return self.wait()

        async def wait(self) -> Any:
            await asyncio.Event().wait()

    def noted(*args: Any, **keywords: Any) -> Any:
        handle = call(*args, **keywords)
        if entered.is_set():
            asked.set()
        return handle

    async with (
        serve(Waiting, f"unix:{tmp_path}/sock", cancel_timeout=5.0) as server,
        client(server.addresses[0]) as peer,
    ):
        assert await greet(peer) == "c"
        monkeypatch.setattr(loop, "call_soon_threadsafe", noted)
        peer.write(mail())
        assert asked.wait(PATIENCE)  # the loop stands still meanwhile
        (connection,) = server._connections
        connection.stop()
        assert codes(await peer.rest()) == "t"


async def test_a_factory_that_raises_closes_its_connection_only(tmp_path: Path) -> None:
    made: list[Filter] = []

    def factory() -> Filter:
        made.append(Filter())
        if len(made) == 1:
            raise ValueError("not this one")
        return made[-1]

    async with serving(factory, tmp_path) as address:
        async with client(address) as peer:
            assert await peer.ask(offer()) == ""
        async with client(address) as peer:
            assert await greet(peer) == "c"


async def test_another_client_on_the_same_connection_gets_another_object(tmp_path: Path) -> None:
    made: list[Any] = []

    class Noted(Filter):
        def __init__(self) -> None:
            made.append(self)

    async with serving(Noted, tmp_path) as address, client(address) as peer:
        assert await greet(peer) == "c"
        peer.write(QUIT_NC)
        assert await peer.ask(connect()) == "c"
    assert len(made) == 2


async def test_what_is_no_utf_8_is_refused_or_handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Noting(Milter.Base):
        def hello(self, hostname: str) -> Any:
            seen.append(hostname)
            return Milter.CONTINUE

        def eom(self) -> Any:
            self.addheader("X-Helo", seen[-1])
            return Milter.ACCEPT

    octets = packet(Command.HELO, b"a\xff\0")
    async with serving(Noting, tmp_path) as address, client(address) as peer:
        assert await peer.ask(offer()) == "O"
        peer.write(octets)
        assert (await peer.read())[4:].startswith(b"y451 4.3.0 pymilter: untrapped exception")
        assert seen == []
        monkeypatch.setattr(Text, "errors", "surrogateescape")
        assert await peer.ask(octets) == "c"
        peer.write(EOM)
        assert (await peer.read())[4:] == b"hX-Helo\0a\xff\0"
    assert seen == ["a\udcff"]


@pytest.mark.slow
async def test_messages_leave_no_threads_descriptors_or_memory_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # pytest would keep a record for each message.
    caplog.set_level("WARNING", "aiomilter")

    class Typical(Milter.Base):
        def connect(self, hostname: str, family: int, hostaddr: Any) -> Any:
            return Milter.CONTINUE

        @Milter.noreply
        def header(self, field: str, value: str) -> Any:
            return Milter.CONTINUE

        @Milter.noreply
        def body(self, blk: bytes) -> Any:
            return Milter.CONTINUE

        def eom(self) -> Any:
            self.addheader("X-Seen", "1")
            return Milter.ACCEPT

    async def play(address: str, messages: int) -> None:
        """A connection for every ten messages."""
        for _ in range(messages // 10):
            async with client(address) as peer:
                assert await greet(peer) == "c"
                for _ in range(10):
                    peer.write(header(), body(), EOM, ABORT)
                    assert codes(await peer.read() + await peer.read()) == "ha"
                peer.write(QUIT)
                assert await peer.rest() == b""

    def held() -> tuple[int, int, int]:
        gc.collect()
        return threading.active_count(), len(os.listdir("/dev/fd")), len(gc.get_objects())

    async with serving(Typical, tmp_path) as address:
        await play(address, 200)
        threads, descriptors, objects = held()
        await play(address, MESSAGES)
        after = held()
    assert after[0] <= threads + 1
    assert after[1] <= descriptors + 1
    assert after[2] <= objects + 200
