"""The transport's side: callbacks inline and suspended alike, back-pressure both ways, and nothing left behind."""

import asyncio
import contextvars
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
import uvloop

from aiomilter import REJECT, serve
from aiomilter.server import Server
from aiomilter.wire.constants import Command
from aiomilter.wire.framing import packet

from .clock import on_clock
from .patience import PATIENCE
from .peer import (
    ABORT,
    CALLBACKS,
    DATA,
    EOH,
    EOM,
    MESSAGE,
    OPENING,
    QUIT,
    Gate,
    body,
    codes,
    connect,
    filter_class,
    header,
    later,
    mail,
    names,
    offer,
    pieces,
    rcpt,
    serving,
)

name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="unset")


# A callback behaves as anywhere: on real sockets, on both loops, with eager tasks


async def identity(filter_: Any, ctx: Any, event: Any) -> None:
    task = asyncio.current_task()
    assert task is not None
    before = getattr(filter_, "task", task)
    filter_.task = task
    assert before is task, "another task than in the callback before"
    await asyncio.sleep(0)
    assert asyncio.current_task() is task


async def own_timeout(filter_: Any, ctx: Any, event: Any) -> None:
    try:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()
    except TimeoutError:
        pass
    else:
        raise AssertionError("did not time out")
    async with asyncio.timeout(60):
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            pass
        await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def own_timeout_inline(filter_: Any, ctx: Any, event: Any) -> None:
    async with asyncio.timeout(60):
        pass


async def group(filter_: Any, ctx: Any, event: Any) -> None:
    async def child(number: int) -> int:
        await asyncio.sleep(0)
        return number

    async with asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(child(number)) for number in range(3)]
    assert [task.result() for task in made] == [0, 1, 2]


async def failing_group(filter_: Any, ctx: Any, event: Any) -> None:
    async def child() -> None:
        raise ValueError("child")

    async def work() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(child())
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as found:
        await work()
    assert [str(error) for error in found.value.exceptions] == ["child"]
    await asyncio.sleep(0)


async def thread(filter_: Any, ctx: Any, event: Any) -> None:
    assert await asyncio.to_thread(lambda: "thread") == "thread"


async def gathered(filter_: Any, ctx: Any, event: Any) -> None:
    assert list(await asyncio.gather(asyncio.sleep(0, "a"), asyncio.sleep(0, "b"))) == ["a", "b"]


async def waited_for(filter_: Any, ctx: Any, event: Any) -> None:
    assert await asyncio.wait_for(asyncio.sleep(0, "done"), 60) == "done"


async def shielded(filter_: Any, ctx: Any, event: Any) -> None:
    assert await asyncio.shield(asyncio.ensure_future(asyncio.sleep(0, "done"))) == "done"


async def queue(filter_: Any, ctx: Any, event: Any) -> None:
    items: asyncio.Queue[int] = asyncio.Queue()
    asyncio.get_running_loop().call_soon(items.put_nowait, 1)
    assert await items.get() == 1


async def lock(filter_: Any, ctx: Any, event: Any) -> None:
    held = asyncio.Lock()
    async with held:
        other = asyncio.ensure_future(held.acquire())
        await asyncio.sleep(0)
    assert await other


async def context_variable(filter_: Any, ctx: Any, event: Any) -> None:
    count = int(name.get()) + 1 if name.get() != "unset" else 1
    assert count == getattr(filter_, "count", 0) + 1, "kept for the connection, and for no other"
    filter_.count = count
    name.set(str(count))
    await asyncio.sleep(0)
    assert name.get() == str(count)


async def child_task_sees_the_context(filter_: Any, ctx: Any, event: Any) -> None:
    name.set("parent")

    async def child() -> str:
        return name.get()

    assert await asyncio.create_task(child()) == "parent"


BEHAVIOURS: Final[list[Callable[..., Awaitable[None]]]] = [
    identity,
    own_timeout,
    own_timeout_inline,
    group,
    failing_group,
    thread,
    gathered,
    waited_for,
    shielded,
    queue,
    lock,
    context_variable,
    child_task_sees_the_context,
]


async def conversation(address: str, octets: bytes, answers: int) -> str:
    """Say something over TCP and return the codes of so many answers."""
    host, port = address.removeprefix("inet:").split("@")[1], int(address.removeprefix("inet:").split("@")[0])
    reader, writer = await asyncio.open_connection(host, port)
    found = b""
    for piece in pieces(octets):
        writer.write(piece)
    while len(found) < 17 + 5 * (answers - 1):
        found += await reader.read(4096) or pytest.fail("closed")
    writer.close()
    await writer.wait_closed()
    return codes(found)


async def play(behaviour: Any) -> list[str]:
    """Play messages of two connections at once to a filter all of whose callbacks behave so; return what failed."""
    failures: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(str(context)))

    class Heard:
        debug = False

        def __getattr__(self, called: str) -> Any:
            if called in ("callback_failed", "callback_timed_out", "internal_error", "peer_error", "limit_reached"):
                return lambda event: failures.append(repr(event))
            return lambda *args: None

    filter_ = filter_class(dict.fromkeys(CALLBACKS[1:], behaviour))
    observer: Any = Heard()
    async with serve(filter_, "inet:0@127.0.0.1", observer=observer) as server:
        for octets in (OPENING + MESSAGE + MESSAGE, OPENING + MESSAGE):
            expected = 1 + len(pieces(octets)) - 1
            found = await asyncio.gather(*(conversation(server.addresses[0], octets, expected) for _ in range(2)))
            if found != ["O" + "c" * (expected - 1)] * 2:
                failures.append(str(found))
    if filter_.made == []:
        failures.append("no filter was made")
    left = asyncio.all_tasks() - {asyncio.current_task()}
    return [*failures, *map(str, left)]


LOOPS: Final[dict[str, Any]] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    factory: Any = asyncio.eager_task_factory  # type: ignore[attr-defined, unused-ignore]
    loop.set_task_factory(factory)
    return loop


if sys.version_info >= (3, 12):
    LOOPS["eager"] = eager_loop


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda behaviour: behaviour.__name__)
def test_a_callback_behaves_as_anywhere(behaviour: Any, loop: str) -> None:
    """P-135."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        assert runner.run(play(behaviour)) == []


@pytest.mark.parametrize("loop", LOOPS)
def test_a_failure_is_answered_on_every_loop(loop: str) -> None:
    """P-096, P-135."""

    async def main() -> None:
        from .test_session_failures import CANCELLING

        for cancel in CANCELLING:
            filter_ = filter_class({"envfrom": cancel, "envrcpt": later(), "eom": later()})
            async with serving(filter_) as scene:
                peer = await scene.opened()
                assert await peer.send(mail()) == "t"
                filter_.play = {}
                assert await peer.send(ABORT) == ""
                assert await peer.send(MESSAGE) == "ccccccc"

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())


async def test_two_connections_run_side_by_side() -> None:
    """P-135."""
    gate = Gate()
    filter_ = filter_class({"envfrom": gate()})
    async with serving(filter_) as scene:
        waiting, other = scene.peer(), await scene.opened(offer())
        waiting.write(OPENING + mail())
        await gate.reached.wait()
        filter_.play = {}
        assert await other.send(connect() + MESSAGE) == "cccccccc"
        assert gate.left == []
        gate.opened.set()
        await waiting.quiet()

    assert waiting.answers == "Occc"


async def test_callbacks_of_one_connection_never_overlap() -> None:
    """P-135."""
    inside: list[str] = []
    most: list[int] = []

    async def callback(filter_: Any, ctx: Any, event: Any) -> None:
        inside.append("in")
        most.append(len(inside))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        inside.pop()

    filter_ = filter_class(dict.fromkeys(CALLBACKS[1:], callback), silent=["header", "body", "envfrom"])
    async with serving(filter_) as scene:
        peer = scene.peer()
        peer.write(OPENING + MESSAGE + MESSAGE, size=11)
        await peer.quiet()
        peer.hang_up()
        await peer.quiet()

    assert set(most) == {1}
    assert len(most) == len(filter_.told) == 17


# Back-pressure


async def test_reading_pauses_while_a_callback_waits_and_too_much_comes() -> None:
    gate = Gate()
    filter_ = filter_class({"envfrom": gate()}, silent=["envfrom", "envrcpt", "header", "body"])
    async with serving(filter_, max_waiting_size=1000) as scene:
        peer = scene.peer()
        peer.write(OPENING + mail())
        await gate.reached.wait()
        reading = [peer.wire.reading]
        peer.write(rcpt() + header("A", "x" * 900))
        await asyncio.sleep(0)
        reading.append(peer.wire.reading)
        peer.write(header("A", "x" * 100))
        await asyncio.sleep(0)
        reading.append(peer.wire.reading)
        gate.opened.set()
        await peer.quiet()
        reading.append(peer.wire.reading)

    assert reading == [True, True, False, True]
    assert names(filter_).count("header") == 2


async def test_reading_pauses_for_what_waits_with_the_callback_at_once() -> None:
    gate = Gate()
    async with serving(filter_class({"envfrom": gate()}), max_waiting_size=1000) as scene:
        peer = scene.peer()
        peer.write(OPENING + mail() + rcpt("<" + "x" * 1000 + ">"))
        await gate.reached.wait()
        await asyncio.sleep(0)
        assert not peer.wire.reading
        gate.opened.set()
        await peer.quiet()
        assert peer.wire.reading


async def test_reading_pauses_while_the_mta_does_not_read_and_resumes_when_it_does() -> None:
    async with serving(filter_class({"eom": lambda f, ctx, e: ctx.replace_body(b"x" * 100000)})) as scene:
        peer = await scene.opened()
        peer.wire.stalled = True
        peer.write(MESSAGE)
        async with asyncio.timeout(PATIENCE):
            while peer.wire.reading:
                await asyncio.sleep(0)
        reading = [peer.wire.reading]
        peer.wire.take()
        await peer.quiet()
        reading.append(peer.wire.reading)
        assert reading == [False, True]
        assert await peer.send(MESSAGE) == "ccccccbbc"


async def test_an_mta_that_does_not_read_is_closed() -> None:
    filter_ = filter_class({"eom": lambda f, ctx, e: ctx.replace_body(b"x" * 100000)})
    async with serving(filter_, write_timeout=0.002) as scene:
        peer = await scene.opened()
        peer.wire.stalled = True
        await peer.send(MESSAGE)
        async with asyncio.timeout(PATIENCE):
            while not peer.wire.lost:
                await asyncio.sleep(0)

    assert peer.wire.aborted
    assert names(filter_)[-1] == "close"
    assert any("0.002 s" in remark for remark in scene.watcher.remarks)


@on_clock
async def test_an_mta_that_reads_slowly_is_not_closed() -> None:
    filter_ = filter_class({"eom": lambda f, ctx, e: ctx.replace_body(b"x" * 300000)})
    async with serving(filter_, write_timeout=60) as scene:
        peer = await scene.opened()
        peer.wire.stalled = True
        peer.write(MESSAGE)
        for _ in range(4):
            await asyncio.sleep(50)
            peer.wire.take_some(10000)
        aborted = peer.wire.aborted
        await asyncio.sleep(121)

    assert not aborted
    assert peer.wire.aborted


@on_clock
async def test_an_mta_that_reads_all_but_the_last_octets_after_quit_is_closed() -> None:
    filter_ = filter_class({"eom": lambda f, ctx, e: ctx.replace_body(b"x" * 100000)})
    async with serving(filter_, write_timeout=60) as scene:
        peer = await scene.opened()
        peer.wire.stalled = True
        peer.write(MESSAGE + QUIT)
        await asyncio.sleep(1)
        assert peer.wire.closing
        peer.wire.take_some(peer.wire.size - 5000)
        await asyncio.sleep(61)

        assert peer.wire.lost


async def test_a_stop_answers_the_end_that_came_with_the_last_of_the_body() -> None:
    gate = Gate()
    async with serving(filter_class({"body": gate()})) as scene:
        peer = await scene.opened(OPENING + mail() + rcpt() + DATA + header() + EOH)
        before = len(peer.octets)
        peer.write(packet(Command.BODYEOB, b"last"))
        await gate.reached.wait()
        await scene.server.close()

        assert codes(peer.octets[before:]) == "t"


@pytest.mark.parametrize("size", [10, 100000])
async def test_an_mta_that_does_not_read_does_not_keep_its_connection_open_at_the_end(size: int) -> None:
    """P-136: what waits to be written after QUIT is given up, and the server can end."""
    filter_ = filter_class({"eom": lambda f, ctx, e: ctx.replace_body(b"x" * size)})
    async with serving(filter_, write_timeout=0.002) as scene:
        peer = await scene.opened()
        peer.wire.stalled = True
        peer.write(MESSAGE + QUIT)
        async with asyncio.timeout(PATIENCE):
            await scene.server.close()
        assert peer.wire.lost

    assert names(filter_)[-1] == "close"


async def test_an_mta_that_reads_after_quit_gets_all() -> None:
    filter_ = filter_class({"eom": lambda f, ctx, e: ctx.replace_body(b"x" * 10)})
    async with serving(filter_, write_timeout=60) as scene:
        peer = await scene.opened()
        peer.wire.stalled = True
        peer.write(MESSAGE + QUIT)
        for _ in range(5):
            await asyncio.sleep(0)
        lost = peer.wire.lost
        peer.wire.take()
        await peer.quiet()

    assert not lost
    assert not peer.wire.aborted
    assert peer.answers.endswith("bc")


async def test_a_silent_connection_is_closed() -> None:
    """P-130."""
    filter_ = filter_class()
    async with serving(filter_, idle_timeout=0.01) as scene:
        peer = await scene.opened(OPENING + mail())
        async with asyncio.timeout(PATIENCE):
            while not peer.wire.lost:
                await asyncio.sleep(0)

    assert names(filter_)[-2:] == ["abort", "close"]
    assert peer.answers == "Occc"
    assert scene.watcher.remarks == ["a connection sent no packet for 0.01 s; closing"]


async def test_a_connection_whose_callback_waits_is_not_silent() -> None:
    """P-130."""
    gate = Gate(REJECT)
    filter_ = filter_class({"envfrom": gate()})
    async with serving(filter_, idle_timeout=0.01) as scene:
        peer = scene.peer()
        peer.write(OPENING + mail())
        await gate.reached.wait()
        silent = scene.peer()
        async with asyncio.timeout(PATIENCE):
            while not silent.wire.lost:
                await asyncio.sleep(0)
        assert not peer.wire.lost
        gate.opened.set()
        await peer.quiet()
        assert peer.answers[-1] == "r"


@on_clock
async def test_without_idle_timeout_a_connection_may_be_silent_for_ever() -> None:
    """P-130."""
    async with serving(filter_class(), idle_timeout=None) as scene:
        peer = await scene.opened()
        await asyncio.sleep(86_400)
        assert not peer.wire.lost


# How octets arrive


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 13, 4096])
@pytest.mark.parametrize("form", ["inline", "suspended"])
async def test_any_split_gives_the_same(size: int, form: str) -> None:
    """P-004, P-005."""
    silent = ["envfrom", "envrcpt", "header", "body"]
    filter_ = filter_class({} if form == "inline" else {each: later() for each in CALLBACKS}, silent=silent)
    async with serving(filter_) as scene:
        peer = await scene.opened()
        assert await peer.send(MESSAGE + MESSAGE, size=size) == "cccccc"

    assert names(filter_) == [
        "connect",
        "helo",
        *["envfrom", "envrcpt", "data", "header", "eoh", "body", "eom"] * 2,
        "close",
    ]


async def test_a_packet_that_is_too_large_is_not_kept() -> None:
    """P-003."""
    async with serving(filter_class()) as scene:
        peer = await scene.opened()
        await peer.send((65538).to_bytes(4, "big") + b"B" + b"x" * 10)
        assert peer.wire.lost
        large = await scene.opened()
        assert await large.send(b"\x7f\xff\xff\xffB") == ""
        assert large.wire.lost


async def test_what_follows_the_end_is_not_read() -> None:
    filter_ = filter_class()
    async with serving(filter_) as scene:
        peer = await scene.opened()
        peer.write(QUIT)
        peer.write(MESSAGE)
        await peer.quiet()

    assert names(filter_) == ["connect", "helo", "close"]


async def test_octets_that_come_while_the_last_callbacks_run_are_not_handled() -> None:
    gate = Gate()
    filter_ = filter_class({"close": gate()})
    async with serving(filter_) as scene:
        peer = scene.peer()
        peer.write(OPENING + QUIT)
        await gate.reached.wait()
        peer.write(MESSAGE)
        await asyncio.sleep(0)
        gate.opened.set()
        await peer.quiet()

    assert names(filter_) == ["connect", "helo", "close"]


# Nothing is left


TEARDOWN: Final = """
import asyncio, sys, warnings
warnings.simplefilter("error")
from tests.peer import OPENING, filter_class, mail, Gate
from aiomilter import serve

LOOP = {loop!r}

async def main():
    gate = Gate()
    filter_ = filter_class({{"envfrom": gate()}})
    async with serve(filter_, "inet:0@127.0.0.1") as server:
        await use(server, gate)
        raise SystemExit(7)

async def use(server, gate):
    port = int(server.addresses[0].split("@")[0].split(":")[1])
    writers = []
    for octets in (OPENING, OPENING + mail()):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(octets)
        await reader.read(1)
        writers.append(writer)
    await gate.reached.wait()
    for writer in writers:
        writer.transport.abort()

if LOOP == "uvloop":
    import uvloop
    run = lambda main: asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main)
else:
    run = asyncio.run
try:
    run(main())
finally:
    print("ended")
"""


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_loop_that_ends_with_open_connections_ends(loop: str) -> None:
    """P-136: an exit inside the block closes all, and the process ends without a word."""
    code = TEARDOWN.format(loop=loop)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "ended\n", "")


def test_keyboard_interrupt_passes() -> None:
    """It is no failure of the filter, inline or suspended."""
    for form in (KeyboardInterrupt(), later(KeyboardInterrupt())):
        filter_ = filter_class({"envfrom": form})

        async def main(filter_: Any = filter_) -> None:
            from .peer import Scene, Watcher

            server: Server = serve(filter_, "inet:0@127.0.0.1")
            await server.start(listen=False)
            peer = Scene(server, Watcher()).peer()
            peer.write(OPENING + mail())
            await asyncio.Event().wait()

        runner = asyncio.Runner()
        runner.get_loop().set_exception_handler(lambda loop, context: None)
        with pytest.raises(KeyboardInterrupt):
            runner.run(main())
        runner.close()


@pytest.mark.parametrize("form", ["inline", "suspended"])
async def test_a_bug_of_ours_closes_one_connection_and_is_logged(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filter_ = filter_class({"envrcpt": None if form == "inline" else later()})
    async with serving(filter_) as scene:
        other = await scene.opened()
        for broken in (OPENING, OPENING + mail()):
            peer = await scene.opened(broken)
            monkeypatch.setattr(type(peer.protocol.session), "add_recipient", None)
            await peer.send(mail() + rcpt())
            monkeypatch.undo()
            assert peer.wire.aborted
        assert await other.send(MESSAGE) == "ccccccc"

    assert all("bug" in what for _, what, _ in scene.watcher.failures)
    assert len(scene.watcher.failures) == 2


async def test_a_body_of_many_chunks_is_not_quadratic() -> None:
    """P-045: each chunk is delivered as it comes."""
    chunks: list[int] = []
    filter_ = filter_class({"body": lambda f, ctx, chunk: chunks.append(len(chunk))}, silent=["body"])
    async with serving(filter_) as scene:
        peer = await scene.opened(OPENING + mail() + rcpt() + DATA + EOH)
        for _ in range(20):
            peer.write(body(b"x" * 65535))
        assert await peer.send(EOM) == "c"

    assert chunks == [65535] * 20
