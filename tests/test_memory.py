"""What a server keeps and has in work as a whole: octets are counted exactly, and above the limit nobody is read or begun."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final

import pytest
import uvloop

from aiomilter import ACCEPT, REJECT, TEMPFAIL, FailurePolicy, serve
from aiomilter._serving.memory import MemoryLimit
from aiomilter.wire.state import LIBMILTER

from .clock import on_clock
from .patience import PATIENCE
from .peer import (
    ABORT,
    EOM,
    MESSAGE,
    OPENING,
    QUIT,
    QUIT_NC,
    Gate,
    Scripted,
    Watcher,
    body,
    codes,
    connect,
    filter_class,
    frames,
    helo,
    macros,
    mail,
    offer,
    rcpt,
    serving,
)

LIMIT: Final = 100_000
FULL: Final = "octets are buffered (--max-memory); pausing connections that hold some, refusing new messages"


class Reader:
    def __init__(self) -> None:
        self.called = 0

    def relieved(self) -> None:
        self.called += 1


def test_a_budget_is_full_from_its_limit_to_a_bit_below() -> None:
    said: list[tuple[str, str]] = []
    memory = MemoryLimit(800, None, lambda limit, number, what: said.append((limit, what)))
    reader, gone = Reader(), Reader()
    states = []
    for octets in (799, 1, 100, -200, 1, -1, -700):
        memory.change(octets)
        states.append((memory.full, memory.busy))
        if memory.full:
            memory.hold(reader)
            memory.hold(gone)
            memory.let_go(gone)
            assert memory.holds(reader)
    assert states == [
        (False, False),
        (True, True),
        (True, True),
        (True, True),
        (True, True),
        (True, True),
        (False, False),
    ]
    assert (reader.called, gone.called, memory.used, memory.holds(reader)) == (1, 0, 0, False)
    assert said == [("memory", f"800 {FULL}")]


# Octets that wait


async def test_who_waits_is_read_no_more_when_all_keep_too_much() -> None:
    gate = Gate()
    filter_ = filter_class({"envfrom": gate()})
    async with serving(filter_, max_memory=LIMIT, max_waiting_size=10 * LIMIT) as scene:
        one, two = await scene.opened(), await scene.opened()
        memory = scene.server._memory
        one.write(mail())
        two.write(mail())
        await gate.reached.wait()
        two.write(rcpt())
        one.write(body(b"x" * 60_000))
        while memory.used < 60_000:
            await asyncio.sleep(0)
        assert one.wire.reading
        one.write(body(b"x" * 50_000))
        while not memory.full:
            await asyncio.sleep(0)
        # Who adds nothing is left alone; the next octet of anybody who keeps some is the last.
        assert (one.wire.reading, two.wire.reading) == (False, True)
        two.write(rcpt())
        while two.wire.reading:
            await asyncio.sleep(0)
        gate.opened.set()
        await one.quiet()
        await two.quiet()
        for _ in range(3):
            await asyncio.sleep(0)
        assert (memory.used, one.wire.reading, two.wire.reading) == (0, True, True)
        assert await two.send(ABORT + MESSAGE) == "ccccccc"
        assert [said.endswith(FULL) for said in scene.watcher.remarks].count(True) == 1


@pytest.mark.parametrize(
    ("options", "answer"),
    [({}, TEMPFAIL), ({"on_error": ACCEPT}, ACCEPT), ({"on_error": FailurePolicy(other=REJECT)}, REJECT)],
    ids=str,
)
async def test_new_messages_are_refused_meanwhile_and_the_filter_is_not_asked(
    options: dict[str, Any], answer: Any
) -> None:
    gate = Gate()
    filter_ = filter_class({"eom": gate()})
    async with serving(filter_, max_memory=LIMIT, max_waiting_size=2 * LIMIT, **options) as scene:
        greedy, other = await scene.opened(), await scene.opened()
        begun = await scene.opened(OPENING + mail())
        greedy.write(MESSAGE)
        await gate.reached.wait()
        greedy.write(b"".join(body(b"x" * 60_000) for _ in range(2)))
        while not scene.server._memory.full:
            await asyncio.sleep(0)
        calls = len(filter_.told)
        await other.send(mail("<refused@x>"))
        assert other.octets.endswith(answer.packet)
        assert len(filter_.told) == calls
        # What has begun goes on.
        assert await begun.send(rcpt()) == "c"
        gate.opened.set()
        await greedy.quiet()
        assert await other.send(ABORT + mail()) == "c"


async def test_a_message_refused_without_an_answer_to_its_sender_is_refused_at_its_end() -> None:
    gate = Gate()
    filter_ = filter_class({"eom": gate()}, callbacks=["eom"])
    async with serving(filter_, max_memory=LIMIT, max_waiting_size=2 * LIMIT) as scene:
        greedy, other = await scene.opened(), await scene.opened()
        greedy.write(mail() + rcpt() + EOM)
        await gate.reached.wait()
        greedy.write(b"".join(body(b"x" * 60_000) for _ in range(2)))
        while not scene.server._memory.full:
            await asyncio.sleep(0)
        assert await other.send(mail() + rcpt() + EOM) == "t"
        gate.opened.set()
        await greedy.quiet()


async def test_an_unfinished_packet_counts_until_it_is_whole() -> None:
    filter_ = filter_class()
    chunk = body(b"x" * 50_000)
    async with serving(filter_) as scene:
        peer = await scene.opened()
        memory = scene.server._memory
        await peer.send(MESSAGE.removesuffix(EOM) + chunk[:10])
        first = memory.used
        assert first >= 10
        await peer.send(chunk[10:40_000])
        assert memory.used == first + 39_990
        assert await peer.send(chunk[40_000:] + EOM) == "cc"
        assert memory.used == 0
        # A few octets do not keep the whole read that brought them.
        await peer.send(mail() + body(b"x" * 60_000) + chunk[:10])
        assert memory.used == 10


async def test_half_packets_of_many_fill_the_budget_and_their_end_frees_it() -> None:
    filter_ = filter_class()
    chunk = body(b"x" * 50_000)
    async with serving(filter_, max_memory=LIMIT) as scene:
        peers = [await scene.opened(OPENING + mail()) for _ in range(4)]
        for peer in peers:
            await peer.send(chunk[:40_000])
        # Only what comes can make them whole.
        assert [peer.wire.reading for peer in peers] == [True, True, True, True]
        assert scene.server._memory.full
        peers[0].hang_up()
        peers[1].hang_up()
        await peers[1].quiet()
        for _ in range(3):
            await asyncio.sleep(0)
        assert scene.server._memory.used == 80_000
        assert not scene.server._memory.full


async def test_who_keeps_half_a_packet_when_its_callback_has_ended_may_finish_it() -> None:
    gate = Gate()
    chunk = body(b"x" * 60_000)
    async with serving(filter_class({"envrcpt": gate()}), max_memory=LIMIT) as scene:
        one, two = await scene.opened(OPENING + mail()), await scene.opened(OPENING + mail())
        await one.send(chunk[:55_000])
        two.write(rcpt() + chunk[:55_000])
        await gate.reached.wait()
        while two.wire.reading:
            await asyncio.sleep(0)
        gate.opened.set()
        await two.quiet()
        assert scene.server._memory.full
        assert (two.answers, two.wire.reading) == ("Occcc", True)
        await two.send(chunk[55_000:])
        await one.send(chunk[55_000:])
        assert scene.server._memory.used == 0


@on_clock
async def test_half_packets_that_nobody_ends_give_way_in_time() -> None:
    filter_ = filter_class()
    async with serving(filter_, max_memory=LIMIT, packet_timeout=30) as scene:
        peers = [scene.peer() for _ in range(3)]
        for peer in peers:
            peer.write(OPENING + mail() + body(b"x" * 60_000)[:50_000])
        honest = scene.peer()
        honest.write(OPENING + mail())
        await asyncio.sleep(1)
        assert scene.server._memory.full
        assert honest.answers == "Occt"
        await asyncio.sleep(50)
        assert [peer.wire.lost for peer in peers] == [True, True, True]
        assert not scene.server._memory.used
        honest.write(ABORT + mail())
        await asyncio.sleep(0.1)
        assert honest.answers == "Occtc"


# What a connection knows of its client and its message

WIDE: Final = "\N{SNOWMAN}" * 19_000


def macros_of(command: str, size: int = 57_000) -> bytes:
    return macros(command, x="y" * size)


@pytest.mark.parametrize(
    ("octets", "least", "afterwards"),
    [
        (macros_of("C"), 57_000, 57_000),
        (macros_of("H") + helo(), 57_000, 57_000),
        (
            macros_of("C")
            + macros_of("H")
            + macros_of("M")
            + mail()
            + macros_of("R")
            + rcpt()
            + macros_of("T")
            + macros_of("N"),
            6 * 57_000,
            3 * 57_000,
        ),
        (helo("x" * 60_000), 60_000, 60_000),
        (mail("<" + "x" * 60_000 + "@x>"), 60_000, 0),
        (mail("<a@x>", *["X"] * 20_000), 20_000 * 42, 0),
        (mail() + rcpt("<" + "x" * 60_000 + "@x>") * 3, 180_000, 0),
        (mail() + rcpt("<b@x>", "NOTIFY=NEVER", "ORCPT=rfc822;b@x") * 320, 320 * 200, 0),
        (mail() + rcpt("<b@x>", *["X"] * 400) * 16, 16 * 400 * 64, 0),
    ],
    ids=["connect", "helo", "all", "name", "sender", "params", "recipient", "recipients", "recipient params"],
)
@pytest.mark.parametrize("size", [0, 900], ids=["whole", "pieces"])
async def test_macros_and_envelope_count_where_they_are_large(
    octets: bytes, least: int, afterwards: int, size: int
) -> None:
    async with serving(filter_class()) as scene:
        peer = await scene.opened()
        memory = scene.server._memory
        await peer.send(octets, size=size)
        assert least <= memory.used < 1.2 * least + 2000
        await peer.send(ABORT + ABORT)
        assert afterwards <= memory.used < 1.2 * afterwards + 2000
        await peer.send(QUIT_NC)
        assert memory.used < 2000


@pytest.mark.parametrize("rules", ["native", "classic"])
async def test_macros_that_were_read_count_as_what_they_take(rules: str) -> None:
    def read(filter_: Any, ctx: Any, event: Any) -> None:
        assert ctx.macro("x") == WIDE

    filter_ = filter_class({"envfrom": read})
    async with serving(filter_) as scene:
        peer = await scene.opened()
        if rules == "classic":
            peer.protocol.session.wire._rules = LIBMILTER
        octets = mail()
        await peer.send(macros("M", x=WIDE) + octets)
        assert 38_000 < scene.server._memory.used < 110_000


async def test_a_usual_conversation_counts_nothing() -> None:
    usual = macros("M", i="4Xy" * 5, mail_addr="alice@example.org", cert_subject="x" * 300) + mail() + rcpt() * 40
    filter_ = filter_class()
    async with serving(filter_) as scene:
        peer = await scene.opened()
        await peer.send(macros("C", j="mx.example.net", v="Postfix 3.7.11") + usual)
        assert not scene.server._memory.used


async def test_a_new_message_is_refused_while_macros_fill_the_budget() -> None:
    async with serving(filter_class(), max_memory=LIMIT) as scene:
        greedy = [await scene.opened(OPENING + macros_of("C")) for _ in range(2)]
        honest = await scene.opened()
        assert await honest.send(mail()) == "t"
        await greedy[0].send(QUIT_NC + connect())
        assert await honest.send(ABORT + mail()) == "c"


@on_clock
async def test_who_keeps_much_and_says_nothing_gives_way_in_time() -> None:
    async with serving(filter_class(), max_memory=LIMIT, packet_timeout=30) as scene:
        greedy = [scene.peer() for _ in range(3)]
        for peer in greedy:
            peer.write(OPENING + macros_of("M") + mail())
        honest = scene.peer()
        honest.write(OPENING + mail() + rcpt())
        await asyncio.sleep(1)
        assert scene.server._memory.full
        await asyncio.sleep(25)
        assert [peer.wire.lost for peer in greedy] == [False] * 3
        await asyncio.sleep(25)
        assert [peer.wire.lost for peer in [*greedy, honest]] == [True] * 3 + [False]
        assert not scene.server._memory.used
        assert "a connection that has much buffered sent no packet for 30 s; closing" in scene.watcher.remarks


async def test_edits_and_a_new_body_count_while_eom_waits() -> None:
    gate = Gate()

    async def edit(filter_: Scripted, ctx: Any, event: Any) -> None:
        ctx.add_header("X-A", "y" * 1000)
        ctx.replace_body(b"z" * 50_000)
        await gate()(filter_, ctx, event)

    async with serving(filter_class({"eom": edit})) as scene:
        peer = await scene.opened()
        peer.write(MESSAGE)
        await gate.reached.wait()
        assert 51_000 < scene.server._memory.used < 52_000
        gate.opened.set()
        await peer.quiet()
        assert scene.server._memory.used == 0


async def test_answers_that_an_mta_does_not_take_count() -> None:
    async def edit(filter_: Scripted, ctx: Any, event: Any) -> None:
        ctx.replace_body(b"z" * 150_000)

    async with serving(filter_class({"eom": edit}), max_memory=LIMIT) as scene:
        peer = await scene.opened()
        peer.wire.stalled = True
        peer.write(MESSAGE)
        while not scene.server._memory.full:
            await asyncio.sleep(0)
        assert scene.server._memory.used >= 150_000
        peer.wire.take()
        await peer.quiet()
        assert (scene.server._memory.used, peer.wire.reading) == (0, True)


async def test_a_callback_that_nobody_waits_for_keeps_nothing() -> None:
    """It takes no notice of its cancellation, and goes on when its connection is over."""
    opened = asyncio.Event()
    reached = asyncio.Event()

    async def stubborn(filter_: Scripted, ctx: Any, event: Any) -> None:
        reached.set()
        while not opened.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await opened.wait()
        for _ in range(3):
            await asyncio.sleep(0)

    async with serving(filter_class({"envfrom": stubborn}), cancel_timeout=0.01, max_messages=5) as scene:
        peer = await scene.opened()
        peer.write(mail() + body(b"x" * 1000))
        await reached.wait()
        assert scene.server._memory.used
        peer.hang_up()
        async with asyncio.timeout(PATIENCE):
            while scene.server._connections:
                await asyncio.sleep(0)
        assert (scene.server._memory.used, scene.server._memory.messages) == (0, set())
        opened.set()
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_on_real_sockets_memory_stays_below_the_limit_and_all_are_served_in_the_end(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Twenty MTAs stream 400 KB each behind a callback that waits: 8 MB, of which the filter keeps 1 MB and a read of each."""
    watcher = Watcher()
    gate = Gate()
    filter_ = filter_class({"eoh": gate()}, silent=["envfrom", "envrcpt", "data", "header", "eoh", "body"])
    stream = MESSAGE.removesuffix(EOM) + b"".join(body(b"x" * 40_000) for _ in range(10)) + EOM
    peak = 0

    async def play(port: int) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(OPENING + stream + QUIT)
        answered = await reader.read()
        writer.close()
        return codes(answered)

    async def main() -> None:
        nonlocal peak
        options: dict[str, Any] = {"max_memory": 1_000_000, "max_waiting_size": 1_000_000, "observer": watcher}
        async with asyncio.timeout(PATIENCE), serve(filter_, "inet:0@127.0.0.1", **options) as server:
            port = int(server.addresses[0].removeprefix("inet:").partition("@")[0])
            playing = [asyncio.create_task(play(port)) for _ in range(20)]
            while not server._memory.full:
                await asyncio.sleep(0)
            for _ in range(200):
                await asyncio.sleep(0)
                peak = max(peak, server._memory.used)
            gate.opened.set()
            answers = await asyncio.gather(*playing)
            while server._connections:
                await asyncio.sleep(0)
            assert set(answers) <= {"Occc", "Occt"}
            assert answers.count("Occc") >= 4
            assert server._memory.used == 0

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())
    assert 1_000_000 <= peak < 1_000_000 + 20 * 262_144
    assert len(watcher.remarks) == 1


# Messages


async def test_messages_above_the_limit_are_answered_452() -> None:
    filter_ = filter_class()
    async with serving(filter_, max_messages=2) as scene:
        peers = [await scene.opened(OPENING + mail()) for _ in range(3)]
        assert [peer.answers[-1] for peer in peers] == ["c", "c", "y"]
        assert frames(peers[2].octets)[-1] == ("y", b"452 4.3.2 Too many messages at once\0")
        assert scene.watcher.remarks == ["2 messages are in progress; answering 452 to more (--max-messages)"]
        assert await peers[0].send(ABORT) == ""
        assert await peers[2].send(ABORT + mail()) == "c"
        peers[1].hang_up()
        await peers[1].quiet()
        assert await peers[0].send(MESSAGE) == "ccccccc"
        assert await peers[0].send(MESSAGE + QUIT) == "ccccccc"
        assert len(scene.server._memory.messages) == 1


async def test_messages_of_which_there_is_no_limit_are_not_counted() -> None:
    async with serving(filter_class()) as scene:
        await scene.opened(OPENING + mail())
        assert not scene.server._memory.messages


# New bodies


@pytest.mark.parametrize(("size", "passes"), [(1000, True), (1001, False)])
@pytest.mark.parametrize("answer", [TEMPFAIL, ACCEPT], ids=repr)
async def test_a_new_body_above_the_limit_is_a_failure(size: int, passes: bool, answer: Any) -> None:
    async def edit(filter_: Scripted, ctx: Any, event: Any) -> None:
        ctx.add_header("X-A", "a")
        ctx.replace_body(b"z" * size)

    async with serving(filter_class({"eom": edit}), max_new_body_size=1000, on_error=answer) as scene:
        peer = await scene.opened()
        assert (await peer.send(MESSAGE))[6:] == ("hbc" if passes else "t" if answer is TEMPFAIL else "a")
        assert len(scene.watcher.failures) == (not passes)


@pytest.mark.parametrize(("count", "answered"), [(10, "bbc"), (11, "bt"), (10_000_000, "bt")])
async def test_a_streamed_body_above_the_limit_is_tempfailed(count: int, answered: str) -> None:
    """Some of it has left: whatever on_error says, that may not pass."""
    made = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(count):
            made += 1
            yield b"z" * 10_000

    async def edit(filter_: Scripted, ctx: Any, event: Any) -> None:
        ctx.replace_body(pieces())

    async with serving(filter_class({"eom": edit}), max_new_body_size=100_000, on_error=ACCEPT) as scene:
        peer = await scene.opened()
        assert (await peer.send(MESSAGE))[6:] == answered
        assert made <= 11


async def test_a_piece_above_the_limit_is_not_kept() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"z" * 100_001

    async def edit(filter_: Scripted, ctx: Any, event: Any) -> None:
        ctx.replace_body(pieces())

    async with serving(filter_class({"eom": edit}), max_new_body_size=100_000) as scene:
        peer = await scene.opened()
        assert (await peer.send(MESSAGE))[6:] == "t"


# Packets that do not come


async def in_single_octets(peer: Any) -> None:
    """An octet every two seconds: never silent, never done."""
    for octet in (OPENING + mail())[:-3]:
        peer.write(bytes((octet,)))
        await asyncio.sleep(2)


async def half_a_packet(peer: Any) -> None:
    peer.write(offer() + connect()[:10])


async def half_a_length(peer: Any) -> None:
    peer.write(offer() + connect()[:3])


async def nothing(peer: Any) -> None:
    """Connect, and no more."""


async def half_an_offer(peer: Any) -> None:
    peer.write(offer()[:10])


@pytest.mark.parametrize("say", [in_single_octets, half_a_packet, half_a_length, nothing, half_an_offer])
@on_clock
async def test_who_does_not_finish_a_packet_is_closed(say: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    filter_ = filter_class()
    async with serving(filter_, packet_timeout=20) as scene:
        peer = scene.peer()
        saying = asyncio.create_task(say(peer))
        await asyncio.sleep(19)
        lost = [peer.wire.lost]
        await asyncio.sleep(31)
        assert [*lost, peer.wire.lost] == [False, True]
        saying.cancel()
        await asyncio.wait((saying,))
        silent = "a connection sent nothing within 20 s, as a mail client that waits for a greeting would; closing"
        said = "a connection sent no complete packet within 20 s; closing"
        assert scene.watcher.remarks == [silent if say is nothing else said]


@on_clock
async def test_half_a_packet_of_an_open_session_may_take_its_time() -> None:
    """Postfix writes whenever 4096 octets are full, and goes on when its client does."""
    async with serving(filter_class(), packet_timeout=20, idle_timeout=500) as scene:
        peer = scene.peer()
        peer.write(OPENING + mail() + rcpt()[:10])
        await asyncio.sleep(450)
        lost = [peer.wire.lost]
        peer.write(rcpt()[10:])
        await asyncio.sleep(1)
        assert peer.answers == "Occcc"
        # For ever is too long.
        for octet in body(b"x" * 10):
            peer.write(bytes((octet,)))
            await asyncio.sleep(100)
        assert [*lost, peer.wire.lost] == [False, True]
        assert scene.watcher.remarks == ["a connection sent no complete packet within 500 s; closing"]


@on_clock
async def test_half_a_packet_has_less_time_where_memory_is_short_but_not_less_than_said() -> None:
    gate = Gate()
    options: dict[str, Any] = {"max_memory": LIMIT, "max_waiting_size": 10 * LIMIT, "packet_timeout": 40}
    async with serving(filter_class({"eom": gate()}), answer_timeout=1000, callback_timeout=1000, **options) as scene:
        honest = scene.peer()
        honest.write(OPENING + mail() + rcpt()[:10])
        await asyncio.sleep(300)
        greedy = scene.peer()
        greedy.write(OPENING + MESSAGE + body(b"x" * 60_000) * 2)
        await asyncio.sleep(35)
        assert scene.server._memory.full
        lost = [honest.wire.lost]
        await asyncio.sleep(15)
        assert [*lost, honest.wire.lost] == [False, True]
        gate.opened.set()
        await greedy.quiet()


@on_clock
async def test_slow_is_not_stuck() -> None:
    """Packets that take 5 s each, one after the other, are none that takes long; nor is silence between packets."""
    async with serving(filter_class(), packet_timeout=20) as scene:
        peer = scene.peer()
        peer.write(OPENING)
        message = (MESSAGE * 2)[: -len(EOM)]
        for start in range(0, len(message), 8):
            peer.write(message[start : start + 8])
            await asyncio.sleep(2)
        await asyncio.sleep(1000)
        assert not peer.wire.lost
        peer.write(EOM)
        await asyncio.sleep(1)
        assert peer.answers.endswith("ccccccc" * 2)


@on_clock
async def test_what_waits_behind_a_callback_is_no_unfinished_packet() -> None:
    gate = Gate()
    options: dict[str, Any] = {"packet_timeout": 5, "progress_interval": None, "answer_timeout": 100}
    async with serving(filter_class({"envfrom": gate()}), **options) as scene:
        peer = scene.peer()
        peer.write(OPENING + mail() + rcpt()[:5])
        await asyncio.sleep(50)
        assert not peer.wire.lost
        gate.opened.set()
        peer.write(rcpt()[5:])
        await asyncio.sleep(50)
        assert not peer.wire.lost
        assert peer.answers == "Occcc"


async def test_who_keeps_nothing_any_more_is_read_though_others_keep_too_much() -> None:
    gates = {"<one@x>": Gate(), "<two@x>": Gate()}
    waits = {sender: gate() for sender, gate in gates.items()}

    async def wait(filter_: Any, ctx: Any, event: Any) -> Any:
        first = waits.pop(ctx.sender.path, None)
        return await first(filter_, ctx, event) if first is not None else None

    limits = {"max_memory": 100_000, "max_waiting_size": 1_000_000}
    async with serving(filter_class({"envrcpt": wait}), **limits) as scene:
        one, two = [await scene.opened(OPENING + mail(sender)) for sender in gates]
        one.write(rcpt())
        two.write(rcpt())
        for gate in gates.values():
            await gate.reached.wait()
        one.write(body(b"x" * 60_000) * 2)
        two.write(rcpt("<carol@x>"))
        while two.wire.reading:
            await asyncio.sleep(0)
        gates["<two@x>"].opened.set()
        await two.quiet()
        reading = two.wire.reading
        gates["<one@x>"].opened.set()

    assert reading
