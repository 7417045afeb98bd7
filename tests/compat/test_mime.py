"""Messages and their parts: what is found, what is replaced, and that the rest stays as it was."""

import base64
import io
import socket
import zipfile
from collections.abc import Callable, Iterator
from email.errors import HeaderParseError
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiomilter.compat.lowlevel import CONTINUE, REJECT
from aiomilter.compat.modules import mime
from aiomilter.compat.modules.archives import UnpackingLimit
from aiomilter.compat.modules.sgmllib import SGMLParser
from aiomilter.compat.modules.words import parse_header
from tests.compat.plays import play
from tests.compat.rigs import pymilter
from tests.compat.rigs.calls import Pymilter
from tests.compat.test_modules_like_pymilter import ours
from tests.programs import need


def message(octets: bytes) -> mime.MimeMessage:
    return mime.message_from_file(io.BytesIO(octets))


def zipped(**files: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_", "."), content)
    return made.getvalue()


MIXED = (
    b'From: a@b\nContent-Type: multipart/mixed; boundary="X"; foo=bar;\n\tbaz=qux\n\npreamble\n--X\n\nfirst\n--X\n'
    b"Content-Type: application/octet-stream; name=a.exe\nContent-Transfer-Encoding: base64\n\nTVo=\n--X\n"
    b'Content-Type: message/rfc822\n\nSubject: inner\nContent-Type: application/x; name="c.com"\n\ninside\n--X\n'
    b"Content-Type: text/html\n\n<p>x<script>y</script>z\n--X--\nepilogue\n"
)


@pytest.mark.parametrize("octets", [MIXED, b"A: b\n\nx", b"Subject: a\n b\nY: " + b"long " * 40 + b"\n\n\xe4\n", b""])
def test_a_message_that_is_not_changed_stays_as_it_was(octets: bytes) -> None:
    read = message(octets)
    assert not read.ismodified()
    assert read.as_bytes().rstrip() == octets.rstrip()


def test_dangerous_attachments_are_replaced_and_scripts_taken_out() -> None:
    read = message(MIXED)
    assert mime.defang(read, "copy") is True
    parts: Any = read.get_payload()
    first, program, attached, html = parts
    assert first.get_payload() == "first"
    assert program.get_payload() == mime.virus_msg % ("a.exe", socket.gethostname(), "copy")
    assert program.items() == [("Content-Type", "text/plain; name=WARNING.TXT")]
    assert "c.com" in attached.get_payload()[0].get_payload()
    assert html.get_payload_decoded() == b"<p>x<!-- WARNING: embedded script removed -->z"
    assert message(read.as_bytes()).as_bytes() == read.as_bytes()


def test_attached_messages_may_be_left_alone() -> None:
    read = message(MIXED)
    mime.defang(read, scan_rfc822=False)
    parts: Any = read.get_payload()
    assert parts[2].get_payload()[0].getname() == "c.com"


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Type: application/x; name=a.EXE",
        b"Content-Type: application/x; name*=utf-8''a%2Eexe",
        b"Content-Type: application/x; name*0*=utf-8''%61.; name*1=exe",
        b'Content-Type: application/x; name="=?utf-8?b?YS5leGU=?="',
        b'Content-Type: application/x; name="a.\n exe"',
        b'Content-Type: application/x; other="a.exe"',
        b"Content-Disposition: attachment; filename*=utf-8''a%2Eexe",
        b"Content-Disposition: attachment; filename=a.exe",
    ],
)
def test_every_way_to_name_a_program_is_seen(header: bytes) -> None:
    part = message(header + b"\n\nx")
    assert mime.check_name(part) == CONTINUE
    assert part.ismodified()


@pytest.mark.parametrize("name", ["a.txt", "a.exe.txt", "", "exe", "a.zip"])
def test_other_names_are_left_alone(name: str) -> None:
    part = message(f'Content-Type: application/x; name="{name}"\n\nx'.encode())
    mime.check_name(part)
    assert not part.ismodified()


def zip_message(content: bytes) -> mime.MimeMessage:
    head = b"Content-Type: application/zip; name=z.zip\nContent-Transfer-Encoding: base64\n\n"
    return message(head + base64.encodebytes(content))


def test_programs_in_zip_files_are_seen_when_asked_for() -> None:
    nested = zipped(readme_txt=b"", inner_zip=zipped(a_exe=b"MZ"))
    assert mime.zipnames(nested) == [("zipname", "readme.txt"), ("zipname", "inner.zip"), ("zipname", "a.exe")]
    for scan, modified in ((False, False), (True, True)):
        part = zip_message(nested)
        mime.check_name(part, scan_zip=scan)
        assert part.ismodified() is modified


def test_zip_files_are_not_unfolded_without_end() -> None:
    content = zipped(a_exe=b"MZ")
    for _ in range(20):
        content = zipped(again_zip=content)
    assert len(mime.zipnames(content)) < 20
    bomb = zipped(bomb_zip=bytes(40 << 20))
    assert mime.zipnames(bomb) == [("zipname", "bomb.zip")]


def test_damaged_and_encrypted_zip_files_count_by_their_own_names() -> None:
    damaged = zipped(inner_zip=b"PK no zip file")
    encrypted = bytearray(zipped(inner_zip=zipped(a_exe=b"MZ")))
    encrypted[6] |= 1
    encrypted[encrypted.rindex(b"PK\x01\x02") + 8] |= 1
    assert mime.zipnames(damaged) == mime.zipnames(bytes(encrypted)) == [("zipname", "inner.zip")]


def test_an_attached_message_may_be_encoded() -> None:
    inner = base64.encodebytes(b"Subject: inner\nContent-Type: application/x; name=c.com\n\nMZ\n")
    read = message(b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n" + inner)
    assert mime.defang(read)
    attached = message(read.as_bytes()).get_submsg()
    assert isinstance(attached, list)
    assert "c.com" in attached[0].get_payload()
    assert attached[0]["Subject"] == "inner"
    assert message(b"\nx").get_submsg() is None


def test_a_message_can_be_made_from_a_file() -> None:
    made = mime.MimeMessage(io.BytesIO(MIXED))
    assert made.as_bytes().rstrip() == MIXED.rstrip()
    assert made.ismultipart()
    assert not made.ismodified()


def test_what_is_no_zip_file_has_no_names() -> None:
    part = zip_message(b"not a zip file")
    assert [name for kind, name in part.getnames(scan_zip=True) if kind == "zipname"] == []


def test_changed_headers_are_told() -> None:
    told: list[tuple[str, str | None]] = []
    read = message(b"Subject: x\nReceived: 1\nReceived: 2\n\n")
    read.headerchange = lambda changed, name, value: told.append((name, value))
    read["X-New"] = "v"
    del read["Received"]
    assert told == [("X-New", "v"), ("Received", None)]
    assert read.ismodified()


def test_what_is_deleted_where_something_is_removed_is_told_whether_it_was_there_or_not() -> None:
    told: list[tuple[str, str | None]] = []
    part = message(b"Content-Type: application/x; name=a.vbs\n\nx")
    part.headerchange = lambda changed, name, value: told.append((name, value))
    mime.check_name(part)
    assert told[:3] == [("content-type", None), ("content-disposition", None), ("content-transfer-encoding", None)]

    told.clear()
    part = message(b"Content-Type: text/html\n\n<script>x</script>")
    part.headerchange = lambda changed, name, value: told.append((name, value))
    mime.check_html(part)
    assert told[0] == ("content-transfer-encoding", None)


def test_a_check_ends_the_search() -> None:
    seen = []

    def check(part: mime.MimeMessage) -> int:
        seen.append(part.get_content_type())
        return REJECT if len(seen) == 2 else CONTINUE

    assert mime.check_attachments(message(MIXED), check) == REJECT
    assert seen == ["text/plain", "application/octet-stream"]


@pytest.mark.parametrize(
    ("charset", "encoding", "text"),
    [
        ("iso-8859-1", "8bit", b"<p>\xe4<script>x</script>\xf6"),
        ("utf-8", "8bit", "<p>\xe4<script>x</script>\u0141".encode()),
        ("nonsense", "8bit", b"<p>\xe4<script>x</script>\xf6"),
        ("utf-8", "base64", "<p>\xe4<script>x</script>\u0141".encode()),
        ("utf-16le", "base64", "<p>\xe4<script>x</script>\u0141".encode("utf-16le")),
        ("us-ascii", "quoted-printable", b"<p>\n<script>x</script>\n"),
    ],
)
def test_scripts_go_from_html_of_any_charset(charset: str, encoding: str, text: bytes) -> None:
    head = f"Content-Type: text/html; charset={charset}\nContent-Transfer-Encoding: {encoding}\n\n".encode()
    part = message(head + (base64.encodebytes(text) if encoding == "base64" else text))
    wide = charset if charset.startswith("utf-16") else "latin-1"
    mime.check_html(part)
    assert part.get_payload_decoded() == text.decode(wide).replace(
        "<script>x</script>", mime.HTMLScriptFilter.msg
    ).encode(wide)


def filtered(kind: type[mime.SGMLFilter], text: str) -> str:
    out = io.StringIO(newline="")
    parser = kind(out)
    parser.feed(text)
    parser.close()
    return out.getvalue()


FRAGMENTS = [
    "<p>",
    "</p>",
    "<P\n",
    "<b/>",
    "<!--",
    "-->",
    "<!DOCTYPE",
    "?>",
    "<?",
    "&",
    "&amp;",
    "&#65;",
    "&x",
    "<a",
    "href='x'>",
]
FRAGMENTS += [">", '"', "'", "=", "x", "\xe4", "\r\n", "\n", "</", "<!", "[", "]", "<![CDATA["]
MARKUP = st.lists(
    st.sampled_from(FRAGMENTS),
    max_size=12,
).map("".join)


@settings(max_examples=200)
@given(MARKUP)
def test_a_document_without_scripts_passes_as_it_is(text: str) -> None:
    assert filtered(mime.SGMLFilter, text) == text
    assert filtered(mime.HTMLScriptFilter, text) == text


@settings(max_examples=200)
@given(MARKUP, MARKUP)
def test_no_script_passes(before: str, after: str) -> None:
    passed = filtered(mime.HTMLScriptFilter, f"{before}<script>alert(1)</script>{after}")
    again = filtered(mime.HTMLScriptFilter, passed)
    assert "alert" not in passed or again == passed


def test_parsers_of_sgmllib_get_their_calls() -> None:
    calls: list[object] = []

    class Parser(SGMLParser):
        def start_a(self, attrs: list[tuple[str, str]]) -> None:
            calls.append(("a", attrs))

        def end_a(self) -> None:
            calls.append("/a")

        def do_br(self, attrs: list[tuple[str, str]]) -> None:
            calls.append("br")

        def unknown_starttag(self, tag: str, attrs: list[tuple[str, str]]) -> None:
            calls.append(("unknown", tag))

        def handle_data(self, data: str) -> None:
            calls.append(data)

        def report_unbalanced(self, tag: str) -> None:
            calls.append(("unbalanced", tag))

    parser = Parser()
    parser.feed('</a><A HREF="x&amp;y" checked>t&lt;&#65;')
    parser.feed("<br><p></a>")
    parser.close()
    assert calls == [("unbalanced", "a"), ("a", [("href", "x&y"), ("checked", "checked")]), "t", "<", "A", "br",
                     ("unknown", "p"), "/a"]  # fmt: skip


HOSTILE = st.lists(
    st.sampled_from(
        [
            *(
                b"Content-Type: ",
                b"multipart/mixed; boundary=X",
                b"message/rfc822",
                b"text/html; charset=",
                b"application/zip",
            ),
            *(
                b"; name=z.zip",
                b"; name*=",
                b"utf-8''%ff",
                b"; name*0*=x'y'",
                b"; name*1=",
                b"; boundary=",
                b"=?x?q?=?=",
            ),
            *(
                b"\nContent-Transfer-Encoding: ",
                b"base64",
                b"quoted-printable",
                b"x-uuencode",
                b"\nContent-Disposition: ",
            ),
            *(
                b"\n\n",
                b"\n--X\n",
                b"\n--X--\n",
                b"\n",
                b"utf-16",
                b"\xff",
                b"\x00",
                b"<script>",
                b"PK\x05\x06",
                b"UEsFBg==",
            ),
        ]
    ),
    max_size=25,
).map(b"".join)


@settings(max_examples=200, deadline=None)
@example(octets=b"Content-Type: multipart/mixed; boundary=X\n\n\xff")
@example(octets=b"Content-Type: ; name*=; name*0*=x'y'")
@example(octets=b"Content-Type: ; name*=\x00utf-8''%ff")
@given(octets=HOSTILE)
def test_no_message_raises(octets: bytes) -> None:
    read = message(octets)
    for part in read.walk():
        part.getnames(scan_zip=True)
        part.gettype()
        part.getname()
        part.get_payload_decoded()
        part.get_submsg()
    mime.defang(read, scan_zip=True)
    assert isinstance(read.as_bytes(), bytes)


@pytest.mark.parametrize(
    ("charset", "octets"),
    [("utf-16", "<p><script>x</script>".encode("utf-16-le") + b"!"), ("ucs-2", "<script>x</script>".encode("utf-16"))],
)
def test_html_that_is_not_what_it_says_is_read_all_the_same(charset: str, octets: bytes) -> None:
    """An octet too many, and a name that Python does not know: either raised."""
    head = f"Content-Type: text/html; charset={charset}\nContent-Transfer-Encoding: base64\n\n".encode()
    part = message(head + base64.encodebytes(octets))
    mime.check_html(part)
    assert "WARNING" in part.get_payload_decoded().decode("utf-16", "replace")


def test_a_warning_may_hold_a_name_of_any_script() -> None:
    part = message(b"Content-Type: application/x; name*=utf-8''%C3%A4.exe\n\nMZ")
    mime.check_name(part, "copy")
    again = message(part.as_bytes())
    assert (
        again.get_payload_decoded().decode().splitlines()[1]
        == "It was originally named '\u00e4.exe', and has been removed."
    )
    assert again.gettype() == "text/plain"


@pytest.mark.parametrize("separator", ["\x0c", "\x0b", "\x1c", "\x85"])
def test_a_header_is_written_as_one(separator: str) -> None:
    """What Python takes for a line end made two headers of it, or raised."""
    octets = f"Subject: a{separator}X: b\n c\nY: {'long' * 400}\n\nx".encode()
    assert message(octets).as_bytes() == octets


def test_a_header_that_a_program_has_set_is_encoded() -> None:
    read = message(b"A: b\n\nx")
    read["Subject"] = "\u20ac" * 100
    read["X"] = "\u20ac\udcff"
    written = message(read.as_bytes())
    assert max(map(len, read.as_bytes().splitlines())) <= 78
    assert [parse_header(str(written[name])).replace("\n ", "") for name in ("Subject", "X")] == [
        "\u20ac" * 100,
        "\u20ac\ufffd",
    ]
    read["X"] = "a\nBcc: b"
    with pytest.raises(HeaderParseError):
        read.as_bytes()


# What is bounded, and is not begun once the bound is reached

LEVELS = 100
NESTED: dict[str, Callable[[int], bytes]] = {
    "multiparts": lambda depth: b"".join(
        b"Content-Type: multipart/mixed; boundary=X%d\n\n--X%d\n" % (level, level) for level in range(depth)
    ),
    "messages": lambda depth: b"Content-Type: message/rfc822\n\n" * depth,
    "encoded messages": lambda depth: (
        b"Content-Type: message/rfc822\nContent-Transfer-Encoding: quoted-printable\n\n" * depth
    ),
}
PROGRAM = b"Content-Type: application/x; name=a.exe\n\nMZ"


@pytest.mark.parametrize("kind", NESTED)
def test_so_many_levels_are_looked_into(kind: str) -> None:
    read = message(NESTED[kind](LEVELS) + PROGRAM)
    assert len(list(read.walk())) == LEVELS + 1
    assert mime.defang(read) is True


@pytest.mark.parametrize("kind", NESTED)
def test_what_is_nested_deeper_is_text(kind: str) -> None:
    """Nothing is made of it, nothing is lost, and Python's own limit of nested calls is far."""
    octets = NESTED[kind](5000) + PROGRAM
    read = message(octets)
    parts = list(read.walk())
    assert len(parts) == LEVELS + 1
    # Multiparts that are left open are closed.
    assert read.as_bytes().replace(b"\n", b"").startswith(octets.replace(b"\n", b""))
    assert mime.check_attachments(read, lambda part: CONTINUE) == CONTINUE
    assert parts[-1].get_payload_decoded().endswith(b"MZ")
    assert mime.defang(read, scan_zip=True) is False
    assert parts[-1].gettype() == parts[0].gettype()


def test_encoded_messages_are_decoded_as_often_as_they_are_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once more for each of their parts, and no deeper than others."""
    read: list[int] = []
    real = mime._parse

    def parse(fp: Any, level: int, limit: Any) -> mime.MimeMessage:
        read.append(level)
        return real(fp, level, limit)

    monkeypatch.setattr(mime, "_parse", parse)
    whole = message(NESTED["encoded messages"](5000) + PROGRAM)
    mime.defang(whole)
    assert read == list(range(LEVELS + 1))
    mime.defang(whole)
    assert read == list(range(LEVELS + 1))


def test_all_parts_of_a_message_share_what_may_be_done_for_zip_files(monkeypatch: pytest.MonkeyPatch) -> None:
    content = base64.encodebytes(zipped(inner_zip=zipped(a_txt=b"")))
    part = b"--X\nContent-Type: application/zip; name=z.zip\nContent-Transfer-Encoding: base64\n\n" + content
    monkeypatch.setattr(mime, "UnpackingLimit", lambda: UnpackingLimit(names=5, archives=10))
    read = message(b"Content-Type: multipart/mixed; boundary=X\n\n" + part * 4 + b"--X--\n")
    parts: Any = read.get_payload()
    seen = [[name for kind, name in each.getnames(scan_zip=True) if kind == "zipname"] for each in parts]
    assert seen == [["inner.zip", "a.txt"], ["inner.zip", "a.txt"], ["inner.zip"], []]


def test_a_boundary_that_fits_no_line_is_none() -> None:
    for size, parts in ((998, 2), (999, 1)):
        boundary = b"X" * size
        octets = b"Content-Type: multipart/mixed; boundary=" + boundary + b"\n\n--" + boundary + b"\n\nx"
        assert len(list(message(octets).walk())) == parts


# Against pymilter


@pytest.fixture(scope="session")
def theirs() -> Iterator[Pymilter]:
    need(pymilter.missing())
    with Pymilter(pymilter.PYTHON) as process:
        yield process


HEADERS = st.lists(
    st.sampled_from(
        [
            b"Content-Type: application/octet-stream; name=a.exe\n",
            b'Content-Type: text/plain; charset="us-ascii"; name="b c.txt"\n',
            b"Content-Type: text/html\n",
            b"Content-Type: application/x; name=a.b.vbs; other=x.com\n",
            b"Content-Disposition: attachment; filename=d.scr\n",
            b"Content-Disposition: inline; filename=readme.txt\n",
            b"Content-Transfer-Encoding: base64\n",
            b"Content-Transfer-Encoding: quoted-printable\n",
            b"X-Other: y\n",
        ]
    ),
    max_size=3,
    unique_by=lambda header: header[:18],
).map(b"".join)
PART = st.builds(
    lambda header, text: header + b"\n" + text, HEADERS, st.sampled_from([b"aGVsbG8=\n", b"<p>x\n", b"=41\n"])
)
MESSAGE = st.one_of(
    PART,
    st.lists(PART, min_size=1, max_size=3).map(
        lambda parts: (
            b'Content-Type: multipart/mixed; boundary="XX"\n\n'
            + b"".join(b"--XX\n" + part for part in parts)
            + b"--XX--\n"
        )
    ),
)


@pytest.mark.interop
@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(octets=MESSAGE)
def test_messages_are_read_and_cleaned_as_by_pymilter(theirs: Pymilter, octets: bytes) -> None:
    assert play(ours, "parts", octets) == theirs.play("parts", octets)
    cleaned = theirs.play("defanged", octets)
    # It cannot clean HTML in every encoding.
    assert cleaned in ("raises NameError", play(ours, "defanged", octets))
