import io
import zipfile
from email.message import EmailMessage
from email.policy import SMTP

import pytest

from aiomilter import CONTINUE, Reply
from aiomilter.message import MessageMilter
from aiomilter.testing import session
from tests.examples.test_examples import load


def message(*attachments: tuple[str, bytes]) -> bytes:
    made = EmailMessage(policy=SMTP)
    made["Subject"] = "hello"
    made.set_content("Hello\n")
    for name, octets in attachments:
        made.add_attachment(octets, maintype="application", subtype="octet-stream", filename=name)
    return bytes(made)


def zipped(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, b"x")
    return file.getvalue()


@pytest.mark.parametrize(("login", "footers"), [("alice", 1), ("", 0)])
async def test_the_footer_is_added_to_mail_of_our_people(login: str, footers: int) -> None:
    example = load("footer")
    async with session(example.Footer, macros={"auth_authen": login}) as s:
        result = await s.send(message(), "alice@example.org", ["bob@example.net"])
        ambiguous = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nHello\r\n"
        other = await s.send(ambiguous, "alice@example.org", ["bob@example.net"])
    assert result.octets.count(b"Hello\r\n\r\n-- \r\nExample Ltd.") == footers
    assert other.octets.count(b"X-Footer: left out") == footers


POLICY = [
    ([], CONTINUE, ""),
    ([("a.txt", b"x")], CONTINUE, ""),
    ([("a.exe", b"x"), ("b.txt", b"y")], CONTINUE, "a.exe"),
    ([("a.zip", zipped("b.txt"))], CONTINUE, ""),
    ([("a.zip", zipped("b.EXE"))], 550, ""),
    ([("a.zip", b"broken")], 550, ""),
]


@pytest.mark.parametrize(("attachments", "answer", "removed"), POLICY)
async def test_programs_are_taken_out_or_refused(
    attachments: list[tuple[str, bytes]], answer: object, removed: str
) -> None:
    policy: type[MessageMilter] = load("attachment_policy").AttachmentPolicy
    async with session(policy) as s:
        result = await s.send(message(*attachments), "a@x.example", ["bob@example.net"])
    if answer == 550:
        assert isinstance(result.answer, Reply)
        assert result.answer.code == 550
    else:
        assert result.answer is answer
        assert (f"\r\nX-Removed: {removed}\r\n".encode() in result.octets) is (removed != "")
        assert (removed.encode() + b" was removed." in result.octets) is (removed != "")
