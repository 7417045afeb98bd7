"""The first mailbox of a header, as Python's own module finds it."""

import email.utils
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.compat.modules.mailboxes import first_mailbox

PIECES = [
    "<", ">", "<>", '"', "\\", "(", ")", "@", ",", ":", ";", ".", "[", "]", "a@b", "<a@b>", "a", "X Y", "a:", '"X" ', "\r\n ",
    "\r", "\n", "@a:", "@a,", " ", "\t", "(c)", "a:;", "a:b@c;", "\\(", "\\)",
]  # fmt: skip
LENIENT: dict[str, Any] = {"strict": False} if getattr(email.utils, "supports_strict_parsing", False) else {}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_the_first_mailbox_is_found_as_by_python(value: str) -> None:
    assert first_mailbox(value) == email.utils.parseaddr(value, **LENIENT)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("(" * 5000 + "c" + ")" * 5000 + " X <a@b>", ("X (c)", "a@b")),
        ("a:" * 5000 + "X <a@b>", ("X", "a@b")),
        ("a:" * 5000, ("", "")),
        ("(" * 5000, ("", "")),
        ("a:" + ";" * 5000 + "b@c", ("", "")),
    ],
)
def test_nesting_is_no_recursion(value: str, expected: tuple[str, str]) -> None:
    assert first_mailbox(value) == expected
