"""What one connection may take: of memory when it says nothing, of the event loop's time, of what waits to be written."""

import asyncio
import gc
import weakref
from typing import Any

import pytest

from aiomilter._connection.suspension import Reason
from aiomilter.wire.constants import Command
from aiomilter.wire.framing import packet

from .peer import (
    EOH,
    EOM,
    MESSAGE,
    OPENING,
    QUIT,
    QUIT_NC,
    Scripted,
    body,
    connect,
    filter_class,
    header,
    helo,
    mail,
    offer,
    rcpt,
    serving,
)


def held_by(protocol: Any) -> int:
    """Octets in the largest text or octets that a connection's driver has a name for."""
    values = protocol._run.gi_frame.f_locals.values()
    return max(len(value) for value in values if isinstance(value, bytes | str))


# What an idle connection keeps


async def test_half_a_packet_does_not_keep_the_read_that_brought_it() -> None:
    async with serving(filter_class()) as scene:
        peer = await scene.opened(OPENING + mail() + body(b"x" * 60_000) * 3 + rcpt()[:3])
        assert held_by(peer.protocol) < 300


@pytest.mark.parametrize("rest", [b"", rcpt()[:3]], ids=["idle", "unfinished"])
async def test_an_idle_connection_does_not_keep_the_last_header_field(rest: bytes) -> None:
    many = packet(Command.HEADER, b"X\0v\0" + b"y" * 50_000 + b"\0")  # more strings than a header field has
    async with serving(filter_class()) as scene:
        peer = await scene.opened(OPENING + mail() + rcpt() + header("X", "\N{SNOWMAN}" * 20_000) + many + rest)
        assert held_by(peer.protocol) < 300


async def test_a_connection_keeps_no_filter_whose_client_has_left() -> None:
    filter_ = filter_class()
    async with serving(filter_) as scene:
        await scene.opened(OPENING + MESSAGE + QUIT_NC)
        made = weakref.ref(filter_.made.pop())
        gc.collect()
        assert made() is None


async def test_a_connection_that_has_ended_keeps_no_octets() -> None:
    async with serving(filter_class()) as scene:
        peer = await scene.opened()
        await peer.send(packet(Command.MACRO, b"Hj\0" + b"x" * 60_000 + b"\0") + helo() + QUIT)
        await peer.quiet()
        wire = peer.protocol.session.wire
        assert [set(wire.macros.sets), wire.macros.last, wire.buffer.data] == [{b""}, b"", b""]


async def test_nobody_sees_what_was_noted_for_another_client() -> None:
    """P-069: the same socket, another SMTP connection."""
    seen: list[Any] = []

    async def note(filter_: Scripted, ctx: Any, event: Any) -> None:
        seen.append(dict(ctx.notes))
        ctx.notes["trusted"] = True

    filter_ = filter_class({"envfrom": note, "abort": note})
    async with serving(filter_) as scene:
        await scene.opened(OPENING + mail() + QUIT_NC + connect() + mail() + QUIT_NC)
    assert seen == [{}, {"trusted": True}, {}, {"trusted": True}]


async def test_notes_are_another_dict_for_each_message_even_if_nothing_is_in_it() -> None:
    seen: list[Any] = []

    async def look(filter_: Scripted, ctx: Any, event: Any) -> None:
        seen.append(ctx.notes)

    async with serving(filter_class({"envfrom": look, "eom": look})) as scene:
        await scene.opened(OPENING + MESSAGE + MESSAGE)
    assert [notes is seen[1] for notes in seen] == [True, True, False, False]


# The event loop's time


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after a callback"])
async def test_a_flood_of_messages_leaves_the_loop_to_others(waits: bool) -> None:
    """Of small packets thousands come in one read."""

    async def wait(filter_: Scripted, ctx: Any, event: Any) -> None:
        if waits:
            await asyncio.sleep(0)

    async with serving(filter_class({"connect": wait})) as scene:
        peer, other = scene.peer(), await scene.opened()
        flood = mail() * 5000
        peer.write(OPENING + flood)
        answered = [0]
        for _ in range(5):
            assert await other.send(mail()) == "c"
            answered.append(peer.answers.count("c"))
        assert answered[-1] < 5000
        await peer.quiet()
        assert peer.answers.count("c") == 5002


@pytest.mark.parametrize("end", ["lost", "stop"])
async def test_a_connection_may_end_while_others_have_their_turn(end: str) -> None:
    filter_ = filter_class()
    async with serving(filter_) as scene:
        peer = scene.peer()
        peer.write(OPENING + mail() * 5000)
        while len(filter_.told) < 500:
            await asyncio.sleep(0)
        told = len(filter_.told)
        if end == "lost":
            peer.hang_up()
        else:
            await scene.server.close()
        await peer.quiet()
        # What had begun, and what comes before the close does; a turn has at most 500.
        assert len(filter_.told) < told + 1600
        assert filter_.told[-1][0] == "close"


async def test_a_connection_that_is_stopped_while_others_have_their_turn_calls_no_other_callback() -> None:
    """But for those that it ends with."""
    filter_ = filter_class()
    async with serving(filter_) as scene:
        peer = scene.peer()
        peer.write(OPENING + mail() + rcpt() * 5000)
        while not peer.protocol.session.suspended:
            await asyncio.sleep(0)
        told = len(filter_.told)
        peer.protocol._end(Reason.STOP)
        await peer.quiet()
        assert [name for name, *_ in filter_.told[told:]] == ["abort", "close"]


# What waits to be written


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after a callback"])
async def test_large_answers_are_not_piled_up_for_a_peer_that_takes_none(waits: bool) -> None:
    async def replace(filter_: Scripted, ctx: Any, event: Any) -> None:
        ctx.replace_body(b"x" * 20_000)
        if waits:
            await asyncio.sleep(0)

    async with serving(filter_class({"eom": replace}, callbacks=["eom"])) as scene:
        peer = await scene.opened()
        peer.wire.stalled = True
        one = mail("<>") + rcpt("<>") + EOH + EOM
        peer.write(one * 100)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert peer.wire.size < 65_536 + 2 * 65_536
        before = len(peer.octets)
        peer.wire.take()
        await peer.quiet()
        assert len(peer.octets) > before
        assert peer.answers.count("b") == 100


# What decoded macros take


async def test_of_very_many_macros_the_first_256_count() -> None:
    names = [f"{{n{number}}}" for number in range(10_000)]
    octets = b"C" + b"".join(name.encode() + b"\0v\0" for name in names)
    seen: list[Any] = []

    async def look(filter_: Scripted, ctx: Any, event: Any) -> None:
        seen.extend(ctx.macro(name) for name in (names[0], names[255], names[256], names[-1]))

    async with serving(filter_class({"connect": look}), max_frame_size=200_000) as scene:
        await scene.opened(offer() + packet(Command.MACRO, octets, 200_000) + connect())
    assert seen == ["v", "v", None, None]


# What no filter should raise


async def test_a_generator_exit_of_a_callback_is_no_end_without_a_word() -> None:
    async def leave(filter_: Scripted, ctx: Any, event: Any) -> None:
        raise GeneratorExit

    async with serving(filter_class({"envfrom": leave})) as scene:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        peer = await scene.opened(OPENING + mail())
        assert peer.wire.closing
        assert [what for _, what, _ in scene.watcher.failures] == [
            "GeneratorExit ends the callback; closing the connection"
        ]
