from aiomilter import CONTINUE, Reply
from aiomilter.mta import Style
from aiomilter.testing import session
from tests.filters.recipients import Recipients

MESSAGE = b"Subject: hi\r\n\r\nHello\r\n"


def make() -> Recipients:
    return Recipients(
        gone={"carol@example.org": "Carol works elsewhere"},
        moved={"info@example.org": "dave@example.org"},
        watched=frozenset({"legal@example.org"}),
    )


async def test_one_is_refused_one_redirected_and_the_message_held(mta: Style) -> None:
    async with session(make, mta=mta) as s:
        await s.mail("<a@x.example>")
        refused = await s.rcpt("<Carol@example.org>")
        assert await s.rcpt("<Info@Example.org>", "NOTIFY=NEVER") is CONTINUE
        assert await s.rcpt("<legal@example.org>") is CONTINUE
        first = await s.message(MESSAGE)
        await s.mail("<a@x.example>")
        assert await s.rcpt("<bob@example.org>") is CONTINUE
        second = await s.message(MESSAGE)

    assert refused == Reply(550, "5.1.6", "Carol works elsewhere")
    assert first.delivered is not None
    assert {rcpt.address for rcpt in first.delivered.recipients} == {"legal@example.org", "dave@example.org"}
    assert first.delivered.quarantine == "mail to legal@example.org is looked at first"
    assert first.delivered.octets == MESSAGE
    assert second.modifications == ()
    assert second.delivered is not None
    assert [rcpt.address for rcpt in second.delivered.recipients] == ["bob@example.org"]
    assert second.delivered.quarantine is None
