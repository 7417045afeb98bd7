from aiomilter import CONTINUE, Reply
from aiomilter.mta import Style
from aiomilter.testing import session
from tests.filters.greylist import DELAY, LIFETIME, Greylist, Key

MESSAGE = b"Subject: hi\r\n\r\nHello\r\n"


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def test_one_recipient_waits_while_another_passes(mta: Style) -> None:
    store: dict[Key, float] = {}
    clock = Clock()
    async with session(lambda: Greylist(store, clock), mta=mta) as s:
        await s.mail("<a@x.example>")
        first = await s.rcpt("<b@example.org>")
        clock.now += DELAY
        await s.mail("<A@x.example>")
        known = await s.rcpt("<B@example.org>")
        new = await s.rcpt("<c@example.org>")
        result = await s.message(MESSAGE)

    assert first == Reply(451, "4.7.1", "Greylisted, come back in 300 seconds")
    assert known is CONTINUE
    assert new == first
    assert result.delivered is not None
    assert [rcpt.address for rcpt in result.delivered.recipients] == ["B@example.org"]


async def test_the_store_outlives_the_connection_and_counts_networks(mta: Style) -> None:
    store: dict[Key, float] = {}
    clock = Clock()
    for client, wait, answer in (
        ("192.0.2.1", DELAY - 1, Reply(451, "4.7.1", "Greylisted, come back in 300 seconds")),
        ("192.0.2.9", 1, Reply(451, "4.7.1", "Greylisted, come back in 1 seconds")),
        ("192.0.2.7", LIFETIME, CONTINUE),
        ("192.0.2.7", 0, Reply(451, "4.7.1", "Greylisted, come back in 300 seconds")),
        ("2001:db8::1", DELAY, Reply(451, "4.7.1", "Greylisted, come back in 300 seconds")),
        ("2001:db8::2", 0, CONTINUE),
    ):
        async with session(lambda: Greylist(store, clock), client=client, mta=mta) as s:
            await s.mail("<a@x.example>")
            assert await s.rcpt("<b@example.org>") == answer
        clock.now += wait


async def test_our_own_people_do_not_wait(mta: Style) -> None:
    store: dict[Key, float] = {}
    async with session(lambda: Greylist(store), macros={"auth_authen": "alice"}, mta=mta) as s:
        await s.mail("<a@x.example>")
        assert await s.rcpt("<b@example.org>") is CONTINUE
    assert store == {}
