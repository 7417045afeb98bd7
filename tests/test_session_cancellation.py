"""What ends a callback that waits, and what comes after it."""

import asyncio
from typing import Any, Final

import pytest

from aiomilter import ACCEPT, CONTINUE, REJECT, TEMPFAIL, Stage
from aiomilter.handler import CALLBACKS as NAME_OF

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
    QUIT_NC,
    STAGE_PACKETS,
    Gate,
    Peer,
    Scene,
    body,
    filter_class,
    header,
    helo,
    later,
    mail,
    names,
    offer,
    rcpt,
    serving,
    unknown,
)
from .test_session_answers import TO

OF_MESSAGE: Final = [Stage(number) for number in range(Stage.MAIL, Stage.EOM + 1)]
OF_CONNECTION: Final = [Stage.CONNECT, Stage.HELO, Stage.UNKNOWN]


async def waiting(scene: Scene, gate: Gate, stage: Stage) -> Peer:
    """A peer whose callback of a stage waits."""
    peer = scene.peer()
    peer.write(TO[stage] + STAGE_PACKETS[stage])
    await gate.reached.wait()
    return peer


@pytest.mark.parametrize("stage", OF_MESSAGE, ids=lambda stage: stage.name)
async def test_abort_cancels_what_waits_of_its_message(stage: Stage) -> None:
    """P-064: one answer, since the MTA has asked, then the abort callback."""
    gate = Gate()
    filter_ = filter_class({NAME_OF[stage]: gate()})
    async with serving(filter_) as scene:
        peer = await waiting(scene, gate, stage)
        assert await peer.send(ABORT) == "t"
        assert gate.left == ["CancelledError"]
        assert names(filter_)[-2:] == [NAME_OF[stage], "abort"]
        filter_.play = {}
        assert await peer.send(ABORT + MESSAGE) == "ccccccc"

    assert names(filter_).count("abort") == 1
    assert not scene.watcher.failures
    assert [summary.answer for summary in scene.watcher.messages] == ["abort", "continue"]


@pytest.mark.parametrize("stage", OF_CONNECTION, ids=lambda stage: stage.name)
async def test_abort_cancels_nothing_that_is_of_the_connection(stage: Stage) -> None:
    gate = Gate(REJECT)
    filter_ = filter_class({NAME_OF[stage]: gate()})
    async with serving(filter_) as scene:
        peer = await waiting(scene, gate, stage)
        peer.write(ABORT)
        for _ in range(5):
            await asyncio.sleep(0)
        assert gate.left == []
        gate.opened.set()
        await peer.quiet()
        assert peer.answers[-1] == "r"

    assert gate.left == ["opened"]


async def test_abort_inside_a_message_leaves_unknown_alone() -> None:
    """P-047."""
    gate = Gate()
    filter_ = filter_class({"unknown": gate()})
    async with serving(filter_) as scene:
        peer = scene.peer()
        peer.write(OPENING + mail() + unknown())
        await gate.reached.wait()
        peer.write(ABORT)
        await asyncio.sleep(0)
        gate.opened.set()
        await peer.quiet()

    assert gate.left == ["opened"]
    assert names(filter_)[-3:] == ["unknown", "abort", "close"]


@pytest.mark.parametrize("end", ["quit", "lost", "server"])
@pytest.mark.parametrize("stage", Stage, ids=lambda stage: stage.name)
async def test_the_end_of_the_connection_cancels_whatever_waits(stage: Stage, end: str) -> None:
    """P-065, P-066, P-134, P-136."""
    gate = Gate()
    filter_ = filter_class({NAME_OF[stage]: gate()})
    async with serving(filter_) as scene:
        peer = await waiting(scene, gate, stage)
        before = len(peer.wire.writes)
        if end == "quit":
            peer.write(QUIT)
        elif end == "lost":
            peer.hang_up()
        else:
            await scene.server.close()
        await peer.quiet()
        assert peer.wire.lost
        after = b"".join(peer.wire.writes[before:])

    assert gate.left == ["CancelledError"]
    assert after == (TEMPFAIL.packet if end == "server" else b"")
    expected = [NAME_OF[stage], "abort", "close"] if stage in OF_MESSAGE else [NAME_OF[stage], "close"]
    assert names(filter_)[-len(expected) :] == expected
    assert not scene.watcher.failures


@pytest.mark.parametrize("stage", Stage, ids=lambda stage: stage.name)
async def test_quit_nc_cancels_what_waits_and_it_is_answered_for(stage: Stage) -> None:
    """P-031, P-069: the connection goes on, so its answers must stay in step."""
    gate = Gate()
    filter_ = filter_class({NAME_OF[stage]: gate()})
    async with serving(filter_) as scene:
        peer = await waiting(scene, gate, stage)
        assert await peer.send(QUIT_NC) == "t"
        filter_.play = {}
        assert await peer.send(STAGE_PACKETS[Stage.CONNECT] + MESSAGE) == "cccccccc"

    assert gate.left == ["CancelledError"]
    assert names(filter_).count("close") == 2


@pytest.mark.parametrize("end", ["abort", "quit", "lost", "server"])
@pytest.mark.parametrize("name", ["abort", "close"])
async def test_nothing_but_time_cancels_abort_and_close(name: str, end: str) -> None:
    """P-065."""
    gate = Gate()
    filter_ = filter_class({name: gate()})
    async with serving(filter_) as scene:
        peer = scene.peer()
        peer.write(OPENING + mail() + (ABORT if name == "abort" else QUIT))
        await gate.reached.wait()
        closing = None
        if end == "abort":
            peer.write(ABORT)
        elif end == "quit":
            peer.write(QUIT)
        elif end == "lost":
            peer.hang_up()
        else:
            closing = asyncio.ensure_future(scene.server.close())
        for _ in range(5):
            await asyncio.sleep(0)
        assert gate.left == []
        gate.opened.set()
        await peer.quiet()
        if closing is not None:
            await closing

    assert gate.left == ["opened"]
    assert names(filter_).count("abort") == 1
    assert names(filter_).count("close") == 1


@pytest.mark.parametrize("answer", [None, ACCEPT, REJECT, "nonsense"], ids=repr)
async def test_what_a_cancelled_callback_answers_after_all_does_not_count(answer: Any) -> None:
    """P-064: a cancelled end of message is not completed, whatever it returns."""
    reached = asyncio.Event()

    async def eom(filter_: Any, ctx: Any, event: Any) -> Any:
        ctx.add_header("X-A", "1")
        reached.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return answer

    filter_ = filter_class({"eom": eom})
    async with serving(filter_) as scene:
        peer = scene.peer()
        peer.write(OPENING + MESSAGE)
        await reached.wait()
        assert await peer.send(ABORT) == "t"
        assert names(filter_)[-2:] == ["eom", "abort"]

    assert not scene.watcher.failures


async def test_a_callback_may_take_its_time_to_end_and_the_next_waits_for_it() -> None:
    """P-135."""
    order: list[str] = []
    reached, opened = asyncio.Event(), asyncio.Event()

    async def envfrom(filter_: Any, ctx: Any, event: Any) -> None:
        try:
            reached.set()
            await asyncio.Event().wait()
        finally:
            await opened.wait()
            order.append("envfrom has ended")

    def abort(filter_: Any, ctx: Any, event: Any) -> None:
        order.append("abort")

    async with serving(filter_class({"envfrom": envfrom, "abort": abort})) as scene:
        peer = scene.peer()
        peer.write(OPENING + mail())
        await reached.wait()
        peer.write(ABORT)
        for _ in range(5):
            await asyncio.sleep(0)
        assert order == []
        opened.set()
        await peer.quiet()

    assert order == ["envfrom has ended", "abort"]


@pytest.mark.parametrize(
    ("behind", "cancels"),
    [
        (ABORT, True),
        (QUIT, True),
        (rcpt() + ABORT, False),
        (rcpt()[:-3], False),
        (b"\0\0\0\1", False),
        (ABORT[:4], False),
        (b"\0\0\0\0" + ABORT, False),
    ],
    ids=["ABORT", "QUIT", "an answered stage before", "half a packet", "half a head", "half an ABORT", "length 0"],
)
@pytest.mark.parametrize("size", [0, 1], ids=["at once", "octet by octet"])
async def test_what_waits_behind_a_callback_is_looked_at(behind: bytes, cancels: bool, size: int) -> None:
    """P-005: behind a command that waits for its answer nothing is urgent."""
    gate = Gate()
    filter_ = filter_class({"envfrom": gate()})
    async with serving(filter_) as scene:
        peer = await waiting(scene, gate, Stage.MAIL)
        peer.write(behind, size=size)
        for _ in range(5):
            await asyncio.sleep(0)
        assert gate.left == (["CancelledError"] if cancels else [])
        gate.opened.set()
        await peer.quiet()


@pytest.mark.parametrize("at_once", [True, False])
async def test_an_abort_that_was_read_together_with_its_message_cancels_too(at_once: bool) -> None:
    gate = Gate()
    filter_ = filter_class({"body": gate()}, silent=["header", "eoh", "body"])
    async with serving(filter_) as scene:
        peer = await scene.opened()
        octets = mail() + rcpt() + DATA + header() + EOH + body() + body()
        if at_once:
            assert await peer.send(octets + ABORT) == "ccc"
        else:
            peer.write(octets)
            await gate.reached.wait()
            assert await peer.send(ABORT) == ""

    assert gate.left == ["CancelledError"] * len(gate.left)
    assert names(filter_)[-2:] == ["abort", "close"]
    assert "eom" not in names(filter_)


async def test_quit_is_seen_behind_stages_that_get_no_answer() -> None:
    gate = Gate()
    filter_ = filter_class({"envfrom": gate()}, silent=["envfrom", "envrcpt", "header"])
    async with serving(filter_) as scene:
        peer = scene.peer()
        peer.write(OPENING + mail() + rcpt() + header() + QUIT)
        async with asyncio.timeout(PATIENCE):
            await peer.quiet()
        assert peer.wire.lost

    assert gate.left == ["CancelledError"]
    assert names(filter_) == ["connect", "helo", "envfrom", "abort", "close"]


async def test_two_reasons_are_one_cancellation() -> None:
    gate = Gate()
    filter_ = filter_class({"eom": gate()})
    async with serving(filter_) as scene:
        peer = await waiting(scene, gate, Stage.EOM)
        peer.write(ABORT)
        peer.write(QUIT)
        peer.hang_up()
        await peer.quiet()

    assert gate.left == ["CancelledError"]
    assert names(filter_)[-3:] == ["eom", "abort", "close"]
    assert not scene.watcher.failures


@pytest.mark.parametrize("on_error", [CONTINUE, ACCEPT, TEMPFAIL])
async def test_a_time_out_and_the_end_of_the_server_together_end_the_connection(on_error: Any) -> None:
    """P-136: whatever on_error is."""
    cancelled, opened = asyncio.Event(), asyncio.Event()

    async def slow(filter_: Any, ctx: Any, event: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            await opened.wait()
            raise

    filter_ = filter_class({"header": slow})
    async with serving(filter_, callback_timeout=0.002, on_error=on_error) as scene:
        peer = scene.peer()
        peer.write(OPENING + mail() + rcpt() + DATA + header() + header())
        await cancelled.wait()
        closing = asyncio.ensure_future(scene.server.close())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        opened.set()
        await closing
        assert peer.wire.lost

    assert names(filter_)[-1] == "close"
    assert names(filter_).count("header") == 1


async def test_a_cancellation_of_ours_is_forgotten_once_it_has_arrived() -> None:
    """The task stays the same, and nothing in a later callback takes itself for cancelled."""
    gate = Gate()
    seen: list[Any] = []

    def look(filter_: Any, ctx: Any, event: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        seen.append((task, task.cancelling()))

    filter_ = filter_class({"connect": look, "envfrom": gate(), "abort": look, "unknown": look})
    async with serving(filter_) as scene:
        peer = await waiting(scene, gate, Stage.MAIL)
        assert await peer.send(ABORT + unknown()) == "tc"

    assert [count for _, count in seen] == [0, 0, 0]
    assert len({task for task, _ in seen}) == 1


@pytest.mark.parametrize("end", ["quit", "lost", "server"])
async def test_no_timer_outlives_its_connection(end: str) -> None:
    filter_ = filter_class({name: later() for name in CALLBACKS})
    async with serving(filter_) as scene:
        peer = scene.peer()
        armed = peer.timers()
        await peer.send(OPENING + MESSAGE + mail() + ABORT)
        if end == "quit":
            await peer.send(QUIT)
        elif end == "lost":
            peer.hang_up()
            await peer.quiet()
        else:
            await scene.server.close()

    assert armed
    assert all(handle.cancelled() for _, handle in armed)


@pytest.mark.parametrize("end", ["quit", "lost", "server"])
async def test_the_end_while_negotiate_waits_closes(end: str) -> None:
    """P-024, P-136."""
    gate = Gate()
    filter_ = filter_class({"negotiate": gate()}, callbacks=CALLBACKS)
    async with serving(filter_) as scene:
        peer = scene.peer()
        peer.write(offer())
        await gate.reached.wait()
        if end == "quit":
            peer.write(QUIT)
        elif end == "lost":
            peer.hang_up()
        else:
            await scene.server.close()
        await peer.quiet()
        assert peer.wire.lost
        assert peer.octets == b""

    assert names(filter_) == ["negotiate", "close"]
    assert not scene.watcher.failures
    assert not scene.watcher.remarks


async def test_a_drained_connection_ends_at_quit_nc() -> None:
    """P-134."""
    filter_ = filter_class()
    async with serving(filter_) as scene:
        peer = await scene.opened()
        draining = asyncio.ensure_future(scene.server.drain())
        await asyncio.sleep(0)
        assert await peer.send(MESSAGE + QUIT_NC + helo()) == "ccccccc"
        await draining
        assert peer.wire.lost

    assert names(filter_)[-1] == "close"


async def test_draining_waits_for_open_sessions_then_ends_them() -> None:
    """P-134: what waits is answered on_error; abort and close run."""
    gate = Gate()
    filter_ = filter_class({"eom": gate()})
    async with serving(filter_) as scene:
        peer = await waiting(scene, gate, Stage.EOM)
        idle = await scene.opened()
        between = await scene.opened(OPENING + QUIT_NC)
        await scene.server.drain(0.002)
        assert peer.answers[-1] == "t"
        assert peer.wire.lost
        assert idle.wire.lost
        assert between.wire.lost

    assert sorted(names(filter_)[-3:]) == ["abort", "close", "close"]


async def test_a_suspended_callback_at_every_stage_of_many_messages() -> None:
    """P-067, P-135."""
    filter_ = filter_class({name: later() for name in CALLBACKS})
    async with serving(filter_) as scene:
        peer = await scene.opened()
        for _ in range(3):
            assert await peer.send(MESSAGE) == "ccccccc"
            assert await peer.send(mail() + rcpt()) == "cc"
            assert await peer.send(ABORT + EOM) == "c"
        await peer.send(QUIT)

    assert names(filter_).count("abort") == 3
    assert names(filter_).count("eom") == 3
