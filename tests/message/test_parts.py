"""Parts are read and changed; what comes out is what ``email``, as a second reader, finds there."""

import asyncio
import email
import email.policy
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any, cast

import pytest

from aiomilter.exceptions import LocalProtocolError
from aiomilter.mail.charsets import _codecs
from aiomilter.message import Message, ProtectedError, StructureError, banner
from aiomilter.message.transfer import codec
from aiomilter.message.zips import MAX_NAMES, zip_names
from tests.message.made import body_of, made, octets_of
from tests.message.odd import MIXED


def example() -> bytes:
    """Return a message with plain text, HTML and two attachments."""
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"] = "a@x.example"
    message["Subject"] = "hello"
    message.set_content("Gr\u00fc\u00dfe\n")
    message.add_alternative("<html><body class='a>b'>Gr\u00fc\u00dfe<!-- </body> --></body></html>\n", subtype="html")
    message.add_attachment(b"MZ\0\1" * 100, maintype="application", subtype="octet-stream", filename="Setup.EXE")
    message.add_attachment("text", filename="notes.txt")
    return bytes(message)


def parsed(octets: bytes) -> EmailMessage:
    return email.message_from_bytes(octets, policy=email.policy.SMTP)


def leaves(octets: bytes) -> list[tuple[str, str | None, str | bytes]]:
    found = []
    for part in parsed(octets).walk():
        if part.get_content_maintype() != "multipart":
            content: Any = part.get_content()
            found.append((part.get_content_type(), part.get_filename(), content))
    return found


async def test_parts_are_read() -> None:
    message = made(example())
    found = [(part.depth, part.content_type, part.filename, part.extension) for part in message.parts()]
    assert found == [
        (0, "multipart/mixed", "", ""),
        (1, "multipart/alternative", "", ""),
        (2, "text/plain", "", ""),
        (2, "text/html", "", ""),
        (1, "application/octet-stream", "Setup.EXE", "exe"),
        (1, "text/plain", "notes.txt", "txt"),
    ]
    assert [part.filename for part in message.attachments()] == ["Setup.EXE", "notes.txt"]
    plain, html = message.root.children[0].children
    assert (plain.charset, plain.disposition, plain.parent) == ("utf-8", "", message.root.children[0])
    assert await plain.text() == "Gr\u00fc\u00dfe\r\n"
    assert "Gr\u00fc\u00dfe" in await html.text()
    program = message.root.children[1]
    assert await program.read() == b"MZ\0\1" * 100
    assert await program.read(10) == b"MZ\0\1MZ\0\1MZ"
    assert (message.complete, message.defects, message.ambiguous) == (True, frozenset(), False)


async def test_a_part_is_replaced() -> None:
    message = made(example())
    message.root.children[1].replace("Setup.EXE was removed.\n", content_type="text/plain")
    found = leaves(await octets_of(message))
    assert found[2] == ("text/plain", None, "Setup.EXE was removed.\r\n")
    assert (found[0], found[1], found[3]) == (leaves(example())[0], leaves(example())[1], leaves(example())[3])
    assert message.changes == ((), True, 1)
    assert await message.root.children[1].text() == "Setup.EXE was removed.\r\n"


async def test_a_part_is_removed_and_its_neighbours_stay() -> None:
    message = made(example())
    for part in message.attachments():
        part.remove()
    assert leaves(await octets_of(message)) == leaves(example())[:2]


async def test_the_last_part_leaves_an_empty_text() -> None:
    message = made(MIXED + b"\r\n--b\r\nContent-Type: a/b\r\n\r\nx\r\n--b--\r\n")
    message.root.children[0].remove()
    assert leaves(await octets_of(message)) == [("text/plain", None, "")]


@pytest.mark.parametrize("name", ["plain.txt", 'a "b".txt', "gr\u00fc\u00dfe.txt", "\u00e4" * 100 + ".txt", "a;b.txt"])
async def test_a_part_is_renamed(name: str) -> None:
    message = made(example())
    message.root.children[1].rename(name)
    octets = await octets_of(message)
    assert leaves(octets)[2] == ("application/octet-stream", name, b"MZ\0\1" * 100)
    assert [part.filename for part in made(octets).attachments()] == [name, "notes.txt"]
    assert b"Setup" not in octets


async def test_a_name_does_not_break_out_of_its_field() -> None:
    message = made(example())
    message.root.children[1].rename("a\r\nX-Evil: 1\r\n\r\nbody\0")
    octets = await octets_of(message)
    assert b"\nX-Evil" not in octets
    assert octets.count(b"\0") == 0


@pytest.mark.parametrize(
    "octets",
    [
        example(),
        b"Subject: x\r\n\r\nHello\r\n",
        b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\nContent-ID: <x@y>\r\n\r\neA==\r\n",
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xe4\r\n",
        b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n",
        MIXED + b"\r\n--b--",
    ],
)
async def test_a_part_is_added_to_any_message(octets: bytes) -> None:
    message = made(octets)
    before = leaves(octets)
    message.add_part(b"\1\2", filename="a.bin")
    message.add_part("text\n", filename="b.txt")
    after = await octets_of(message)
    assert parsed(after).get_content_type() == "multipart/mixed"
    assert [leaf for leaf in leaves(after) if leaf in before] == before
    assert leaves(after)[-2:] == [("application/octet-stream", "a.bin", b"\1\2"), ("text/plain", "b.txt", "text\r\n")]
    assert not made(after).defects
    content = octets.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
    assert content.removesuffix(b"--").rpartition(b"--")[0] in after


async def test_the_whole_message_is_replaced() -> None:
    message = made(example())
    message.root.replace("Removed.\n")
    octets = await octets_of(message)
    assert leaves(octets) == [("text/plain", None, "Removed.\r\n")]
    assert parsed(octets)["Subject"] == "hello"
    with pytest.raises(StructureError, match="found a message"):
        message.root.remove()


async def test_a_part_of_a_removed_part_is_not_edited() -> None:
    message = made(example())
    first = message.root.children[0]
    child = first.children[0]
    first.remove()
    with pytest.raises(StructureError, match="removed or replaced"):
        child.replace("x")


@pytest.mark.parametrize(
    "content_type", ["text", "multipart/mixed", "message/rfc822", "text/plain; x=1", "text/a\r\nb"]
)
def test_a_type_that_is_none_is_refused(content_type: str) -> None:
    with pytest.raises(ValueError, match="content_type"):
        made(example()).add_part("x", content_type=content_type)


async def test_an_ambiguous_structure_is_edited_with_force_only() -> None:
    message = made(MIXED + b"\r\n--b \r\n\r\nx\r\n--b--\r\n")
    with pytest.raises(StructureError, match="padded_delimiter"):
        message.root.children[0].replace("new")
    message.root.children[0].replace("new", force=True)
    assert b"\r\n\r\nnew\r\n--b--" in await body_of(message)


# ------------------------------------------------------------------------------------------------------------ banners


def text(content_type: str, encoding: str, body: bytes) -> bytes:
    head = f"Content-Type: {content_type}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return b"MIME-Version: 1.0\r\n" + head.encode() + body


HTML = "text/html; charset=utf-8"
# Message; the text below the banner as a reader sees it; encoding afterwards, charset afterwards.
TEXTS: list[tuple[bytes, str, str, str]] = [
    (b"Subject: x\r\n\r\nHello\r\n", "Banner\n\nHello\n", "", ""),
    (text("text/plain", "7bit", b"Hello\r\n"), "Banner\n\nHello\n", "7bit", ""),
    (text("text/plain; charset=utf-8", "8bit", b"\xc3\xa4\r\n"), "Banner\n\n\u00e4\n", "8bit", "utf-8"),
    (
        text("text/plain; charset=utf-8", "quoted-printable", b"=C3=A4=\r\n\r\n"),
        "Banner\n\n\u00e4\n",
        "quoted-printable",
        "utf-8",
    ),
    (text("text/plain; charset=iso-8859-1", "base64", b"5A==\r\n"), "Banner\n\n\u00e4", "base64", "iso-8859-1"),
    (text(HTML, "7bit", b"<p>x</p>\r\n"), "<p>Banner</p><p>x</p>\n", "7bit", "utf-8"),
    (text(HTML, "7bit", b"<BODY a='>'>x</BODY>"), "<BODY a='>'><p>Banner</p>x</BODY>\n", "7bit", "utf-8"),
    (
        text(HTML, "7bit", b"<title><body></title><!-- <body> --><body>x"),
        "<title><body></title><!-- <body> --><body><p>Banner</p>x\n",
        "7bit",
        "utf-8",
    ),
]


@pytest.mark.parametrize(("octets", "shown", "encoding", "charset"), TEXTS)
async def test_a_banner_stands_above_the_text(octets: bytes, shown: str, encoding: str, charset: str) -> None:
    message = made(octets)
    message.banner("Banner")
    after = await octets_of(message)
    content = parsed(after).get_content().replace("\r\n", "\n")
    assert content.rstrip("\n") == shown.rstrip("\n")
    assert (made(after).root.encoding, made(after).root.charset) == (encoding, charset)


async def test_a_banner_stands_in_every_alternative() -> None:
    message = made(example())
    message.banner("From outside.", "<b>From outside.</b>", place="bottom")
    found = leaves(await octets_of(message))
    assert cast(str, found[0][2]).splitlines() == ["Gr\u00fc\u00dfe", "", "From outside."]
    assert "-->" in cast(str, found[1][2])
    assert cast(str, found[1][2]).rstrip().endswith("--><b>From outside.</b></body></html>")
    assert found[2:] == leaves(example())[2:]
    assert message.changes.parts == 2


async def test_an_empty_text_gets_a_banner_and_its_neighbours_stay() -> None:
    """Its header section ends where the next delimiter begins."""
    message = made(MIXED + b"\r\n--b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n")
    message.banner("Banner")
    assert await body_of(message) == b"--b\r\n\r\nBanner\r\n\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n"


async def test_what_is_in_a_removed_part_is_no_attachment() -> None:
    message = made(
        MIXED + b"\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: a/b\r\n\r\nx\r\n--b\r\n\r\n\r\n--b--\r\n"
    )
    assert [part.content_type for part in message.attachments()] == ["a/b"]
    message.root.children[0].remove()
    assert list(message.attachments()) == []


async def test_a_charset_that_cannot_hold_the_banner_becomes_utf_8() -> None:
    message = made(text("text/plain; charset=us-ascii; format=flowed", "7bit", b"Hello\r\n"))
    message.banner("Gr\u00fc\u00dfe \u4f60")
    after = await octets_of(message)
    assert parsed(after).get_content().splitlines() == ["Gr\u00fc\u00dfe \u4f60", "", "Hello"]
    root = made(after).root
    assert (root.charset, root.encoding) == ("utf-8", "quoted-printable")
    assert b"format=flowed" in after


async def test_flowed_text_does_not_flow_into_the_banner() -> None:
    message = made(text("text/plain; format=flowed", "7bit", b"Hello \r\n"))
    message.banner("From us \n>quoted", place="bottom")
    assert await body_of(message) == b"Hello \r\n\r\n From us \r\n >quoted\r\n"


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (text("text/plain; charset=x-none", "7bit", b"x\r\n"), "unknown_charset"),
        (text("text/plain", "base64", b"a=b=\r\n"), "broken_base64"),
        (text("text/plain; charset=shift_jis", "8bit", b"\xff\r\n"), "undecodable_text"),
        (text("text/plain", "7bit", b"x" * 1_048_577), "text_too_large"),
        (text("text/calendar", "7bit", b"x\r\n"), ""),
        (text("application/pdf", "7bit", b"x\r\n"), ""),
        (b"Content-Disposition: attachment\r\n\r\nx\r\n", ""),
        (b'Content-Type: text/plain; name="a.txt"\r\n\r\nx\r\n', ""),
    ],
)
async def test_what_cannot_take_a_banner_stays_as_it_is(octets: bytes, why: str) -> None:
    message = made(octets)
    message.banner("Banner")
    assert await octets_of(message) == octets
    assert message.defects == ({why} if why else set())
    assert message.changes == ((), False, 0)


SIGNED = b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\nx\r\n--s\r\n\r\nsignature\r\n--s--\r\n"


async def test_a_signed_message_is_wrapped_and_not_touched() -> None:
    message = made(SIGNED)
    message.banner("Banner", signed="wrap")
    after = await octets_of(message)
    assert SIGNED.removesuffix(b"\r\n") in after
    assert leaves(after)[0] == ("text/plain", None, "Banner\r\n")
    assert parsed(after).get_content_type() == "multipart/mixed"
    with pytest.raises(ProtectedError):
        message.root.children[0].replace("x")


class Counted:
    """A pattern that counts the characters it looks at."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern
        self.looked = 0

    def _count(self, found: re.Match[str] | None, text: str, position: int) -> re.Match[str] | None:
        self.looked += (found.end() if found else len(text)) - position
        return found

    def search(self, text: str, position: int) -> re.Match[str] | None:
        return self._count(self._pattern.search(text, position), text, position)

    def match(self, text: str, position: int) -> re.Match[str] | None:
        return self._count(self._pattern.match(text, position), text, position)


@pytest.mark.parametrize("piece", [b"<body", b"<!--", b"<script", b"<body a='", b"</body", b"<title>"])
async def test_hostile_html_is_looked_at_once(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    tag, rest = Counted(banner._TAG), Counted(banner._REST_OF_TAG)
    monkeypatch.setattr(banner, "_TAG", tag)
    monkeypatch.setattr(banner, "_REST_OF_TAG", rest)
    octets = piece * 4_000
    message = made(text(HTML, "7bit", octets))
    message.banner("Banner")
    assert await body_of(message) == b"<p>Banner</p>" + octets
    assert 0 < tag.looked + rest.looked <= len(octets) + 10


# --------------------------------------------------------------------------------------------------------------- zips


def zipped(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def overlapping(size: int, end: bytes) -> bytes:
    """Return a zip file whose hundred files are the same octets, which begin as a zip file does."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(b"PK\3\4" + b"\0" * size) + packer.flush(zlib.Z_FULL_FLUSH if end else zlib.Z_FINISH) + end
    heads = [
        b"PK\3\4" + struct.pack("<5H3I2H", 20, 0, 8, 0, 0, 0, 0, 0, 1, left * 31) + b"a" for left in range(99, -1, -1)
    ]
    return b"".join([*heads, packed, b"PK\5\6"])


ZIP = zipped(("a.txt", b"x"), ("d/b.exe", b"y" * 1000))
ZIPS: list[tuple[bytes, set[str], str]] = [
    (ZIP, {"a.txt", "d/b.exe"}, ""),
    (zipped(("in.zip", ZIP)), {"in.zip", "a.txt", "d/b.exe"}, ""),
    (zipped(("in.zip", ZIP), method=zipfile.ZIP_STORED), {"in.zip", "a.txt", "d/b.exe"}, ""),
    (zipped(("in.zip", zipped(("in2.zip", ZIP)))), {"in.zip", "in2.zip"}, "too deep"),
    (ZIP.replace(b"d/b.exe", b"d/b.txt", 1), {"a.txt", "d/b.exe", "d/b.txt"}, ""),
    (ZIP[:-30], {"a.txt", "d/b.exe"}, "broken"),
    (b"no zip", set(), "broken"),
    (b"", set(), "broken"),
    (ZIP.replace(b"PK\3\4\x14\0\0\0", b"PK\3\4\x14\0\1\0"), {"a.txt", "d/b.exe"}, "encrypted"),
]


@pytest.mark.parametrize(("octets", "names", "problem"), ZIPS)
def test_names_in_a_zip_file_are_found(octets: bytes, names: set[str], problem: str) -> None:
    found = zip_names(octets)
    assert (set(found.names), found.problem) == (names, problem)


def test_zip_bombs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiomilter.message.zips.MAX_SIZE", 100_000)
    bomb = zipped(("bomb.zip", zipped(("x", b"\0" * 500_000), method=zipfile.ZIP_STORED)))
    assert zip_names(bomb) == (("bomb.zip",), "too deep")
    many = zipped(*[(f"{number}.txt", b"") for number in range(MAX_NAMES + 5)])
    found = zip_names(many)
    assert (len(found.names), found.problem) == (MAX_NAMES, "too many")
    assert zip_names(b"PK\3\4" * 100_000).problem != ""


def test_no_more_is_unpacked_than_is_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the headers in the file say of its size."""
    unpacked: list[int] = []
    make = zlib.decompressobj

    class Recording:
        def __init__(self, bits: int) -> None:
            self._unpacker = make(bits)

        @property
        def eof(self) -> bool:
            return self._unpacker.eof

        def decompress(self, data: bytes, most: int = 0) -> bytes:
            octets = self._unpacker.decompress(data, most)
            unpacked.append(len(octets))
            return octets

    monkeypatch.setattr("aiomilter.message.zips.MAX_SIZE", 100_000)
    bomb = zipped(("bomb.zip", zipped(("x", b"\0" * 5_000_000), method=zipfile.ZIP_STORED)))
    monkeypatch.setattr("aiomilter.message.zips.zlib.decompressobj", Recording)
    zip_names(bomb)
    assert max(unpacked) <= 100_001
    # A hundred files of the same octets, whole or broken, are not unpacked a hundred times.
    for end in (b"", b"\xff" * 8):
        for size in (80_000, 500_000):
            unpacked.clear()
            assert zip_names(overlapping(size, end)).problem in ("too deep", "broken")
            assert sum(unpacked) <= 100_001 + 100 * 8


async def test_a_zip_part_tells_its_names() -> None:
    message = made(example())
    message.add_part(ZIP, content_type="application/zip", filename="a.zip")
    again: Message = made(await octets_of(message))
    part = [*again.attachments()][-1]
    assert part.is_zip
    assert set(await part.zip_names()) == {"a.txt", "d/b.exe"}
    assert part.zip_problem == ""


@pytest.mark.parametrize(
    "edit", [lambda m: m.quarantine("a\nb"), lambda m: m.change_sender("a b"), lambda m: m.recipients.remove("<>")]
)
def test_a_bad_envelope_is_refused_at_once(edit: Callable[[Message], None]) -> None:
    with pytest.raises(LocalProtocolError):
        edit(made(example()))


def test_every_charset_decodes_anything() -> None:
    """Python has codecs that are no charsets."""
    for name in _codecs():
        found = codec(name)
        assert found is None or isinstance(b"xn--\xff\0a ".decode(found, "replace"), str)
    assert codec("idna") is codec("hex") is None


async def test_a_part_that_is_read_in_part_leaves_no_task() -> None:
    """Its octets come from one generator inside another: each is closed by the one around it."""
    message = made(b"Subject: hello\r\n\r\n" + b"x" * 4_000_000)
    tasks = asyncio.all_tasks()
    assert await message.root.read(1) == b"x"
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks
