"""``attachments`` and ``banner``: what the reader gets, and what is refused."""

import io
import zipfile
from base64 import encodebytes
from email import message_from_bytes
from email.policy import SMTP
from pathlib import Path
from typing import Any

import pytest

from aiomilter import filters
from aiomilter.compose import compose
from aiomilter.filters.attachments import SenderRules
from aiomilter.testing import session


def mail(name: str, content: bytes = b"MZ", kind: str = "application/octet-stream", more: str = "") -> bytes:
    head = "From: a@x.example\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    text = "--b\r\nContent-Type: text/plain\r\n\r\nsee file\r\n"
    file = f'--b\r\nContent-Type: {kind}\r\nContent-Disposition: attachment; filename="{name}"\r\n'
    coded = encodebytes(content).decode().replace("\n", "\r\n")
    return f"{head}{text}{file}Content-Transfer-Encoding: base64\r\n\r\n{coded}{more}--b--\r\n".encode()


def zipped(*names: str, inner: bytes | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x" if inner is None else inner)
    return buffer.getvalue()


async def sent(settings: Any, octets: bytes, sender: str = "a@x.example") -> Any:
    async with session(compose(settings)) as s:
        return await s.send(octets, sender, "u@corp.example")


def files(**changes: Any) -> filters.Attachments:
    return filters.Attachments(**{"extensions": ["exe"], **changes})


@pytest.mark.parametrize(
    ("octets", "settings", "fate"),
    [
        (mail("a.exe"), {}, "removed"),
        (mail("A.EXE. "), {}, "removed"),
        (mail("a.pdf"), {}, "kept"),
        (mail("a.pdf", kind="application/x-msdownload"), {"types": ["application/x-msdownload"]}, "removed"),
        (mail("a.zip", zipped("b.exe")), {}, "removed"),
        (mail("a.zip", zipped("c.zip", inner=zipped("b.exe"))), {}, "removed"),
        (mail("a.zip", zipped("b.exe")), {"zip": False}, "kept"),
        (mail("a.zip", zipped("b.pdf")), {}, "kept"),
        (mail("a.zip", b"PK\x03\x04broken"), {}, "refused"),
        (mail("a.zip", b"PK\x03\x04broken"), {"on_unreadable": "note"}, "kept"),
        (mail("a.zip", b"PK\x03\x04broken"), {"on_unreadable": "quarantine"}, "held"),
        (mail("a.exe"), {"action": "reject"}, "refused"),
        (mail("a.exe"), {"action": "quarantine"}, "held"),
        (mail("a.exe"), {"action": "note"}, "kept"),
        (mail("a.exe"), {"action": "rename"}, "renamed"),
        (mail("a.exe"), {"domains": {"x.example": SenderRules(action="reject")}}, "refused"),
        (mail("a.exe"), {"domains": {".x.example": SenderRules(action="reject")}}, "removed"),
    ],
)
async def test_a_file_meets_its_fate(octets: bytes, settings: dict[str, Any], fate: str) -> None:
    found = await sent(files(**settings), octets)
    if fate == "refused":
        assert str(found.answer).startswith("550 5.7.1 ")
        return
    parts = list(message_from_bytes(found.octets, policy=SMTP).walk())
    assert parts[1].get_content().startswith("see file")
    last = parts[-1]
    if fate == "removed":
        assert "was removed" in last.get_content()
    elif fate == "renamed":
        assert last.get_filename() == "a.exe.txt"
    else:
        assert found.octets == octets
        assert (found.delivered.quarantine is not None) == (fate == "held")


async def test_what_is_in_an_attached_message_is_seen_or_not() -> None:
    octets = b"From: a@x.example\r\nContent-Type: message/rfc822\r\n\r\n" + mail("a.exe")
    assert b"was removed" in (await sent(files(), octets)).octets
    assert (await sent(files(nested=False), octets)).octets == octets


async def test_a_signed_message_is_refused_rather_than_spoilt() -> None:
    octets = mail("a.exe").replace(b"multipart/mixed", b"multipart/signed; protocol=x; micalg=y")
    assert str((await sent(files(), octets)).answer).startswith("550 5.7.1 This attachment")


PLAIN = b"From: a@x.example\r\nSubject: Hello\r\n\r\nA text.\r\n"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "banner.txt").write_text("Not from us.\n")
    (tmp_path / "banner.html").write_text("<p><b>Not</b> from us.</p>\n")
    return tmp_path / "banner.txt"


async def test_a_banner_is_in_plain_text_and_html(text: Path) -> None:
    html = PLAIN.replace(b"\r\n\r\nA text.", b"\r\nContent-Type: text/html\r\n\r\n<body>A text.</body>")
    settings = filters.Banner(text=text, html=text.with_suffix(".html"), place="top", subject="[EXT]")
    plain, marked = await sent(settings, PLAIN), await sent(settings, html)
    assert plain.octets.index(b"Not from us.") < plain.octets.index(b"A text.")
    assert b"\r\nSubject: [EXT] Hello\r\n" in plain.octets
    assert b"<b>Not</b>" in marked.octets
    again = await sent(filters.Banner(subject="[EXT]"), plain.octets)
    assert again.octets == plain.octets


async def test_a_signed_message_gets_a_banner_only_around_it(text: Path) -> None:
    octets = mail("a.pdf").replace(b"multipart/mixed", b"multipart/signed; protocol=x; micalg=y")
    assert (await sent(filters.Banner(text=text), octets)).octets == octets
    wrapped = await sent(filters.Banner(text=text, signed="wrap"), octets)
    assert b"Not from us." in wrapped.octets
    assert octets.partition(b"\r\n\r\n")[2] in wrapped.octets


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: filters.Attachments(), "expected extensions, types"),
        (lambda path: filters.Attachments(extensions="exe"), "extensions: expected a list"),
        (lambda path: files(domains={"@": SenderRules()}), "domains: expected an address"),
        (lambda path: filters.Banner(), "expected text, subject"),
        (lambda path: filters.Banner(subject="a\nb"), "subject: expected a mark"),
        (lambda path: filters.Banner(text=path / "no.txt").check(filters.Site()), r"text: .*no\.txt: No such file"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        make(tmp_path)
