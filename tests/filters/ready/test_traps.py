"""``traps``: what is done with mail to addresses that no one writes to honestly, and what is learnt from it."""

from typing import Any

import pytest

from aiomilter import CONTINUE, DISCARD, Context, EndOfMessageContext, Milter, filters
from aiomilter.compose import check, compose
from aiomilter.filters.reputation import Judged
from aiomilter.policy.stores import Store
from aiomilter.policy.traps import Caught
from aiomilter.testing import session
from tests.filters.ready.played import MESSAGE, AwayStore, Reasons, Timed, site

TRAP = "<spam-me@corp.example>"


class Told(Milter):
    """Keeps what it is told."""

    reads = (Judged, Caught)
    found: tuple[Judged | None, Caught | None] = (None, None)

    async def eom(self, ctx: EndOfMessageContext) -> None:
        Told.found = ctx.results.get(Judged), ctx.results.get(Caught)


async def sent(
    *recipients: str,
    store: Store | None = None,
    client: str = "192.0.2.1",
    observer: Reasons | None = None,
    **settings: Any,
) -> Any:
    traps = filters.Traps(addresses=["spam-me@corp.example", "@old.example"], **settings)
    Told.found = None, None
    async with session(
        compose(traps, check(Told, name="told"), site=site(store)), client=client, observer=observer
    ) as s:
        await s.mail("<a@x.example>")
        assert {await s.rcpt(each) for each in recipients} == {CONTINUE}
        return await s.message(MESSAGE)


async def test_a_message_for_traps_alone_is_taken_and_dropped() -> None:
    store, reasons = Timed(), Reasons()
    found = await sent(TRAP, "<Any@old.example>", store=store, observer=reasons)
    assert found.answer is DISCARD
    assert reasons.found == {"trap"}
    assert store.kinds == {"trap"}
    assert Told.found == (None, None)


async def test_it_is_refused_if_that_is_set() -> None:
    assert str((await sent(TRAP, action="reject")).answer) == "550 5.1.1 No such user"


async def test_other_recipients_get_it_with_a_mark() -> None:
    found = (await sent(TRAP, "<u@corp.example>")).delivered
    assert [each.path for each in found.recipients] == ["<u@corp.example>"]
    assert Told.found == (Judged(good=False), Caught(True, 1))
    assert b"\r\nX-Spam-Flag: YES\r\n" in b"\r\n" + found.octets


@pytest.mark.parametrize(("recipient", "client"), [("<u@corp.example>", "192.0.2.1"), (TRAP, "198.51.100.7")])
async def test_other_mail_and_our_own_are_left_alone(recipient: str, client: str) -> None:
    store = Timed()
    found = await sent(recipient, store=store, client=client)
    assert [each.path for each in found.delivered.recipients] == [recipient]
    assert (Told.found, store.kinds) == ((None, None), set())


async def test_without_the_store_the_message_is_judged_all_the_same() -> None:
    assert (await sent(TRAP, "<u@corp.example>", store=AwayStore())).delivered is not None
    judged, caught = Told.found
    assert judged == Judged(good=False)
    assert caught is not None
    assert "it is away" in caught.problem


@pytest.mark.parametrize("addresses", [[], "a@b.example", ["corp.example"]])
def test_what_is_no_address_is_refused(addresses: Any) -> None:
    with pytest.raises(ValueError, match="addresses: expected"):
        filters.Traps(addresses=addresses)


async def test_a_shadow_of_it_learns_apart() -> None:
    store = Timed()
    traps = check(filters.Traps(addresses=["spam-me@corp.example"]), shadow=True)

    class Live(Milter):
        async def data(self, ctx: Context) -> None:
            """It is there, since shadows alone are no filter."""

    async with session(compose(traps, check(Live, name="live"), site=site(store)), client="192.0.2.1") as s:
        assert (await s.send(MESSAGE, "<a@x.example>", TRAP)).delivered is not None
    assert all(kind.startswith("shadow") for kind in store.kinds)
