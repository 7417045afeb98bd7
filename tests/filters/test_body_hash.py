import asyncio
import hashlib

from aiomilter import Reply
from aiomilter.mta import Style
from aiomilter.testing import session
from tests.filters.body_hash import BodyHash

BAD = hashlib.sha256(b"evil\r\n").hexdigest()


async def test_each_message_has_its_own_digest(mta: Style) -> None:
    large = b"0123456789abcde\r\n" * 20_000
    async with session(lambda: BodyHash(frozenset({BAD})), mta=mta) as s:
        await s.mail("<a@x.example>")
        await s.rcpt("<b@example.org>")
        refused = await s.message(b"Subject: 1\r\n\r\nevil\r\n")
        await s.mail("<a@x.example>")
        await s.rcpt("<b@example.org>")
        passed = await s.message(b"Subject: 2\r\n\r\n" + large)
        await s.mail("<a@x.example>")
        await s.rcpt("<b@example.org>")
        empty = await s.message(b"Subject: 3\r\n\r\n")

    assert refused.answer == Reply(554, "5.7.1", f"Known to be bad: {BAD}")
    assert passed.delivered is not None
    assert b"X-Body-SHA256: " + hashlib.sha256(large).hexdigest().encode() in passed.delivered.octets
    assert empty.delivered is not None
    assert hashlib.sha256(b"").hexdigest().encode() in empty.delivered.octets


async def test_a_message_that_is_cut_short_leaves_no_task_behind(mta: Style) -> None:
    before = asyncio.all_tasks()
    async with session(lambda: BodyHash(frozenset()), mta=mta) as s:
        await s.mail("<a@x.example>")
        await s.rcpt("<b@example.org>")
        await s.data()
        await s.header("Subject", "1")
        await s.eoh()
        await s.body(b"some")
        await s.abort()
        await s.mail("<a@x.example>")
        await s.rcpt("<b@example.org>")
        whole = await s.message(b"Subject: 2\r\n\r\nall\r\n")

    assert whole.delivered is not None
    assert hashlib.sha256(b"all\r\n").hexdigest().encode() in whole.delivered.octets
    assert asyncio.all_tasks() == before
