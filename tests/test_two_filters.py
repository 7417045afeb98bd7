"""The seam for composition: what a connection asks of a handler, by one that is not a Milter."""

import asyncio

import pytest

from aiomilter import (
    ACCEPT,
    CONTINUE,
    REJECT,
    TEMPFAIL,
    Context,
    EndOfMessageContext,
    Header,
    Mail,
    Milter,
    Rcpt,
    Reply,
    Response,
    no_reply,
)
from aiomilter.handler import CALLBACKS, Handler
from aiomilter.testing import session
from tests.two_filters import TwoFilters


class Tagging(Milter):
    """Counts header fields without answering, and says how many."""

    fields = 0

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        self.fields += 1

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Fields", str(self.fields))
        self.fields = 0


class Judging(Milter):
    """Waits a moment, and refuses one sender and one recipient."""

    ended: list[str] = []  # noqa: RUF012 - the tests look into it

    async def envfrom(self, ctx: Context, mail: Mail) -> Response:
        await asyncio.sleep(0)
        return REJECT if mail.address == "spam@a.example" else CONTINUE

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response:
        return Reply(550, "5.1.1", "nobody") if rcpt.address == "nobody@example.test" else CONTINUE

    async def eom(self, ctx: EndOfMessageContext) -> Response:
        if ctx.sender is not None and ctx.sender.address == "bug@a.example":
            raise ValueError("as asked")
        ctx.add_header("X-Judged", "yes")
        return ACCEPT

    async def abort(self, ctx: Context) -> None:
        self.ended.append("abort")

    async def close(self, ctx: Context) -> None:
        self.ended.append("close")


def both() -> Handler:
    """Make what serves one SMTP connection."""
    return TwoFilters(Tagging, Judging)


async def test_the_edits_of_both_filters_leave_with_one_answer() -> None:
    async with session(both) as mta:
        assert await mta.mail("<a@a.example>") is CONTINUE
        assert await mta.rcpt("<b@b.example>") is CONTINUE
        done = await mta.message(b"Subject: x\r\nA: b\r\n\r\nhello\r\n")
    assert done.answer is ACCEPT
    assert done.delivered is not None
    assert b"X-Fields: 2\r\nX-Judged: yes\r\n" in done.delivered.octets


async def test_what_one_refuses_is_refused() -> None:
    async with session(both) as mta:
        assert await mta.mail("<spam@a.example>") is REJECT
        await mta.mail("<a@a.example>")
        assert await mta.rcpt("<nobody@example.test>") == Reply(550, "5.1.1", "nobody")
        assert await mta.rcpt("<b@b.example>") is CONTINUE


async def test_a_failure_of_one_is_answered_once_and_nothing_of_the_other_is_sent() -> None:
    async with session(both, failures="answer") as mta:
        await mta.mail("<bug@a.example>")
        await mta.rcpt("<b@b.example>")
        done = await mta.message(b"Subject: x\r\n\r\nhello\r\n")
    assert (done.answer, done.edits) == (TEMPFAIL, ())


async def test_both_hear_of_the_ends() -> None:
    Judging.ended.clear()
    async with session(both) as mta:
        await mta.mail("<a@a.example>")
    assert Judging.ended == ["abort", "close"]


@pytest.mark.parametrize(
    "name", [*CALLBACKS.values(), "abort", "close", "negotiate", "wants", "on_error", "on_timeout"]
)
def test_the_protocol_names_all_that_a_connection_asks_for(name: str) -> None:
    assert name in vars(Handler)
