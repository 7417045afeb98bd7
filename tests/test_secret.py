"""A secret is not shown, whatever is done to it."""

import pickle
from copy import copy
from dataclasses import dataclass
from typing import Any

import pytest

from aiomilter.secret import Secret


@dataclass
class Settings:
    password: Secret


def test_no_text_shows_a_secret() -> None:
    secret = Secret("pa55")
    for text in (
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>20}",
        " ".join(map(repr, [secret])),
        repr(Settings(secret)),
    ):
        assert "pa55" not in text
        assert "***" in text
    assert secret.value == "pa55"


def test_secrets_compare_by_their_texts() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("ä\udcff") == Secret("ä\udcff")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1
    assert Secret("a")
    assert not Secret("")


def test_a_secret_is_neither_changed_nor_copied_out() -> None:
    secret: Any = Secret("a")
    with pytest.raises(AttributeError):
        secret.value = "b"
    with pytest.raises(AttributeError):
        secret.other = "b"
    for leave in (pickle.dumps, copy):
        with pytest.raises(TypeError, match=r"^a Secret cannot be pickled"):
            leave(secret)


def test_a_secret_is_a_text() -> None:
    wrong: Any = b"a"
    with pytest.raises(TypeError, match=r"^Secret: expected str, found bytes$"):
        Secret(wrong)
