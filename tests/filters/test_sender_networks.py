from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiomilter import ACCEPT, CONTINUE, TEMPFAIL, Reply
from aiomilter.mta import Style
from aiomilter.testing import session
from tests.filters.sender_networks import sharing

MESSAGE = b"Subject: hi\r\n\r\nHello\r\n"


class FakeResolver:
    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0
        self.asked: list[str] = []

    async def networks(self, domain: str) -> list[str]:
        self.asked.append(domain)
        if domain == "down.example":
            raise OSError("no answer")
        return {"strict.example": ["198.51.100.0/24"], "good.example": ["192.0.2.0/24"]}.get(domain, [])

    @asynccontextmanager
    async def open(self) -> AsyncIterator["FakeResolver"]:
        self.opened += 1
        yield self
        self.closed += 1


async def test_each_message_is_judged_by_its_own_sender(mta: Style) -> None:
    resolver = FakeResolver()
    async with session(sharing(resolver.open), mta=mta) as s:
        refused = await s.mail("<a@strict.example>")
        await s.mail("<a@Good.example>")
        await s.rcpt("<b@example.org>")
        first = await s.message(MESSAGE)
        await s.mail("<a@silent.example>")
        await s.rcpt("<b@example.org>")
        second = await s.message(MESSAGE)

    assert refused == Reply(550, "5.7.23", "strict.example does not send from 192.0.2.1")
    assert first.delivered is not None
    assert first.delivered.octets == b"X-Sender-Networks: pass\r\n" + MESSAGE
    assert second.delivered is not None
    assert second.delivered.octets == b"X-Sender-Networks: none\r\n" + MESSAGE


async def test_the_null_sender_is_judged_by_the_helo_name(mta: Style) -> None:
    resolver = FakeResolver()
    async with session(sharing(resolver.open), helo="strict.example", mta=mta) as s:
        assert isinstance(await s.mail("<>"), Reply)
    assert resolver.asked == ["strict.example"]


async def test_no_answer_means_come_back(mta: Style) -> None:
    async with session(sharing(FakeResolver().open), mta=mta) as s:
        assert await s.mail("<a@down.example>") is TEMPFAIL
        assert await s.mail("<a@good.example>") is CONTINUE


async def test_our_own_people_are_not_looked_up(mta: Style) -> None:
    resolver = FakeResolver()
    async with session(sharing(resolver.open), macros={"auth_authen": "alice"}, mta=mta) as s:
        assert await s.mail("<a@strict.example>") is ACCEPT
    async with session(sharing(resolver.open), client="", mta=mta) as s:
        assert await s.mail("a@strict.example") is ACCEPT
    assert resolver.asked == []


async def test_the_pool_is_opened_once_and_closed_at_the_end(mta: Style) -> None:
    resolver = FakeResolver()
    async with session(sharing(resolver.open), mta=mta):
        assert (resolver.opened, resolver.closed) == (1, 0)
    assert (resolver.opened, resolver.closed) == (1, 1)
