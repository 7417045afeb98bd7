import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.auth.dkim._tags import base64_octets, quoted_printable, quoted_printable_text, tag_list, words

LISTS = [
    ("a=1", {"a": "1"}),
    ("a=1;", {"a": "1"}),
    ("a=1; b=2 ; ", {"a": "1", "b": "2"}),
    (" a \r\n\t= 1 2\r\n 3 ;\r\n b=", {"a": "1 2\r\n 3", "b": ""}),
    ("a=b=c==", {"a": "b=c=="}),
    ("A=1; a=2", {"A": "1", "a": "2"}),
    ("a_1=x", {"a_1": "x"}),
    ("a=\u00e4\udcff", {"a": "\u00e4\udcff"}),
    # None: no tag list.
    ("", None),
    (";", None),
    ("a", None),
    ("a=1;;b=2", None),
    (";a=1", None),
    ("a=1;;", None),
    ("a=1; a=2", None),
    ("1a=1", None),
    ("_a=1", None),
    ("a b=1", None),
    ("=1", None),
    ("a-b=1", None),
    ("\u00e4=1", None),
    ("a=\0", None),
    ("a=\x7f", None),
    ("a=1\x0b", None),
]


@pytest.mark.parametrize(("text", "tags"), LISTS)
def test_tag_lists(text: str, tags: dict[str, str] | None) -> None:
    """D-010."""
    assert tag_list(text) == tags


def test_words_stand_between_colons() -> None:
    """D-011, D-033."""
    assert words("a : b:\r\n\tc::") == ["a", "b", "c"]
    assert words("") == []


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        ("YQ==", b"a"),
        (" Y\r\n Q\t= = ", b"a"),
        ("", b""),
        ("YQ", None),
        ("YQ==YQ==", None),
        ("Y!==", None),
        ("\u00e4", None),
    ],
)
def test_base64_may_be_folded_and_is_otherwise_strict(value: str, octets: bytes | None) -> None:
    """D-011."""
    assert base64_octets(value) == octets


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("alice", "alice"),
        ("a=20b=3Bc", "a b;c"),
        ("a =3b\r\n b", "a;b"),
        ("=C3=A4\u00e4", "\u00e4\u00e4"),
        ("=ff=", "\udcff="),
        ("=zz=4", "=zz=4"),
    ],
)
def test_quoted_printable_is_decoded(value: str, text: str) -> None:
    """D-015."""
    assert quoted_printable_text(value) == text


@given(st.text("aZ09=;| \r\n\t\0\x7f\u00e4\u20ac\U0001f600"))
def test_quoted_printable_holds_any_text(text: str) -> None:
    written = quoted_printable(text)
    assert written.isascii()
    assert not set(written) & set(" \t\r\n;|\0")
    assert quoted_printable_text(written) == text


@given(st.text("ab=; \r\n:\t1\0\u00e4"))
def test_any_text_is_a_tag_list_or_is_not(text: str) -> None:
    tags = tag_list(text)
    assert tags is None or all(name and name[0] in "ab" for name in tags)
