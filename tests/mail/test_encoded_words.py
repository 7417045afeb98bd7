import random
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.mail.charsets import _codecs
from aiomilter.mail.encoded_words import header_text

# The first rows are the table of RFC 2047 section 8.
TEXTS = [
    ("(=?ISO-8859-1?Q?a?=)", "(a)"),
    ("(=?ISO-8859-1?Q?a?= b)", "(a b)"),
    ("(=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=)", "(ab)"),
    ("(=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=)", "(ab)"),
    ("(=?ISO-8859-1?Q?a?=\n    =?ISO-8859-1?Q?b?=)", "(ab)"),
    ("(=?ISO-8859-1?Q?a_b?=)", "(a b)"),
    ("(=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=)", "(a b)"),
    # Nothing to decode.
    ("", ""),
    ("plain text", "plain text"),
    ("caf\u00e9", "caf\u00e9"),
    ("a =? b ?= c", "a =? b ?= c"),
    # Folds.
    ("one\n two\n\tthree", "one two\tthree"),
    ("one\r\n two", "one two"),
    ("one\ntwo\rthree\0", "one two three "),
    # Both encodings, in any letter case, of any length.
    ("=?utf-8?q?caf=C3=A9?=", "caf\u00e9"),
    ("=?UTF-8?B?Y2Fmw6k=?=", "caf\u00e9"),
    ("=?utf-8?b?" + b64encode("\u00e9".encode() * 500).decode() + "?=", "\u00e9" * 500),
    ("=?iso-8859-1?Q?hello w=F6rld?=", "hello w\u00f6rld"),
    ("=?utf-8*de?Q?=C3=BC?=", "\u00fc"),
    ("=?utf-8?q?what??=", "what?"),
    ("=?utf-8?q??=", ""),
    ("x=?utf-8?q?y?=z", "xyz"),
    ("=?utf-8?q?\u00fc_=C3=BC?=", "\u00fc \u00fc"),
    ("=?utf-8?b?Y2Fmw6k?=", "caf\u00e9"),
    # One character in two words.
    ("=?utf-8?q?=C3?= =?UTF-8?b?qQ==?=", "\u00e9"),
    ("=?utf-8?q?=C3?= and =?UTF-8?b?qQ==?=", "\ufffd and \ufffd"),
    ("=?utf-8?q?a?= =?none?q?b?= =?utf-8?q?c?=", "a =?none?q?b?= c"),
    # What cannot be read stays.
    ("=?none?q?a?= b", "=?none?q?a?= b"),
    ("=?idna?q?xn--a?=", "=?idna?q?xn--a?="),
    ("=?punycode?q?a?=", "=?punycode?q?a?="),
    ("=?utf-8?b?Y?=", "=?utf-8?b?Y?="),
    ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
    ("=?utf-8?q?a", "=?utf-8?q?a"),
    ("=??q?a?=", "=??q?a?="),
    # Surrogates, in the text, in a word, out of a word, and such as stand for no octet.
    ("raw \udcfc latin", "raw \ufffd latin"),
    ("=?utf-8?q?\udcc3\udcbc?=", "\u00fc"),
    ("=?utf-8?q?a?= \udcff", "a \ufffd"),
    ("=?utf-8?q?\ud800?=", "\ufffd"),
    ("\ud800", "\ufffd"),
    ("=?utf-7?q?+2AA-?=", "\ufffd"),
    # A word may not bring a line end.
    ("=?utf-8?q?a=0D=0Ab=00?=", "a  b "),
]


@pytest.mark.parametrize(("value", "text"), TEXTS)
def test_a_value_has_one_text(value: str, text: str) -> None:
    assert header_text(value) == text


@pytest.mark.parametrize("codec", sorted(set(_codecs().values())))
def test_no_charset_fails_on_any_octets(codec: str) -> None:
    octets = random.Random(codec).randbytes(3000) + bytes(range(256))
    text = header_text(f"=?{codec}?b?{b64encode(octets).decode()}?= x")
    assert text.endswith("x")
    text.encode()


ATOMS = (
    "=?",
    "?=",
    "?",
    "=?utf-8?q?",
    "=?utf-16?b?",
    "=?utf-7?q?+2AA-?=",
    "=41",
    "=",
    "YQ==",
    "\n ",
    "\r",
    "\0",
    "\udcff",
    "*",
)


@given(st.text() | st.lists(st.sampled_from(ATOMS)).map("".join))
def test_any_value_has_a_text_of_one_line_that_can_be_encoded(value: str) -> None:
    text = header_text(value)
    text.encode()
    assert not set(text) & set("\r\n\0")
