"""Where one program reads a file that does harm and another does not, ours says that it does.

Each case has a reading, known of some mail program or lenient parser, in which a program arrives: by its name, as an attachment
that a filter is shown, or in a zip file.
"""

import base64
import io
import struct
import zipfile
import zlib

import pytest

from aiomilter.message import Message, Part
from aiomilter.message.filenames import dangerous
from aiomilter.message.structure import Structure
from tests.message.made import made
from tests.message.odd import MIXED, part

# Values of Content-Disposition; the name is a.exe for some.
NAMES: dict[str, str] = {
    "with a charset, and in sections": "attachment; filename*=utf-8''a.txt; filename*0=\"a.exe\"",
    "in sections, and with a charset": "attachment; filename*0=a.txt; filename*=utf-8''a.exe",
    "plain, and with a charset": "attachment; filename=a.txt; filename*=utf-8''a.exe",
    "with a charset, and plain": "attachment; filename*=utf-8''a.txt; filename=a.exe",
    "a section twice": "attachment; filename*0=a.; filename*1=txt; filename*1=exe",
    "a section twice, encoded once": "attachment; filename*0=a.; filename*1=txt; filename*1*=%65xe",
    "sections with a gap": "attachment; filename*0=a.; filename*2=exe",
    "sections from one on": "attachment; filename*1=a.; filename*2=exe",
    "sections in another order": 'attachment; filename*1="a."; filename*0="exe"',
    "sections with zeros": "attachment; filename*00=a.; filename*01=exe",
    "an encoded section without a mark": 'attachment; filename*0=a; filename*1="%2eexe"',
    "percent signs in a plain one": 'attachment; filename="a%2eexe"',
    "a word and text": 'attachment; filename="=?utf-8?q?a.e?=xe"',
    "text and a word": 'attachment; filename="a=?utf-8?q?.exe?="',
    "a word with a blank": 'attachment; filename="=?utf-8?q?a .exe?="',
    "a word of an unknown charset": 'attachment; filename="=?x-none?b?YS5leGU=?="',
    "a word without padding": 'attachment; filename="=?utf-8?b?YS5leGU?="',
    "a word without end": 'attachment; filename="=?utf-8?b?YS5leGU="',
    "a word with a language": 'attachment; filename="=?utf-8*en?q?a=2Eexe?="',
    "a word without quotes": "attachment; filename==?utf-8?q?a=2Eexe?=",
    "two words": 'attachment; filename="=?utf-8?q?a.?= =?utf-8?q?exe?="',
    "a word in sections": 'attachment; filename*0="=?utf-8?q?a=2"; filename*1="Eexe?="',
    "a word with a charset": "attachment; filename*=utf-8''%3D?utf-8?q?a=2Eexe?%3D",
    "a quote in a word": 'attachment; filename="=?utf-8?q?a.exe=22?="',
    "a comment": "attachment; filename=a.e(x)xe",
    "single quotes": "attachment; filename='a.exe'",
    "angle brackets": "attachment; filename=<a.exe>",
    "a stream": 'attachment; filename="a.exe::$DATA"',
    "a wide dot": 'attachment; filename="a\uff0eexe"',
    "wide letters": 'attachment; filename="a.\uff45\uff58\uff45"',
    "a fold": 'attachment; filename="a.\r\n exe"',
    "a fold with a tab": 'attachment; filename="a.e\r\n\txe"',
    "no disposition": "filename=a.exe",
    "no semicolon": 'attachment filename="a.exe"',
    "a comma": 'attachment, filename="a.exe"',
    "no semicolon behind a parameter": 'attachment; size=3 filename="a.exe"',
    "in the quotes of another": 'attachment; size="3; filename=a.exe"',
    "quotes without end before it": 'attachment; size="3; filename=a.exe; x=1',
    "a blank before the asterisk": "attachment; filename *=utf-8''a.exe",
    "UTF-7": "attachment; filename*=utf-7''a+AC4-exe",
    "UTF-16": "attachment; filename*=utf-16le''a%00.%00e%00x%00e%00",
    "a charset that it is not in": "attachment; filename*=utf-16le''a.exe",
    "escapes": 'attachment; filename="a\\.e\\xe"',
    "a path that ends so": 'attachment; filename="x/a.exe/"',
    "a tab behind it": 'attachment; filename="a.exe\t"',
    "a blank of no width": 'attachment; filename="a.e\u200bxe"',
    "behind many": "attachment; " + "a=b; " * 300 + "filename=a.exe",
    "behind a long one": "attachment; a=" + "b" * 20_000 + "; filename=a.exe",
    "last of many": "attachment; " + "filename=a.txt; " * 100 + "filename=a.exe",
    "last of many sections": "attachment; filename*0=a; " + "filename*1=.txt; " * 100 + "filename*1=.exe",
    "a semicolon without quotes": "attachment; filename=a;b.exe",
    "quotes in the middle": 'attachment; filename=a".exe"',
    "text behind quotes": 'attachment; filename="a.txt".exe',
    "two in quotes": 'attachment; filename="a." "exe"',
    "octets above 127": "attachment; filename*=utf-8''\udcff.exe",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_with_two_readings_is_the_dangerous_one(name: str) -> None:
    value = NAMES[name].encode("utf-8", "surrogateescape")
    of_type = value.replace(b"attachment", b"text/plain").replace(b"filename", b"name")
    for field in (b"Content-Disposition: " + value, b"Content-Type: " + of_type):
        found = [each.extension for each in made(part(field + b"\r\n")).attachments()]
        assert found == ["exe"], field


HONEST: dict[str, tuple[str, ...]] = {
    'attachment; filename="Report 2026.pdf"; size=3': ("Report 2026.pdf",),
    'attachment; filename="a;b.txt"': ("a;b.txt",),
    'attachment; filename="a, (b).txt"; x="bob@example.com"': ("a, (b).txt",),
    "attachment; filename=a.pdf; x=bob@example.com": ("a.pdf",),
    "attachment; filename*=utf-8''100%25.txt": ("100%.txt",),
    "attachment; filename*0*=utf-8''%C3%A4; filename*1=b.txt": ("\u00e4b.txt",),
    "inline": (),
}


@pytest.mark.parametrize("value", HONEST)
def test_an_honest_name_is_not_dangerous_and_stays_first(value: str) -> None:
    (found,) = made(part(f"Content-Disposition: {value}\r\nContent-Type: a/b\r\n".encode())).attachments()
    assert found.filenames[:1] == HONEST[value]
    assert not any(map(dangerous, found.filenames))


def test_hostile_names_are_bounded() -> None:
    for piece in (
        "filename=a%; ",
        'filename="=?x?q?a%41?="; ',
        "filename*1*=%41; ",
        "filename*1=a; ",
        '"',
        "filename=",
    ):
        (found,) = made(
            part(f"Content-Type: a/b\r\nContent-Disposition: x; {piece * 2_000}\r\n".encode())
        ).attachments()
        assert len(found.filenames) <= 1_000


# ------------------------------------------------------------------------------------------------------- structures

EXE = b"Content-Disposition: attachment; filename=a.exe\r\n\r\nMZ\r\n"


def multipart(parameters: bytes, body: bytes, *fields: bytes) -> bytes:
    head = b"".join(field + b"\r\n" for field in fields)
    return head + b"Content-Type: multipart/mixed; " + parameters + b"\r\n\r\n" + body


# Some program finds a part named a.exe, and another does not.
STRUCTURES: dict[str, bytes] = {
    "boundary with blanks": multipart(b'boundary="b "', b"--b \r\n" + EXE + b"--b --\r\n"),
    "two boundaries, first": multipart(b"boundary=b; boundary=c", b"--b\r\n" + EXE + b"--b--\r\n"),
    "two boundaries, last": multipart(b"boundary=b; boundary=c", b"--c\r\n" + EXE + b"--c--\r\n"),
    "boundary plain and in sections": multipart(b"boundary=b; boundary*0=c", b"--c\r\n" + EXE + b"--c--\r\n"),
    "boundary in sections twice": multipart(b"boundary*0=b; boundary*0*=c", b"--c\r\n" + EXE + b"--c--\r\n"),
    "boundary in sections and with a charset": multipart(
        b"boundary*=utf-8''b; boundary*0=c", b"--c\r\n" + EXE + b"--c--\r\n"
    ),
    "boundary with a comment": multipart(b"boundary=b(c)", b"--b(c)\r\n" + EXE + b"--b(c)--\r\n"),
    "boundary without quotes": multipart(b"boundary=b c", b"--b c\r\n" + EXE + b"--b c--\r\n"),
    "boundary in single quotes": multipart(b"boundary='b'", b"--b\r\n" + EXE + b"--b--\r\n"),
    "boundary without semicolon": multipart(b"charset=x boundary=b", b"--b\r\n" + EXE + b"--b--\r\n"),
    "boundary that is long": multipart(
        b'boundary="' + b"b" * 300 + b'"', b"--" + b"b" * 300 + b"\r\n" + EXE + b"--" + b"b" * 300 + b"--\r\n"
    ),
    "boundary that is empty": multipart(b'boundary=""', b"--\r\n" + EXE + b"----\r\n"),
    "no boundary": multipart(b"x=1", b"--b\r\n" + EXE + b"--b--\r\n"),
    "two types, first": multipart(b"boundary=b", b"--b\r\n" + EXE + b"--b--\r\n").replace(
        b"\r\n", b"\r\nContent-Type: text/plain\r\n", 1
    ),
    "two types, last": multipart(b"boundary=b", b"--b\r\n" + EXE + b"--b--\r\n", b"Content-Type: text/plain"),
    "two types, two boundaries": multipart(
        b"boundary=c", b"--c\r\n" + EXE + b"--c--\r\n", b"Content-Type: multipart/mixed; boundary=b"
    ),
    "nested, same boundary": part(b"Content-Type: multipart/mixed; boundary=b\r\n", b"--b\r\n" + EXE + b"--b--"),
    "nested, a message, same boundary": part(
        b"Content-Type: message/rfc822\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + EXE + b"--b--",
    ),
    "parts behind the end": MIXED + b"\r\n--b\r\n\r\nx\r\n--b--\r\n--b\r\n" + EXE + b"--b--\r\n",
    "text behind a delimiter": MIXED + b"\r\n--b\r\n\r\nx\r\n--b x\r\n" + EXE + b"--b--\r\n",
    "a delimiter that goes on": MIXED + b"\r\n--b\r\n\r\nx\r\n--bx\r\n" + EXE + b"--b--\r\n",
    "blanks behind a delimiter": MIXED + b"\r\n--b \t\r\n" + EXE + b"--b-- \r\n",
    "unclosed": MIXED + b"\r\n--b\r\n" + EXE,
    "lines that end in LF": MIXED + b"\r\n--b\r\n\r\nx\n--b\n" + EXE.replace(b"\r", b"") + b"\n--b--\n",
    "lines that end in CR": MIXED + b"\r\n--b\r\n\r\nx\r--b\r" + EXE.replace(b"\n", b"") + b"\r--b--\r",
    "a CR in a field": part(b"X: a\rContent-Disposition: attachment; filename=a.exe\r\n"),
    "no empty line": MIXED + b"\r\n--b\r\nContent-Disposition: attachment; filename=a.exe\r\n--b--\r\n",
    "multipart in Base64": part(
        b"Content-Type: multipart/mixed; boundary=c\r\nContent-Transfer-Encoding: base64\r\n",
        base64.b64encode(b"--c\r\n" + EXE + b"--c--\r\n"),
    ),
    "message in Base64": part(
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n", base64.b64encode(EXE)
    ),
    "message in quoted-printable": part(
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: quoted-printable\r\n",
        EXE.replace(b"=", b"=3D"),
    ),
    "message with a name": part(b"Content-Type: message/rfc822; name=a.exe\r\n", b"Subject: x\r\n\r\nx"),
    "multipart with a name": part(
        b"Content-Type: multipart/mixed; boundary=c; name=a.exe\r\n", b"--c\r\n\r\nx\r\n--c--"
    ),
    "two dispositions": part(
        b"Content-Disposition: inline\r\nContent-Disposition: attachment; filename=a.exe\r\n", b"MZ"
    ),
    "blank before the colon": part(b"Content-Disposition : attachment; filename=a.exe\r\n"),
    "line without colon before it": part(b"no colon\r\nContent-Disposition: attachment; filename=a.exe\r\n"),
    "line of blanks before it": part(b"X: 1\r\n \r\nContent-Disposition: attachment; filename=a.exe\r\n"),
    "behind a thousand parts": MIXED + b"\r\n" + b"--b\r\n\r\nx\r\n" * 1_100 + b"--b\r\n" + EXE + b"--b--\r\n",
    "40 deep": b"".join(b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(40))
    + EXE,
    "digest": b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\n" + EXE + b"--b--\r\n",
}


@pytest.mark.parametrize("name", STRUCTURES)
async def test_a_part_that_some_programs_find_is_not_passed_over(name: str) -> None:
    """Found by its name; or the part that it may be in is an attachment, and the message is known to be ambiguous."""
    message = made(STRUCTURES[name])
    found = [*message.attachments()]
    assert found
    assert "exe" in [each.extension for each in found] or message.ambiguous or not message.complete


@pytest.mark.parametrize("second", ["inline", "attachment"])
def test_a_text_with_two_dispositions_is_an_attachment_if_one_says_so(second: str) -> None:
    octets = part(f"Content-Disposition: inline\r\nContent-Disposition: {second}\r\n".encode())
    assert len([*made(octets).attachments()]) == (second == "attachment")


def test_a_plain_message_has_no_attachments() -> None:
    for octets in (b"Subject: x\r\n\r\nx\r\n", part(b""), part(b"Content-Type: text/html; charset=utf-8\r\n")):
        assert [*made(octets).attachments()] == []


# -------------------------------------------------------------------------------------------------------------- zips


def zipped(name: str = "a.exe", content: bytes = b"MZ", method: int = zipfile.ZIP_STORED, extra: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        entry = zipfile.ZipInfo("x" * len(name.encode()))
        entry.compress_type, entry.extra = method, extra
        archive.writestr(entry, content)
    # ``zipfile`` would take out what is odd.
    return file.getvalue().replace(b"x" * len(name.encode()), name.encode())


def in_base64(octets: bytes, *fields: bytes) -> bytes:
    head = b"".join(field + b"\r\n" for field in (*fields, b"Content-Transfer-Encoding: base64"))
    return part(head, base64.encodebytes(octets).replace(b"\n", b"\r\n").rstrip())


ZIP = zipped()
NESTED = zipped("in.zip", ZIP, zipfile.ZIP_DEFLATED)
UNICODE_PATH = b"\x75\x70" + struct.pack("<HBI", 10, 1, zlib.crc32(b"b.txt")) + b"a.exe"


def changed(octets: bytes, offset: int, new: bytes) -> bytes:
    return octets[:offset] + new + octets[offset + len(new) :]


def behind_empty_blocks(octets: bytes) -> bytes:
    """Return a zip file with another in it, whose compressed octets begin with many blocks of nothing."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = b"\0\0\0\xff\xff" * 2_000 + packer.compress(octets) + packer.flush()
    head = b"PK\3\4" + struct.pack("<5H3I2H", 20, 0, 8, 0, 0, 0, len(packed), len(octets), 6, 0) + b"in.zip"
    return head + packed + b"PK\5\6" + b"\0" * 18


AS_ZIP = b"Content-Type: application/zip"
ZIPS: dict[str, bytes] = {
    "by its type": in_base64(ZIP, AS_ZIP),
    "by its second type": in_base64(ZIP, b"Content-Type: a/b", AS_ZIP),
    "by its name": in_base64(ZIP, b'Content-Disposition: attachment; filename="a.zip"'),
    "by its second name": in_base64(ZIP, b"Content-Type: a/b; name=a.zip", b"Content-Disposition: x; filename=a.dat"),
    "by its content": in_base64(ZIP, b"Content-Type: a/b"),
    "by its content, with another name": in_base64(ZIP, b"Content-Disposition: attachment; filename=a.pdf"),
    "by its content, as it stands": part(b"Content-Type: a/b\r\nContent-Transfer-Encoding: binary\r\n", ZIP),
    "by its content, in quoted-printable": part(
        b"Content-Type: a/b\r\nContent-Transfer-Encoding: quoted-printable\r\n",
        b"".join(b"=%02X" % octet for octet in ZIP),
    ),
    "by its content, in an unknown encoding": in_base64(ZIP, b"Content-Type: a/b").replace(b": base64", b": base-64"),
    "by its content, with junk before it": in_base64(ZIP, b"Content-Type: a/b").replace(b"UEsD", b"!U*E\r\n \xffsD"),
    "by its content, without parts": b"Content-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.b64encode(ZIP),
    "name with a dot at the end": in_base64(zipped("a.exe."), AS_ZIP),
    "name with a blank at the end": in_base64(zipped("a.exe "), AS_ZIP),
    "name with NUL": in_base64(zipped("a.exe\0.txt"), AS_ZIP),
    "name with an override": in_base64(zipped("a\u202etxt.exe"), AS_ZIP),
    "name with what nobody sees": in_base64(zipped("a.e\u200bxe"), AS_ZIP),
    "name with a path": in_base64(zipped("x\\a.exe"), AS_ZIP),
    "name in an extra field": in_base64(zipped("b.txt", extra=UNICODE_PATH), AS_ZIP),
    "name in the directory": in_base64(ZIP.replace(b"a.exe", b"a.txt", 1), AS_ZIP),
    "name in the file": in_base64(ZIP[::-1].replace(b"exe.a", b"txt.a", 1)[::-1], AS_ZIP),
    "text before it": in_base64(b"text" + ZIP, AS_ZIP),
    "in another": in_base64(NESTED, AS_ZIP),
    "in another, with a name of its own": in_base64(zipped("in.dat", ZIP, zipfile.ZIP_DEFLATED), AS_ZIP),
    "in another, text before it": in_base64(zipped("in.zip", b"text" + ZIP, zipfile.ZIP_DEFLATED), AS_ZIP),
    "in another, marked as one of many": in_base64(zipped("in.dat", b"PK00" + ZIP, zipfile.ZIP_DEFLATED), AS_ZIP),
    "in another, whose size is wrong": in_base64(changed(NESTED, 18, b"\1\0\0\0"), AS_ZIP),
    "in another, whose method is wrong": in_base64(changed(NESTED, 8, b"\0\0"), AS_ZIP),
    "in another, behind empty blocks": in_base64(behind_empty_blocks(ZIP), AS_ZIP),
    "padding in the middle": part(
        AS_ZIP + b"\r\nContent-Transfer-Encoding: base64\r\n",
        base64.b64encode(zipped("a.txt") + b"\0") + base64.b64encode(ZIP),
    ),
    "digits of another Base64": in_base64(ZIP, AS_ZIP).replace(b"UEsDB", b"UEsD-_B"),
    "two encodings": in_base64(zipped("a.txt"), AS_ZIP, b"Content-Transfer-Encoding: 8bit"),
    "encrypted": in_base64(changed(zipped("a.txt"), 6, b"\1\0"), AS_ZIP),
    "names encrypted": in_base64(
        zipped("a.txt").replace(b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\0\x20"), AS_ZIP
    ),
    "without its end": in_base64(zipped("a.txt")[:-22], AS_ZIP),
    "packed as few can": in_base64(changed(zipped("in.zip"), 8, b"\x0e\0"), AS_ZIP),
}


@pytest.mark.parametrize("name", ZIPS)
async def test_a_zip_file_that_some_open_is_one_and_shows_its_program(name: str) -> None:
    (found,) = [each for each in made(ZIPS[name]).attachments() if not each.is_multipart]
    assert found.is_zip
    names = await found.zip_names()
    assert any(each.endswith(".exe") for each in names) or found.zip_problem


@pytest.mark.parametrize("content", [b"PK", b"text", b"P\r\nK", b"UEsD", b""])
async def test_what_is_no_zip_file_is_none(content: bytes) -> None:
    (found,) = made(in_base64(content, b"Content-Type: a/b")).attachments()
    assert not found.is_zip


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b"UEsDB", b"UE!sDB", "broken"),
        (b"UEsDB", b"UE-sDB", "broken"),
        (b"UEsDB", b"UE\r\n\t sDB", ""),
        (b"\r\n--b--", b"\r\nQUJD\r\n--b--", "broken"),
        (b"==\r\n--b--", b"\r\n--b--", ""),
        (b"==\r\n--b--", b"====\r\n--b--", "broken"),
    ],
)
async def test_base64_that_programs_may_read_differently_is_a_problem(old: bytes, new: bytes, problem: str) -> None:
    octets = in_base64(zipped("a.txt") + b"\0\0", AS_ZIP)
    assert old in octets
    (found,) = made(octets.replace(old, new)).attachments()
    assert await found.zip_names() == ("a.txt",)
    assert found.zip_problem == problem


async def test_an_honest_zip_file_has_no_problem() -> None:
    for octets in (zipped("a.txt"), zipped("in.zip", zipped("a.txt"), zipfile.ZIP_DEFLATED), zipped("x/\u00e4 b.txt")):
        (found,) = made(in_base64(octets, AS_ZIP)).attachments()
        names = await found.zip_names()
        assert names
        assert (found.zip_problem, any(map(dangerous, names))) == ("", False)


@pytest.mark.parametrize("cut", [1, 7, 1_000])
def test_the_beginning_of_a_content_is_seen_wherever_it_is_cut(cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiomilter.message.structure._STEP", 1)

    def beginnings(octets: bytes) -> list[bytes]:
        head, _, body = octets.partition(b"\r\n\r\n")
        structure = Structure(head + b"\r\n")
        for at in range(0, len(body), cut):
            structure.feed(body[at : at + cut])
        structure.end()
        return [node.beginning[: node.stop - node.body] for node in structure.root.walk() if not node.opens]

    contents = [b"PK\3\4", b"", b"x" * 300, b"y"]
    body = b"".join(b"--b\r\n\r\n" + content + b"\r\n" for content in contents) + b"--b--\r\n"
    assert beginnings(MIXED + b"\r\n" + body) == [content[:256] for content in contents]
    assert beginnings(b"X: 1\r\n\r\n" + b"PK" + b"x" * 500) == [b"PK" + b"x" * 254]


def test_an_edited_part_is_what_it_was_made() -> None:
    message: Message = made(part(b"Content-Type: a/b\r\n", ZIP))
    found: Part = message.root.children[0]
    assert found.is_zip
    found.replace("text")
    assert not found.is_zip
