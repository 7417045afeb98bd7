"""Charsets by the names that mail has for them, of which Python keeps none."""

import codecs
import encodings

import pytest

from aiomilter.compat.modules.parameters import collapsed
from aiomilter.compat.modules.words import parse_header
from aiomilter.mail.charsets import codec_of


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("utf-8", "utf_8"),
        ("UTF 8", "utf_8"),
        ("ISO-8859-1", "latin_1"),
        ("windows-1252", "cp1252"),
        ("ks_c_5601-1987", "euc_kr"),
        ("koi8-u", "koi8_u"),
        ("", None),
        ("x", None),
        ("rot13", None),
        ("base64", None),
        ("punycode", None),
        ("utf-8" + "-" * 60, None),
        ("\xe4", None),
        ("\udcff", None),
        ("..", None),
    ],
)
def test_a_charset_has_one_codec_in_any_spelling(name: str, codec: str | None) -> None:
    assert codec_of(name) == codec
    if codec is not None:
        assert codecs.lookup(codec).name == codecs.lookup(name).name


def test_names_that_strangers_make_up_are_not_kept() -> None:
    kept = len(encodings._cache)
    for number in range(100):
        for name in (f"x-{number}", "utf-" + "-" * (number % 50) + "8"):
            parse_header(f"=?{name}?q?a?=")
            collapsed((name, "", '"a"'))
    assert len(encodings._cache) <= kept + 1
