"""Text that others wrote is shown on one line, without what cannot be seen, and not for long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.mail.display import MAX_SHOWN, visible

ANY = st.text(st.characters(exclude_categories=[]), max_size=40)


def test_visible_text_is_cut() -> None:
    assert visible("x" * 20, 10) == "x" * 7 + "..."
    assert visible("x" * 10, 10) == "x" * 10
    assert visible("\n" * MAX_SHOWN + "x") == "?x"
    assert len(visible("ä" * MAX_SHOWN, smtputf8=True).encode()) <= MAX_SHOWN


@pytest.mark.parametrize(
    ("text", "smtputf8", "shown"),
    [
        ("a\r\nb\0", False, "a?b?"),
        ("ä\u202e", False, "?"),
        ("ä\u202e", True, "ä?"),
        ("a\u2028b\udcff\ufeff", True, "a?b?"),
    ],
)
def test_what_cannot_be_seen_becomes_a_question_mark(text: str, smtputf8: bool, shown: str) -> None:
    assert visible(text, smtputf8=smtputf8) == shown


@given(ANY, st.booleans(), st.integers(3, 20))
def test_any_text_is_one_line_within_the_limit(text: str, smtputf8: bool, limit: int) -> None:
    shown = visible(text, limit, smtputf8=smtputf8)

    assert len(shown.splitlines()) <= 1
    assert len(shown.encode()) <= limit
    assert smtputf8 or shown.isascii()
