import pytest

from aiomilter.exceptions import LocalProtocolError
from aiomilter.message.headers import Field, Headers


def of(*raw: bytes) -> Headers:
    return Headers(Field(octets) for octets in raw)


def lines(headers: Headers) -> list[bytes]:
    return headers.octets().split(b"\r\n")[:-1]


def test_fields_are_read_by_name_text_and_address() -> None:
    headers = of(
        b"From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>\r\n",
        b'to: a@x.example,\r\n "b, c" <c@x.example>\r\n',
        b"TO: (comment) d@x.example\r\n",
    )
    assert headers.text("from") == "J\u00fcrgen <j@example.org>"
    assert headers.text("Subject") == ""
    assert headers.addresses("to") == ("a@x.example", "c@x.example", "d@x.example")
    assert [field.name for field in headers.get_all("To")] == ["to", "TO"]
    assert "subject" not in headers
    assert "FROM" in headers
    assert headers[0] in headers


def test_fields_are_written_at_their_places() -> None:
    headers = of(b"A: 1\r\n", b"B: 2\r\n")
    headers.append("Z", "end")
    headers.prepend("Y", "top")
    headers.insert_before(headers[2], "X", "before B")
    headers.insert_after(headers[1], "W", "after A")
    headers.replace(headers[-2], "two")
    assert lines(headers) == [b"Y: top", b"A: 1", b"W: after A", b"X: before B", b"B: two", b"Z: end"]
    assert [origin for _, origin in headers.entries()] == [-1, 0, -1, -1, 1, -1]


def test_set_leaves_one_field_of_a_name() -> None:
    headers = of(b"Subject: a\r\n", b"X: 1\r\n", b"subject: b\r\n")
    headers.set("Subject", "c")
    headers.set("New", "1")
    assert lines(headers) == [b"Subject: c", b"X: 1", b"New: 1"]


def test_text_is_encoded_and_folded() -> None:
    headers = of(b"Subject: a\r\n")
    text = "[EXT] gr\u00fc\u00dfe " * 20
    headers.set_text("Subject", text)
    assert headers.text("Subject") == text.strip()
    assert all(len(line) <= 78 and line.isascii() for line in lines(headers))
    headers.set_text("Subject", "one line\r\nX-Evil: 1\0 \udcff")
    assert len(headers) == 1
    assert headers.text("Subject") == "one line  X-Evil: 1  \ufffd"


def test_equal_fields_are_told_apart() -> None:
    headers = of(b"A: 1\r\n", b"A: 1\r\n", b"A: 1\r\n")
    headers.remove(headers[1])
    assert [origin for _, origin in headers.entries()] == [0, 2]
    with pytest.raises(ValueError, match="of this message"):
        headers.remove(Field(b"A: 1\r\n"))


def test_octets_behind_the_colon_can_be_given() -> None:
    headers = of()
    headers.append("X", "", raw=b"\tvalue\r\n folded \xff")
    assert headers.octets() == b"X:\tvalue\r\n folded \xff\r\n"


@pytest.mark.parametrize(
    ("name", "value", "raw"),
    [
        ("X Y", "v", None),
        ("X:", "v", None),
        ("", "v", None),
        ("X", "a\nb", None),
        ("X", "a\0", None),
        ("X", "", b" a\r\nBcc: x"),
        ("X", "", b"\0"),
    ],
)
def test_what_must_not_reach_an_mta_raises(name: str, value: str, raw: bytes | None) -> None:
    headers = of(b"A: 1\r\n")
    with pytest.raises(LocalProtocolError):
        headers.append(name, value, raw=raw)
    assert lines(headers) == [b"A: 1"]


def test_a_field_without_a_name_cannot_be_edited() -> None:
    headers = of(b"no colon\r\n")
    with pytest.raises(LocalProtocolError, match="an MTA takes"):
        headers.remove(headers[0])
    with pytest.raises(LocalProtocolError):
        headers.replace(headers[0], "x")


def test_a_copy_changes_apart() -> None:
    headers = of(b"A: 1\r\n")
    other = headers.copy()
    other.append("B", "2")
    assert len(headers) == 1
    assert len(other) == 2
