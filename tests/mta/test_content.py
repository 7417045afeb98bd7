"""Messages cut into header fields and body."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.mta import HEADER_SIZE, cut

FIELDS = [
    (b"X: a\r\n", ("X", "a", " ")),
    (b"X:  a\r\n", ("X", " a", " ")),
    (b"X:a\r\n", ("X", "a", "")),
    (b"X:\ta\r\n", ("X", "\ta", "")),
    (b"X : a\r\n", ("X", "a", " ")),
    (b"X:\r\n", ("X", "", "")),
    (b"X: \r\n", ("X", "", " ")),
    (b"X: first\r\n\tsecond\r\n  third\r\n", ("X", "first\n\tsecond\n  third", " ")),
    (b"X: caf\xe9\r\n", ("X", "caf\udce9", " ")),
    (b"X: a\rb\r\n", ("X", "a\rb", " ")),
]


@pytest.mark.parametrize(("raw", "expected"), FIELDS)
def test_a_field_is_shown_as_the_mta_shows_it_and_kept_as_it_came(raw: bytes, expected: tuple[str, str, str]) -> None:
    content = cut(raw + b"\r\nbody\r\n")

    assert [tuple(line.header) for line in content.fields] == [expected]
    assert content.fields[0].raw == raw
    assert content.body == b"body\r\n"


MESSAGES = [
    (b"", [], b"", False),
    (b"A: 1\n", ["A"], b"", False),
    (b"A: 1\n\n", ["A"], b"", True),
    (b"A: 1\nB: 2\n\nx\n", ["A", "B"], b"x\r\n", True),
    (b"A: 1\r\n\r\nx", ["A"], b"x\r\n", True),
    (b"A: 1\r\n\r\na\nb\r\nc\n", ["A"], b"a\r\nb\r\nc\r\n", True),
    (b"\r\nx\r\n", [], b"x\r\n", True),
    (b"no colon here\r\nA: 1\r\n", [], b"no colon here\r\nA: 1\r\n", False),
    (b"A: 1\r\nno colon\r\n", ["A"], b"no colon\r\n", False),
    (b" fold of nothing\r\nA: 1\r\n", [], b" fold of nothing\r\nA: 1\r\n", False),
    (b"A: 1\r\nn\xe4me: x\r\n", ["A"], b"n\xe4me: x\r\n", False),
    (b": empty name\r\n", [], b": empty name\r\n", False),
    (b"A: 1\r\n\r\n\r\n", ["A"], b"\r\n", True),
    (b"A: 1\n \n\nx\n", ["A"], b"x\r\n", True),
    (b"A: 1\r\n\r\nlone \r stays\0\r\n", ["A"], b"lone \r stays\0\r\n", True),
]


@pytest.mark.parametrize(("octets", "names", "body", "separated"), MESSAGES)
def test_header_section_and_body_are_told_apart(octets: bytes, names: list[str], body: bytes, separated: bool) -> None:
    content = cut(octets)

    assert [line.header.name for line in content.fields] == names
    assert content.body == body
    assert content.separated is separated


def test_a_field_is_cut_at_the_size_that_postfix_keeps() -> None:
    content = cut(b"X: " + b"a" * 70000 + b"\r\nY: 1\r\n")

    assert [line.header.name for line in content.fields] == ["X", "Y"]
    assert len(content.fields[0].raw) == HEADER_SIZE + 2
    assert content.fields[0].raw.endswith(b"a\r\n")


def test_a_nul_in_a_field_is_dropped_since_no_packet_carries_it() -> None:
    (line,) = cut(b"X: a\0b\r\n").fields

    assert line.header.value == "ab"
    assert line.raw == b"X: ab\r\n"


@settings(deadline=None)
@given(st.binary())
def test_any_octets_are_a_message(octets: bytes) -> None:
    content = cut(octets)
    again = b"".join([line.raw for line in content.fields] + [b"\r\n" * content.separated, content.body])

    assert cut(again) == content
