import pytest

from aiomilter.mta import Style
from aiomilter.testing import session
from tests.filters.tag_and_footer import FOOTER, TagAndFooter


async def test_the_second_message_starts_clean(mta: Style) -> None:
    async with session(TagAndFooter, mta=mta) as s:
        await s.mail("<a@x.example>")
        await s.rcpt("<b@example.org>")
        first = await s.message(b"Subject: one\r\nFrom: a@x.example\r\n\r\nHello\r\n")
        await s.mail("<a@x.example>")
        await s.rcpt("<b@example.org>")
        second = await s.message(b"From: a@x.example\r\nSubject: Re: [list] two\r\n\r\nno line end")

    assert first.delivered is not None
    assert first.delivered.octets == b"Subject: [list] one\r\nFrom: a@x.example\r\n\r\nHello\r\n" + FOOTER
    assert second.delivered is not None
    assert second.delivered.octets == b"From: a@x.example\r\nSubject: Re: [list] two\r\n\r\nno line end\r\n" + FOOTER


async def test_a_message_without_subject_and_body_gets_both(mta: Style) -> None:
    async with session(TagAndFooter, mta=mta) as s:
        await s.mail("<a@x.example>")
        await s.rcpt("<b@example.org>")
        result = await s.message(b"From: a@x.example\r\n\r\n")

    assert result.delivered is not None
    assert result.delivered.octets == b"From: a@x.example\r\nSubject: [list]\r\n\r\n" + FOOTER


@pytest.mark.parametrize(
    "field",
    [b"Content-Type: text/html", b"Content-Transfer-Encoding: base64", b"Content-type: Multipart/Mixed; boundary=b"],
)
async def test_other_bodies_stay_as_they_are(field: bytes, mta: Style) -> None:
    message = field + b"\r\nSubject: [list] one\r\n\r\nPGI+SGVsbG88L2I+\r\n"
    async with session(TagAndFooter, mta=mta) as s:
        await s.mail("<a@x.example>")
        await s.rcpt("<b@example.org>")
        result = await s.message(message)

    assert result.delivered is not None
    assert result.delivered.octets == message
