from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP

from aiomilter.mta import Style
from aiomilter.testing import session
from tests.filters.plain_only import PlainOnly


def two_forms(text: str) -> bytes:
    message = EmailMessage(SMTP)
    message["From"] = "a@x.example"
    message["Subject"] = "hi"
    message.set_content(text)
    message.add_alternative(f"<p>{text}</p>", subtype="html")
    return message.as_bytes().replace(b"Subject: ", b"Subject:")


async def test_text_in_two_forms_is_delivered_in_one(mta: Style) -> None:
    archive: list[bytes] = []
    async with session(lambda: PlainOnly(archive.append), mta=mta) as s:
        for text in ("Hello\n", "Grüße, " * 200 + "\n"):
            await s.mail("<a@x.example>")
            await s.rcpt("<b@example.org>")
            sent = two_forms(text)
            result = await s.message(sent)

            assert result.delivered is not None
            delivered = message_from_bytes(result.delivered.octets, policy=SMTP)
            assert delivered.get_content_type() == "text/plain"
            assert delivered.get_content().splitlines() == text.splitlines()
            assert delivered.keys().count("Content-Type") == 1
            assert delivered["Subject"] == "hi"
            assert archive.pop() == sent


async def test_other_messages_are_delivered_octet_for_octet(mta: Style) -> None:
    archive: list[bytes] = []
    async with session(lambda: PlainOnly(archive.append), mta=mta) as s:
        for message in (
            b"Subject:no blank\r\nX-Odd: \xff\r\n\tfolded\r\n\r\n\xff\0\r\n",
            b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\nx\r\n--b--\r\n",
            b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n"
            b"Content-Type: text/plain; charset=klingon\r\n\r\nx\r\n--b--\r\n",
        ):
            await s.mail("<a@x.example>")
            await s.rcpt("<b@example.org>")
            result = await s.message(message)

            assert result.modifications == ()
            assert result.delivered is not None
            assert result.delivered.octets == message
    assert archive == []
