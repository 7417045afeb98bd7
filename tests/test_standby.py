"""Whose Task a batch runs as: one for all that need none, and one for each that does."""

import asyncio
import contextvars
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from .peer import ABORT, MESSAGE, OPENING, QUIT, Gate, Scripted, filter_class, later, mail, rcpt, serving

place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")


def current() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


async def test_connections_that_never_wait_share_one_task() -> None:
    names: set[str] = set()

    async def look(filter_: Scripted, ctx: Any, event: Any) -> None:
        names.add(current().get_name())

    async with serving(filter_class({"connect": look, "eom": look})) as scene:
        before = len(asyncio.all_tasks())
        for _ in range(20):
            await scene.opened(OPENING + MESSAGE)
        assert len(asyncio.all_tasks()) == before + 1
    assert len(names) == 1


async def test_a_connection_that_waits_has_its_own_from_then_on() -> None:
    ids: dict[object, list[str]] = {}

    async def look(filter_: Scripted, ctx: Any, event: Any) -> None:
        ids.setdefault(ctx.client.hostname, []).append(current().get_name())
        await asyncio.sleep(0)
        ids[ctx.client.hostname].append(current().get_name())

    filter_ = filter_class({"envfrom": look, "eom": look})
    async with serving(filter_) as scene:
        peers = [await scene.opened() for _ in range(3)]
        for _ in range(2):
            for peer in peers:
                await peer.send(MESSAGE + ABORT)
        names = {name for several in ids.values() for name in several}
    assert len(names) == 3


KEEP: list[Callable[["asyncio.Task[Any]"], object]] = [
    lambda task: task,
    lambda task: [task],
    weakref.ref,
    lambda task: weakref.WeakKeyDictionary({task: 1}),
]


@pytest.mark.parametrize("keep", KEEP, ids=["by name", "in a list", "weakly", "as a weak key"])
async def test_a_task_that_a_callback_keeps_is_no_other_connection_s(
    keep: Callable[["asyncio.Task[Any]"], object],
) -> None:
    seen: list[str] = []

    async def hold(filter_: Any, ctx: Any, event: Any) -> None:
        filter_.kept = keep(current())

    async def look(filter_: Any, ctx: Any, event: Any) -> None:
        seen.append(current().get_name())

    async with serving(filter_class({"connect": hold, "envfrom": look})) as scene:
        one, two = await scene.opened(), await scene.opened()
        for peer in (one, two, one, two):
            await peer.send(mail() + ABORT)
    assert seen[:2] == seen[2:]
    assert len(set(seen)) == 2


async def test_a_task_kept_by_the_last_callback_of_a_connection_ends_with_it() -> None:
    kept: list[asyncio.Task[Any]] = []

    async def hold(filter_: Any, ctx: Any, event: Any) -> None:
        kept.append(current())

    async with serving(filter_class({"close": hold})) as scene:
        peer, other = await scene.opened(), await scene.opened()
        await peer.send(QUIT)
        await peer.quiet()
        await asyncio.sleep(0)
        assert kept[0].done()
        assert await other.send(mail()) == "c"


@pytest.mark.parametrize("taken_back", [False, True])
async def test_a_cancellation_of_its_own_task_reaches_no_other_connection(taken_back: bool) -> None:
    """Though all have run as the same, and another waits before anybody could take note."""
    gate = Gate()

    async def cancel(filter_: Scripted, ctx: Any, event: Any) -> None:
        current().cancel()
        if taken_back:
            current().uncancel()

    waits: list[Callable[..., Awaitable[Any]]] = [gate()]

    async def wait(filter_: Scripted, ctx: Any, event: Any) -> Any:
        return await waits[0](filter_, ctx, event) if ctx.sender.address == "waits@x" else None

    async with serving(filter_class({"envrcpt": cancel, "data": wait, "envfrom": wait})) as scene:
        one, two = await scene.opened(OPENING + mail()), await scene.opened()
        one.write(rcpt())
        two.write(mail("<waits@x>"))
        await gate.reached.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        gate.opened.set()
        await two.quiet()
        await one.quiet()
        assert (one.answers, two.answers) == ("Occcc", "Occc")
        assert gate.left == ["opened"]
        assert not scene.watcher.failures


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


async def test_the_end_of_a_server_ends_the_spare_task() -> None:
    before = asyncio.all_tasks()
    async with serving(filter_class({"envfrom": later()})) as scene:
        await scene.opened(OPENING + mail())
        await scene.opened()
    assert asyncio.all_tasks() == before
