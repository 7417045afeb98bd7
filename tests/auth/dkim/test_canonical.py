"""The header's canonicalisation, against a plain reading of RFC 6376."""

import asyncio
import hashlib
import re
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.auth.dkim._canonical import Form, canonical_field, header_input, one_blank, without_value_of_b
from aiomilter.auth.dkim._checking import CanonicalHeader
from aiomilter.mail.headers import Field, HeaderSection


def reference(raw: bytes, form: Form) -> bytes:
    """Return a canonical field, rule by rule."""
    if form == "simple":
        return raw
    name, _, value = raw[:-2].partition(b":")
    value = re.sub(rb"\r\n(?=[ \t])", b"", value)
    value = re.sub(rb"[ \t]+", b" ", value)
    return name.lower().rstrip(b" \t") + b":" + value.strip(b" \t") + b"\r\n"


# Octets, relaxed: RFC 6376 sections 3.4.2 and 3.4.5.
FIELDS = [
    (b"A: X\r\n", b"a:X\r\n"),
    (b"B : Y\t\r\n\tZ  \r\n", b"b:Y Z\r\n"),
    (b"SUBJect: AbC\r\n", b"subject:AbC\r\n"),
    (b"Subject:\r\n", b"subject:\r\n"),
    (b"Subject: \r\n \r\n", b"subject:\r\n"),
    (b"Subject:\r\n a\r\n\r\n b\r\n", b"subject:a\r\n b\r\n"),
    (b"Subject: \x0b a\xa0 \r\n", b"subject:\x0b a\xa0\r\n"),
    (b"Subject: a\0 \rb\nc\r\n", b"subject:a\0 \rb\nc\r\n"),
    (b"Subject: \xff \xc3\xa9\r\n", b"subject:\xff \xc3\xa9\r\n"),
]


@pytest.mark.parametrize(("raw", "relaxed"), FIELDS)
def test_fields_of_the_rfc_and_beyond(raw: bytes, relaxed: bytes) -> None:
    """D-021, D-121."""
    assert canonical_field(Field(raw), "simple") == raw
    assert canonical_field(Field(raw), "relaxed") == relaxed


VALUE = st.lists(st.sampled_from([b"\r\n ", b"\r\n\t", b" ", b"\t", b"a", b"B", b":", b"\r", b"\n", b"\xff"])).map(
    b"".join
)


@given(VALUE, st.sampled_from(["simple", "relaxed"]))
def test_any_field_is_as_the_rfc_says(value: bytes, form: Form) -> None:
    raw = b"Na Me \t:" + value + b"\r\n"
    assert canonical_field(Field(raw), form) == reference(raw, form)


@given(st.integers(0, 5_000), st.integers(0, 5_000))
def test_runs_of_any_length_are_one_blank(first: int, second: int) -> None:
    octets = b"a" + b" " * first + b"b" + b"\t" * second + b"c"
    assert one_blank(octets) == re.sub(rb"[ \t]+", b" ", octets)


# Value of the field, value without that of b.
SIGNATURES: Final = [
    (b" v=1; b=abc", b" v=1; b="),
    (b" v=1; b=abc; d=x", b" v=1; b=; d=x"),
    (b" v=1; b= a\r\n b c \r\n\t; d=x", b" v=1; b=; d=x"),
    (b" v=1; b=\r\n abc\r\n ", b" v=1; b="),
    (b" v=1;\r\n b =abc", b" v=1;\r\n b ="),
    (b"b=abc; v=1", b"b=; v=1"),
    # Neither the end of another name nor inside a value.
    (b" bb=x; ab=b=y; B=z; b=abc=", b" bb=x; ab=b=y; B=z; b="),
    (b" bh=b=; d=b", b" bh=b=; d=b"),
    (b" b; b=abc", b" b; b="),
    (b" b=abc;", b" b=;"),
    (b"", b""),
]


@pytest.mark.parametrize(("value", "without"), SIGNATURES)
def test_the_value_of_b_goes_and_nothing_else(value: bytes, without: bytes) -> None:
    """D-023."""
    assert (
        without_value_of_b(Field(b"DKIM-Signature :" + value + b"\r\n")).raw == b"DKIM-Signature :" + without + b"\r\n"
    )


def test_the_signature_comes_last_and_without_its_line_end() -> None:
    """D-023, D-030."""
    signature = Field(b"DKIM-Signature: v=1; b=abc\r\n")
    section = HeaderSection([signature, Field(b"A:  1"), Field(b"B: 2"), Field(b"A: 3")])
    header = CanonicalHeader(section)
    assert header.input(["b", "a", "c", "a"], signature, "relaxed") == b"b:2\r\na:3\r\na:1\r\ndkim-signature:v=1; b="
    assert header.input(["a"], signature, "simple") == b"A: 3\r\nDKIM-Signature: v=1; b="
    assert header_input([], signature, "simple") == b"DKIM-Signature: v=1; b="
    assert header.field(section[1], "relaxed") is header.field(section[1], "relaxed")


def test_a_signature_does_not_cover_itself_but_covers_others() -> None:
    """D-034."""
    first, second = Field(b"DKIM-Signature: v=1; b=abc\r\n"), Field(b"DKIM-Signature: v=1; b=abc\r\n")
    header = CanonicalHeader(HeaderSection([first, second]))
    for signature in (first, second):
        assert header.input(["dkim-signature"] * 2, signature, "simple") == (
            b"DKIM-Signature: v=1; b=abc\r\nDKIM-Signature: v=1; b="
        )


@pytest.mark.parametrize("form", ["simple", "relaxed"])
async def test_in_a_large_header_others_have_their_turn(form: Form) -> None:
    signature = Field(b"DKIM-Signature: v=1; b=abc\r\n")
    header = CanonicalHeader(HeaderSection([signature, *[Field(b"A:" + b"x" * 60_000)] * 30]))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    digest = await header.digest("sha256", ["a"] * 30, signature, form)
    counting.cancel()
    assert digest == hashlib.sha256(header.input(["a"] * 30, signature, form)).digest()
    # Every third field.
    assert turns >= 9
