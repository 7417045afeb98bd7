"""With a store in memory a callback that asks policies does not suspend: it costs no task and no turn of the loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aiomilter import Context, Milter, Rcpt
from aiomilter.policy import Authenticated, Greylist, KnownSenders, Rate, RateLimit, Reputation, Traps
from aiomilter.policy.stores import GuardedStore, open_store
from aiomilter.testing import session

Ask = Callable[[GuardedStore], Coroutine[Any, Any, object]]
ASKED: dict[str, Ask] = {
    "greylist": lambda store: Greylist(store).check("192.0.2.1", "a@x.example", "b@y.example", domain="x.example"),
    "rates": lambda store: RateLimit(store, {"user": Rate(1, per=60)}).hit("user", "bob"),
    "reputation": lambda store: Reputation(store).record("domain", "x.example", True),
    "known": lambda store: KnownSenders(store).knows("a@x.example", "b@y.example", Authenticated("x.example", "spf")),
    "note": lambda store: KnownSenders(store).note("b@y.example", ["a@x.example"]),
    "traps": lambda store: Traps(store, ["t@y.example"]).note("192.0.2.1"),
}


@pytest.mark.parametrize("what", ASKED)
async def test_what_is_asked_of_memory_does_not_suspend(what: str) -> None:
    async with open_store("memory:") as store:
        with pytest.raises(StopIteration):
            ASKED[what](store).send(None)


class Greylisting(Milter):
    """Asks for each recipient."""

    def __init__(self, greylist: Greylist) -> None:
        self.greylist = greylist
        self.turns: list[bool] = []

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> None:
        turned: list[bool] = []
        asyncio.get_running_loop().call_soon(turned.append, True)
        await self.greylist.check("192.0.2.1", "a@x.example", rcpt.address)
        self.turns += turned


@asynccontextmanager
async def counted() -> AsyncIterator[Greylisting]:
    async with open_store("memory:") as store:
        yield Greylisting(Greylist(store))


async def test_a_filter_with_a_greylist_in_memory_stays_inline() -> None:
    """Nothing else in the loop runs while a recipient is greylisted."""
    async with counted() as made, session(lambda: made) as s:
        await s.mail("<a@x.example>")
        for number in range(20):
            await s.rcpt(f"<user{number}@y.example>")
        assert made.turns == []
