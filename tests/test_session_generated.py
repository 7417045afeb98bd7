"""Generated conversations: any packets in any order, cut anywhere, callbacks that answer, raise and wait at random.

Whatever comes: one legal answer for each command that is due one, in order; callbacks pair up; nothing is left behind.
"""

import asyncio
import random
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter import ACCEPT, CONTINUE, DISCARD, REJECT, SKIP, TEMPFAIL, Stage, TemporaryFailure
from aiomilter.handler import CALLBACKS as NAME_OF
from aiomilter.wire.constants import Command
from aiomilter.wire.state import ANSWERS

from .peer import (
    ABORT,
    CALLBACKS,
    DATA,
    EOH,
    EOM,
    OPENING,
    QUIT,
    QUIT_NC,
    REPLY,
    Scene,
    Scripted,
    body,
    connect,
    filter_class,
    frames,
    header,
    helo,
    macros,
    mail,
    names,
    offer,
    pieces,
    rcpt,
    serving,
    unknown,
)

PACKETS: Final = {
    "C": connect(),
    "H": helo(),
    "M": mail(),
    "R": rcpt(),
    "T": DATA,
    "L": header(),
    "N": EOH,
    "B": body(),
    "E": EOM,
    "e": b"\0\0\0\6Ehello",
    "U": unknown(),
    "A": ABORT,
    "K": QUIT_NC,
    "D": macros("M", i="Q1"),
    "d": macros("L", i="Q2"),
}
WHOLE: Final = "MRTLNBE"
ORDERS: Final = st.one_of(
    st.text(alphabet="".join(PACKETS), max_size=25),
    st.lists(
        st.sampled_from(
            [WHOLE, "MRRTLLNBBE", "MA", "MRA", "HMRE", "U", "A", "K", "CH", "MRTLNBe", "MRTRTLNE", *PACKETS]
        ),
        max_size=8,
    ).map("".join),
)
DOINGS: Final = ("return", "suspend", "future", "raise", "raise later", "cancelled", "exit", "temporary")
RESPONSES: Final[tuple[Any, ...]] = (
    None,
    None,
    None,
    CONTINUE,
    ACCEPT,
    REJECT,
    TEMPFAIL,
    DISCARD,
    SKIP,
    REPLY,
    "nonsense",
    True,
)
STAGE_OF: Final = {chr(stage.command): stage for stage in Stage}


class Chance:
    """Callbacks that do at random what a filter may do, and note how they came out."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.running = 0

    async def __call__(self, filter_: Any, ctx: Any, event: Any) -> Any:
        assert self.running == 0, "two callbacks of one connection at once"
        self.running += 1
        try:
            return await self.do()
        finally:
            self.running -= 1

    async def do(self) -> Any:
        doing = "return" if self.random.random() < 0.5 else self.random.choice(DOINGS)
        response = None if self.random.random() < 0.6 else self.random.choice(RESPONSES)
        if doing in ("suspend", "raise later"):
            for _ in range(self.random.randrange(1, 3)):
                await asyncio.sleep(0)
        if doing == "future":
            event = asyncio.Event()
            asyncio.get_running_loop().call_soon(event.set)
            await event.wait()
        if doing.startswith("raise"):
            raise ValueError("by chance")
        if doing == "cancelled":
            raise asyncio.CancelledError
        if doing == "exit":
            raise SystemExit(1)
        if doing == "temporary":
            raise TemporaryFailure("by chance")
        return response


def play_of(chance: Chance) -> dict[str, Any]:
    def callback(name: str) -> Any:
        async def call(filter_: Any, ctx: Any, event: Any) -> Any:
            return await chance(filter_, ctx, event)

        return call

    return {name: callback(name) for name in CALLBACKS[1:]}


def run(scenario: Any) -> None:
    with asyncio.Runner() as runner:
        runner.run(scenario)


def due(order: str, silent: frozenset[Stage]) -> list[Stage]:
    """The stages that are due an answer."""
    found = [STAGE_OF.get("E" if letter == "e" else letter) for letter in order]
    return [stage for stage in found if stage is not None and stage not in silent]


def check_pairs(filter_: type[Scripted]) -> None:
    """Callbacks pair up: eom and abort come inside a message, and exclude each other."""
    told = names(filter_)
    inside = False
    for name in told:
        if name == "envfrom":
            inside = True
        elif name in ("abort", "eom"):
            assert inside, told
            inside = False


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(
    order=ORDERS,
    seed=st.integers(0, 2**32),
    size=st.sampled_from([0, 0, 1, 3, 7, 50]),
    silent=st.sets(st.sampled_from(range(8))),
)
def test_any_conversation_one_packet_at_a_time(order: str, seed: int, size: int, silent: set[int]) -> None:
    """P-004, P-005, P-030, P-031, P-066, P-096, P-097, P-135, P-136: an MTA that waits for each answer gets exactly one."""
    quiet = frozenset(Stage(number) for number in silent) | {Stage(9)} if 0 in silent else frozenset(map(Stage, silent))
    quiet = frozenset(stage for stage in quiet if stage is not Stage.EOM)

    async def scenario() -> None:
        chance = Chance(seed)
        filter_ = filter_class(play_of(chance), silent=[NAME_OF[stage] for stage in quiet])
        async with serving(filter_) as scene:
            peer = await scene.opened(offer())
            for letter in order:
                before = len(peer.octets)
                await peer.send(PACKETS[letter], size=size)
                assert not peer.wire.closing
                stage = STAGE_OF.get("E" if letter == "e" else letter)
                found = frames(peer.octets[before:])
                if stage is None or stage in quiet:
                    assert found == [], (letter, found)
                else:
                    assert len(found) == 1, (letter, found)
                    assert ord(found[0][0]) in ANSWERS[stage], (letter, found)
            await peer.send(QUIT)
            assert peer.wire.lost
        if not quiet & {Stage.CONNECT, Stage.HELO}:
            # Else an answer to the client may be kept for messages, whose callbacks are not called then, but for abort.
            check_pairs(filter_)
        assert names(filter_).count("close") == len(filter_.made) - 1

    run(scenario())


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(
    order=ORDERS,
    seed=st.integers(0, 2**32),
    size=st.sampled_from([0, 0, 1, 5, 50]),
    end=st.sampled_from(["quit", "lost", "garbage", "server"]),
    silent=st.booleans(),
)
def test_any_conversation_all_at_once(order: str, seed: int, size: int, end: str, silent: bool) -> None:
    """P-005, P-007, P-048, P-064, P-065, P-066, P-135, P-136: an MTA that waits for nothing, and any end."""

    async def scenario() -> None:
        chance = Chance(seed)
        stages = [NAME_OF[stage] for stage in Stage if stage is not Stage.EOM] if silent else []
        filter_ = filter_class(play_of(chance), silent=stages)
        async with serving(filter_) as scene:
            peer = scene.peer()
            octets = OPENING + b"".join(PACKETS[letter] for letter in order)
            peer.write(octets + {"quit": QUIT, "garbage": b"\0\0\0\0"}.get(end, b""), size=size)
            if end == "lost":
                peer.hang_up()
            if end == "server":
                await scene.server.close()
            await peer.quiet()
            assert peer.wire.lost
            assert chance.running == 0
            found = frames(peer.octets)[1:]
            asked = 2 * (not silent) + len(due(order, frozenset(Stage) - {Stage.EOM} if silent else frozenset()))
            assert len(found) <= asked
            if end == "garbage" and not silent:
                assert len(found) == asked
        assert names(filter_).count("close") == len(filter_.made) - 1

    run(scenario())


@settings(max_examples=60, deadline=None)
@given(octets=st.binary(max_size=60), start=st.sampled_from([b"", offer(), OPENING, OPENING + mail() + rcpt() + DATA]))
def test_any_octets_raise_nothing(octets: bytes, start: bytes) -> None:
    """P-002, P-003, P-007, P-010, P-044, P-048."""

    async def scenario() -> None:
        filter_ = filter_class()
        async with serving(filter_) as scene:
            peer = await scene.opened(start + octets)
            peer.hang_up()
            await peer.quiet()
            assert not scene.watcher.failures

    run(scenario())


@settings(max_examples=60, deadline=None)
@given(
    payload=st.binary(max_size=40),
    code=st.sampled_from(sorted(Command)),
    start=st.sampled_from(
        [offer(), OPENING, OPENING + mail() + rcpt() + DATA, OPENING + mail() + rcpt() + DATA + header() + EOH]
    ),
)
def test_any_payload_raises_nothing(payload: bytes, code: int, start: bytes) -> None:
    """P-044, P-048."""

    async def scenario() -> None:
        filter_ = filter_class()
        async with serving(filter_) as scene:
            peer = await scene.opened(start)
            await peer.send(len(payload + b"x").to_bytes(4, "big") + bytes([code]) + payload)
            if not peer.wire.lost:
                assert await peer.send(ABORT + mail()) == "c"
            assert not scene.watcher.failures

    run(scenario())


async def test_one_wrong_message_among_many_disturbs_no_other() -> None:
    """P-044, P-067, P-135: four connections, a hundred messages, every fifth of them odd; none raises anywhere."""
    odd = [
        header("\x01\udcff", "\udcfe\udcff"),
        header() * 200,
        header("X-Long", "x" * 60000),
        header("X-Fold", "a\n b\n\tc\n d"),
        header("X-Empty", ""),
        body(b"\0\0\xff\r\r\n\n") * 3,
    ]
    envelopes = [
        mail("") + rcpt(""),
        mail("<>") + rcpt("<\udcff\udcfe@x>"),
        mail("<" + "a" * 5000 + "@x>", "=", "", "X=\udcff") + rcpt("no brackets at all"),
        mail("<@@@:>") + rcpt("<>>>"),
    ]
    clients = [b"\0\0\0\x0cClocalhost\0U", connect("unknown", "unknown"), connect("", ""), connect()]
    counts = {"eom": 0}

    def eom(filter_: Any, ctx: Any, event: Any) -> None:
        counts["eom"] += 1
        repr(
            (
                ctx.sender,
                ctx.sender.address,
                ctx.sender.keywords,
                ctx.recipients,
                ctx.client.ip,
                ctx.auth,
                ctx.mta,
                ctx.notes,
            )
        )
        [rcpt.address for rcpt in ctx.recipients]
        ctx.add_header("X-Seen", ctx.sender.address.encode("ascii", "replace").decode() or "null")

    def on_header(filter_: Any, ctx: Any, event: Any) -> None:
        repr((event.raw, event.name, event.value))

    async def connection(scene: Scene, number: int) -> None:
        peer = await scene.opened(offer() + clients[number] + helo("\udcff" * number))
        for count in range(25):
            wrong = count % 5 == 4
            envelope = envelopes[(count + number) % 4] if wrong else mail() + rcpt()
            content = odd[(count + number) % 6] if wrong else header()
            if content[4:5] == b"B":
                parts = envelope + DATA + header() + EOH + content + EOM
            else:
                parts = envelope + DATA + content + EOH + body() + EOM
            found = await peer.send(parts)
            assert found == "c" * (len(pieces(parts)) - 1) + "hc"
        await peer.send(QUIT)

    async with serving(filter_class({"eom": eom, "header": on_header})) as scene:
        await asyncio.gather(*(connection(scene, number) for number in range(4)))

    assert counts["eom"] == 100
    assert not scene.watcher.failures
    assert not scene.watcher.remarks
    assert len(scene.watcher.messages) == 100


EMPTY_NAMES: Final = [header("", "x"), b"\0\0\0\3L\0\0", b"\0\0\0\4LA\0x", b"\0\0\0\1L"]


@pytest.mark.parametrize("wrong", EMPTY_NAMES)
async def test_a_malformed_packet_ends_its_connection_and_no_other(wrong: bytes) -> None:
    """P-048, P-065."""
    filter_ = filter_class()
    async with serving(filter_) as scene:
        other = await scene.opened()
        peer = await scene.opened(OPENING + mail() + rcpt() + DATA)
        assert await peer.send(wrong + EOH + EOM) == ""
        assert peer.wire.lost
        assert await other.send(mail() + rcpt() + EOM) == "ccc"

    assert names(filter_).count("abort") == 1
