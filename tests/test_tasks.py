"""Whose Task a batch runs as: its connection's, and nobody else's."""

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
import uvloop

from .peer import ABORT, MESSAGE, OPENING, QUIT, Gate, Peer, Scripted, filter_class, later, mail, rcpt, serving

place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")
EAGER: Final = getattr(asyncio, "eager_task_factory", None)
"""Since Python 3.12: a Task runs up to its first suspension where it is made."""


def eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(EAGER)
    return loop


LOOPS: Final = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
    **({"eager": eager_loop} if EAGER is not None else {}),
}
everywhere: Final = pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)


def run(loop: Callable[[], asyncio.AbstractEventLoop], test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await test()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


def current() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


async def settled() -> None:
    """Let all that is about to happen happen."""
    for _ in range(5):
        await asyncio.sleep(0)


@everywhere
def test_all_callbacks_of_a_connection_and_no_other_run_as_its_task(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def test() -> None:
        seen: dict[int, list[int]] = {}

        async def look(filter_: Scripted, ctx: Any, event: Any) -> None:
            # Not the Task: who keeps it could be given it for that.
            seen.setdefault(id(filter_), []).append(id(current()))

        async def wait(filter_: Scripted, ctx: Any, event: Any) -> None:
            await look(filter_, ctx, event)
            await asyncio.sleep(0)
            await look(filter_, ctx, event)

        async with serving(filter_class({"connect": look, "envfrom": wait, "eom": look, "close": look})) as scene:
            peers = [await scene.opened() for _ in range(3)]
            for _ in range(2):
                for peer in peers:
                    await peer.send(MESSAGE + ABORT)
            for peer in peers:
                await peer.send(QUIT)
                await peer.quiet()
        assert [len(tasks) for tasks in seen.values()] == [8, 8, 8]
        assert [len(set(tasks)) for tasks in seen.values()] == [1, 1, 1]
        assert len({task for tasks in seen.values() for task in tasks}) == 3

    run(loop, test)


@everywhere
def test_what_a_callback_leaves_on_its_task_ends_with_the_connection(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def test() -> None:
        names: list[str] = []
        called: list[asyncio.Task[Any]] = []

        async def leave(filter_: Scripted, ctx: Any, event: Any) -> None:
            names.append(current().get_name())
            current().set_name("somebody's")
            current().add_done_callback(called.append)

        async with serving(filter_class({"envfrom": leave})) as scene:
            for number in range(3):
                peer = await scene.opened()
                await peer.send(mail())
                assert len(called) == number
                await peer.send(QUIT)
                await peer.quiet()
                await settled()
                assert len(called) == number + 1
        assert "somebody's" not in names

    run(loop, test)


@everywhere
def test_a_weak_reference_to_the_task_is_dead_after_the_connection(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def test() -> None:
        left: list[weakref.ref[asyncio.Task[Any]]] = []

        async def leave(filter_: Scripted, ctx: Any, event: Any) -> None:
            left.append(weakref.ref(current()))

        async with serving(filter_class({"connect": leave})) as scene:
            peers = [await scene.opened() for _ in range(3)]
            gc.collect()
            assert len({id(reference()) for reference in left} - {id(None)}) == 3
            for peer in peers:
                await peer.send(QUIT)
                await peer.quiet()
            await settled()
            gc.collect()
            assert [reference() for reference in left] == [None, None, None]

    run(loop, test)


@everywhere
def test_a_connection_has_a_task_once_it_has_spoken_and_as_long_as_it_lives(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def test() -> None:
        async with serving(filter_class({"envfrom": later()})) as scene:
            before = len(asyncio.all_tasks())
            silent, speaking = await scene.opened(b""), await scene.opened()
            assert len(asyncio.all_tasks()) == before + 1
            assert await speaking.send(mail()) == "c"
            assert len(asyncio.all_tasks()) == before + 1
            await speaking.send(QUIT)
            await speaking.quiet()
            await settled()
            assert len(asyncio.all_tasks()) == before
            await silent.send(OPENING + mail())
            await scene.opened()
        assert len(asyncio.all_tasks()) == 1

    run(loop, test)


TAKEN_BACK: Final = pytest.mark.parametrize("back", [False, True], ids=["cancelled", "and taken back"])


@everywhere
@TAKEN_BACK
def test_a_cancellation_of_its_own_task_reaches_no_other_connection(
    loop: Callable[[], asyncio.AbstractEventLoop], back: bool
) -> None:
    """Nor the next batch of its own."""

    async def test() -> None:
        gate = Gate()

        async def cancel(filter_: Scripted, ctx: Any, event: Any) -> None:
            current().cancel()
            if back:
                current().uncancel()

        waits: list[Callable[..., Awaitable[Any]]] = [gate()]

        async def wait(filter_: Scripted, ctx: Any, event: Any) -> Any:
            return await waits[0](filter_, ctx, event) if ctx.sender.address == "waits@x" else None

        async with serving(filter_class({"envrcpt": cancel, "data": wait, "envfrom": wait})) as scene:
            one, two = await scene.opened(OPENING + mail()), await scene.opened()
            one.write(rcpt())
            two.write(mail("<waits@x>"))
            await gate.reached.wait()
            await settled()
            gate.opened.set()
            await two.quiet()
            await one.quiet()
            assert (one.answers, two.answers) == ("Occcc", "Occc")
            assert gate.left == ["opened"]
            assert not scene.watcher.failures

    run(loop, test)


@everywhere
@TAKEN_BACK
def test_a_callback_that_cancels_itself_is_told_as_any_task_is(
    loop: Callable[[], asyncio.AbstractEventLoop], back: bool
) -> None:
    """With its first batch, and where the Task has stood by for a while; and it serves on."""

    async def test() -> None:
        async def told() -> str:
            current().cancel()
            if back:
                current().uncancel()
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                if not back:
                    current().uncancel()
                return "cancelled"
            return "slept"

        found: list[str] = []

        async def cancel(filter_: Scripted, ctx: Any, event: Any) -> None:
            found.append(await told())

        expected = await asyncio.create_task(told())
        async with serving(filter_class({"connect": cancel, "envfrom": cancel})) as scene:
            peer: Peer = await scene.opened()
            for _ in range(3):
                assert await peer.send(mail()) == "c"
                await peer.send(ABORT)
            assert not scene.watcher.failures
        assert found == [expected] * 4

    run(loop, test)


async def test_a_task_that_somebody_has_cancelled_while_it_waited_is_used_no_more() -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def look(filter_: Scripted, ctx: Any, event: Any) -> None:
        tasks.append(current())
        await asyncio.sleep(0)

    async with serving(filter_class({"envfrom": look})) as scene:
        peer = await scene.opened(OPENING + mail())
        for taken in (True, False):
            tasks[-1].cancel()
            if taken:
                tasks[-1].uncancel()
            for _ in range(3 * taken):
                await asyncio.sleep(0)
            await peer.send(ABORT)
            assert await peer.send(mail()) == "c"
        assert not scene.watcher.failures
    assert len(set(tasks)) == 3
    assert all(task.done() for task in tasks)


async def test_a_callback_that_waits_has_the_context_of_its_connection() -> None:
    """Also where the Task was made while another one's was in force."""
    seen: list[tuple[str, str]] = []

    async def enter(filter_: Scripted, ctx: Any, event: Any) -> None:
        place.set(ctx.client.hostname + str(len(filter_.made)))
        filter_.place = place.get()  # type: ignore[attr-defined]

    async def look(filter_: Any, ctx: Any, event: Any) -> None:
        before = place.get()
        await asyncio.sleep(0)
        seen.append((before, place.get()))
        assert before == filter_.place
        await asyncio.gather(asyncio.sleep(0), asyncio.create_task(inside(before)))

    async def inside(expected: str) -> None:
        assert place.get() == expected

    async with serving(filter_class({"connect": enter, "envfrom": look})) as scene:
        peers = [await scene.opened() for _ in range(4)]
        for peer in (*peers, *peers):
            assert await peer.send(mail()) == "c", scene.watcher.failures
            await peer.send(ABORT)
    assert len(set(seen)) == 4
    assert all(before == after for before, after in seen)
