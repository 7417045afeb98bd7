import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.mail.domain import ascii_name


@pytest.mark.parametrize(
    ("name", "ascii_form"),
    [
        ("MiXed.Example.", "MiXed.Example."),
        ("MiXed.Bücher.example", "MiXed.xn--bcher-kva.example"),
        ("Bücher\u3002example", "xn--bcher-kva.example"),
        ("\udcff.example", None),
        ("ü" * 64 + ".example", None),
        ("ü." * 127, None),
        ("", ""),
    ],
)
def test_only_the_labels_that_need_it_are_converted(name: str, ascii_form: str | None) -> None:
    assert ascii_name(name) == ascii_form


@given(st.text(max_size=300))
@settings(deadline=None, max_examples=60)
def test_any_text_has_an_ascii_form_or_none(text: str) -> None:
    found = ascii_name(text)
    assert found is None or found.isascii()
