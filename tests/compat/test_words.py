"""Encoded words, as Python's own module decodes them."""

import email.header
from email.errors import HeaderParseError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.compat.modules.words import parse_header

PIECES = [
    "=?", "?=", "?", "=?utf-8?q?", "=?utf-8?b?", "=?utf-8?q?a?=", "=?utf-8?q?a?= ", "=?latin-1?Q?=E4?=", "=?x?b?YQ==?=", "q",
    "b", "_", "=41", "=", "YQ==", "\n ", "\n", " ", "\xe4", "\u20ac", "\udcff", "\x0c", "?q?", "?B?", "=?us-ascii?q?=FC?=",
    "\r\n", "=?utf-8?q?  ?=", "=?utf-8?q??=", "=?a\nb?q?c?=", "=?utf-16?b?YQA=?=", "=??q?x?=", "=?idna?q?xn--a?=",
]  # fmt: skip


def as_python(value: str) -> str:
    """Decode a value as the standard library does, what it does not know excepted."""
    try:
        parts = email.header.decode_header(value)
        found = []
        for part, charset in parts:
            if isinstance(part, str):
                found.append(part)
            elif charset is None:
                latin = value.isascii() or max(value) <= "\xff"
                found.append(part.decode("latin-1" if latin else "raw-unicode-escape"))
            else:
                try:
                    found.append(part.decode(charset, "replace"))
                except LookupError:
                    if not charset:
                        raise
                    found.append(part.decode("ascii"))
        return "".join(found)
    except (HeaderParseError, ValueError, LookupError):
        return value


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=10).map("".join))
def test_words_are_decoded_as_by_python(value: str) -> None:
    assert parse_header(value) == as_python(value)


@pytest.mark.parametrize("value", ["=?\0?q?a?=", "=?punycode?q?a-?=", "=?unicode_escape?q?=5Cq?=", "=?rot13?q?nop?="])
def test_a_codec_that_is_no_charset_is_not_used(value: str) -> None:
    """Python decodes punycode in time with the square of the text, and warns of what it finds in its escapes."""
    assert parse_header(value) in ("a", "a-", "\\q", "nop")
