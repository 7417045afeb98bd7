"""What a session keeps for all connections of a class, and what is each one's own all the same."""

import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aiomilter import REJECT, TEMPFAIL, Milter
from aiomilter.wire.constants import ALL_ACTIONS, ALL_PROTOCOL

from .peer import ABORT, MESSAGE, connect, filter_class, mail, names, offer, rcpt, serving


class Changing(Milter):
    """Has callbacks of its class, and one connection of those it is asked for has one of its own."""

    made = 0

    def __init__(self) -> None:
        Changing.made += 1
        if Changing.made == 2:
            self.envfrom = self.refuse  # type: ignore[method-assign]  # what a test double does

    async def refuse(self, ctx: Any, mail: Any) -> Any:
        return REJECT

    async def envfrom(self, ctx: Any, mail: Any) -> Any:
        return TEMPFAIL


async def test_a_callback_of_the_instance_takes_the_place_of_its_class_s_there_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Changing, "made", -1)  # one more is made at start
    async with serving(Changing) as scene:
        answers = [(await scene.opened(offer() + connect() + mail())).answers for _ in range(4)]

    assert answers == ["Ot", "Or", "Ot", "Ot"]


class Wrapped:
    """A decorator that is no function: what it gives is called all the same."""

    def __init__(self, function: Callable[..., Awaitable[Any]]) -> None:
        self.function = function

    def __get__(self, instance: object, owner: type) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any) -> Any:
            return await self.function(instance, *args)

        return call


async def test_a_callback_that_is_no_plain_method_is_called_with_its_instance() -> None:
    filter_ = filter_class()
    called: list[object] = []

    async def refuse(instance: object, ctx: Any, event: Any) -> Any:
        called.append(instance)
        return REJECT

    filter_.envrcpt = Wrapped(refuse)  # type: ignore[assignment, method-assign]
    async with serving(filter_) as scene:
        for _ in range(2):
            peer = await scene.opened()
            assert await peer.send(mail() + rcpt()) == "cr"

    assert called == filter_.made[1:]


async def test_each_mta_gets_the_answer_to_its_own_offer() -> None:
    """Version and options differ, the filter is the same."""
    offers = [offer(version=version, actions=actions) for version in (2, 6) for actions in (ALL_ACTIONS, 0x3F)]
    async with serving(filter_class(silent=["header"])) as scene:
        first = [(await scene.opened(each)).octets for each in offers]
        again = [(await scene.opened(each)).octets for each in offers]

    assert first == again
    assert len(set(first)) == len(offers)


async def test_a_peer_that_offers_ever_something_else_fills_no_memory() -> None:
    filter_ = filter_class()
    async with serving(filter_) as scene:
        for number in range(1000):
            await scene.opened(offer(actions=number, protocol=ALL_PROTOCOL ^ number))
        assert scene.server._lifespans.current is not None
        tables = scene.server._tables_of(scene.server._lifespans.current)
        assert len(tables._agreed) <= 64
        assert len(tables._tables) <= 64


async def test_nothing_keeps_a_class_that_nobody_uses_any_more() -> None:
    """As after a reload."""
    filter_ = filter_class()
    async with serving(filter_) as scene:
        peer = await scene.opened()
        assert await peer.send(MESSAGE + ABORT) == "ccccccc"
    assert "eom" in names(filter_)
    gone = weakref.ref(filter_)
    del filter_, scene, peer
    gc.collect()
    assert gone() is None
