"""Parameters of Content-Type, as Python's own module reads them, and those that it does not."""

from email.message import Message

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.compat.modules.parameters import collapsed, parse_parameters, split_parameters

PIECES = [
    ";", "; ", '"', "\\", '\\"', "=", "name", "Name=", "filename=", "x/y", "utf-8''", "'", "%41", "<", ">", " ", "\n ", "a.exe",
    "name*=", "name*0*=", "name*1=",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_parameters_are_read_as_by_python(value: str) -> None:
    message = Message()
    message["Content-Type"] = value
    try:
        expected = message._get_params_preserve(None, "content-type")  # type: ignore[attr-defined]
    except TypeError:
        return
    assert parse_parameters(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a/b;c=d;E = f ;;", ["a/b", "c=d", "e=f", "", ""]),
        ('a/b;c="d;e";f', ["a/b", 'c="d;e"', "f"]),
        ('a/b;c="d\\";e";f', ["a/b", 'c="d\\";e"', "f"]),
        ('a/b;c="d;e', ["a/b", 'c="d;e']),
        ("", [""]),
    ],
)
def test_a_semicolon_separates_where_it_is_not_quoted(value: str, expected: list[str]) -> None:
    assert split_parameters(value) == expected


def test_parts_without_an_order_are_each_for_themselves() -> None:
    """A whole and a numbered one of a name, and a number that is none: Python raises TypeError and ValueError."""
    found = parse_parameters("a/b; name*=c; name*1=d")
    assert [value if isinstance(value, str) else value[2] for name, value in found if name == "name"] == ['"c"', '"d"']
    long = f"name*{'1' * 5000}"
    assert (long, '"c"') in parse_parameters(f"a/b; {long}=c; name*0=d")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "plain"),
        (("utf-8", "en", '"\xc3\xa4"'), "\xe4"),
        ((None, None, '"a"'), "a"),
        (("x-none", "", '"a"'), "a"),
        (("utf-8\0", "", '"a"'), '"a"'),
        (("punycode", "", '"a-"'), "a-"),
    ],
)
def test_values_are_text_whatever_their_charset(value: str | tuple[str | None, str | None, str], expected: str) -> None:
    assert collapsed(value).strip('"') == expected.strip('"')
