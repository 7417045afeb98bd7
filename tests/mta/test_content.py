"""Messages cut into header fields and body; odd ones are in test_odd_messages.py."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.mta import HEADER_SIZE, Style, cut, deliver
from aiomilter.wire.events import Mail, Rcpt

STYLES: list[Style] = ["postfix", "sendmail"]
both_styles = pytest.mark.parametrize("style", STYLES)

FIELDS = [
    (b"X: a\r\n", ("X", "a", " ")),
    (b"X:  a\r\n", ("X", " a", " ")),
    (b"X:a\r\n", ("X", "a", "")),
    (b"X:\ta\r\n", ("X", "\ta", "")),
    (b"X:\r\n", ("X", "", "")),
    (b"X: \r\n", ("X", "", " ")),
    (b"X: first\r\n\tsecond\r\n  third\r\n", ("X", "first\n\tsecond\n  third", " ")),
    (b"X: caf\xe9\r\n", ("X", "caf\udce9", " ")),
]


@both_styles
@pytest.mark.parametrize(("raw", "expected"), FIELDS)
def test_a_field_is_shown_as_the_mta_shows_it_and_kept_as_it_came(
    raw: bytes, expected: tuple[str, str, str], style: Style
) -> None:
    content = cut(raw + b"\r\nbody\r\n", style)

    assert [tuple(line.header) for line in content.fields] == [expected]
    assert content.fields[0].raw == raw
    assert content.body == b"body\r\n"


MESSAGES = [
    (b"", [], b"", False),
    (b"A: 1\n", ["A"], b"", False),
    (b"A: 1\n\n", ["A"], b"", True),
    (b"A: 1\nB: 2\n\nx\n", ["A", "B"], b"x\r\n", True),
    (b"A: 1\r\n\r\nx", ["A"], b"x\r\n", True),
    (b"A: 1\n\na\nb\nc", ["A"], b"a\r\nb\r\nc\r\n", True),
    (b"\r\nx\r\n", [], b"x\r\n", True),
    (b"no colon here\r\nA: 1\r\n", [], b"no colon here\r\nA: 1\r\n", False),
    (b"A: 1\r\nno colon\r\n", ["A"], b"no colon\r\n", False),
    (b" fold of nothing\r\nA: 1\r\n", [], b" fold of nothing\r\nA: 1\r\n", False),
    (b"A: 1\r\nn\xe4me: x\r\n", ["A"], b"n\xe4me: x\r\n", False),
    (b": empty name\r\n", [], b": empty name\r\n", False),
    (b"A: 1\r\n\r\n\r\n", ["A"], b"\r\n", True),
    (b"A: 1\n \n\nx\n", ["A"], b"x\r\n", True),
    (b"A: 1\r\n\r\nNUL \0 stays\0\r\n", ["A"], b"NUL \0 stays\0\r\n", True),
]


@both_styles
@pytest.mark.parametrize(("octets", "names", "body", "separated"), MESSAGES)
def test_header_section_and_body_are_told_apart(
    octets: bytes, names: list[str], body: bytes, separated: bool, style: Style
) -> None:
    content = cut(octets, style)

    assert [line.header.name for line in content.fields] == names
    assert content.body == body
    assert content.separated is separated


def test_a_field_is_cut_at_the_size_that_postfix_keeps() -> None:
    content = cut(b"X: " + b"a" * 70000 + b"\r\nY: 1\r\n")

    assert [line.header.name for line in content.fields] == ["X", "Y"]
    assert len(content.fields[0].raw) == HEADER_SIZE + 2
    assert content.fields[0].raw.endswith(b"a\r\n")


REFUSED = [
    # Bare line ends before anything else, but what is wrong before them counts.
    (b"A: 1\r\n\r\na\rb\r\n", 421),
    (b"A: 1\r\n\r\na\nb\r\n", 421),
    (b"A\x7f: 1\r\n b\nc\r\n", 421),
    (b"A\x7f: 1\r\nB: b\nc\r\n", 553),
    (b"A\x7f: 1\r\n" + b"B: 1\r\n" * 10000, 552),
    (b"A: 1\r\n" * 10000 + b"\r\na\nb", 552),
    (b"A: 1\r\nB: 1\n" + b"C: 1\r\n" * 10000, 421),
    (b"A: " + b"1" * 40000 + b"\nB: 1\r\n", 552),
]


@pytest.mark.parametrize(("octets", "code"), REFUSED)
def test_what_sendmail_refuses_postfix_takes(octets: bytes, code: int) -> None:
    content = cut(octets, "sendmail")

    assert content.refusal is not None
    assert content.refusal.code == code
    assert content.body == b""
    assert cut(octets, "postfix").refusal is None


def test_a_refusal_repeats_the_beginning_of_the_line_in_printable_characters() -> None:
    refusal = cut(b"A\x7f: \xe9\x1b" + b"a" * 200 + b"\r\n", "sendmail").refusal

    assert str(refusal) == f'553 5.3.0 header syntax error, line "A?: ??{"a" * 94}"'


@both_styles
@settings(deadline=None)
@given(octets=st.binary() | st.text("AF:. \t\r\n\0\x7fromtex>-", max_size=60).map(str.encode))
def test_any_octets_are_a_message_and_delivered_they_are_the_same_one(octets: bytes, style: Style) -> None:
    content = cut(octets, style)
    if content.refusal is not None:
        return
    delivered = deliver(style, Mail("<a@x>"), [Rcpt("<b@y>")], content).octets
    again = cut(delivered, style)

    assert (again.fields, again.body) == (content.fields, content.body)
