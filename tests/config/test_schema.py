"""The JSON Schema takes what the reader takes: every key, with all values of its kind."""

import json
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from aiomilter._cli import main
from aiomilter._cli.configured import KEYS
from aiomilter._config.schema import schema
from aiomilter._config.table import Key
from aiomilter.filters import NAMES
from tests.config.values import of

jsonschema: Any = import_module("jsonschema")  # it has no types
VALIDATOR = jsonschema.Draft202012Validator(schema(KEYS, NAMES))
EACH_KEY = pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)


def text(key: Key, value: str) -> str:
    return f"{'.'.join(key.path)} = {value}"


def takes(toml: str) -> bool:
    return bool(VALIDATOR.is_valid(tomllib.loads(toml)))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema(KEYS, NAMES))


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema(KEYS, NAMES)


@EACH_KEY
def test_a_good_value_is_taken(key: Key) -> None:
    for value in of(key).good:
        assert takes(text(key, value)), value


@EACH_KEY
def test_what_the_reader_refuses_is_refused_as_far_as_a_pattern_can_tell(key: Key) -> None:
    kind = of(key)
    for value in kind.wrong:
        assert not takes(text(key, value)), value
    for value in () if kind.of_machine else kind.out:
        if (key.row.option.zero and value.strip('"') == "0") or value in (
            "nan",
            "inf",
            '"9999999999 GiB"',
            '"99999999999 d"',
        ):
            continue
        if key.row.option.kind.name in ("DURATIONS",) and value in ("{ mail = 0 }",):
            assert not takes(text(key, value)), value
            continue
        assert not takes(text(key, value)) or value in ('"0"', '"999"', '"1777"'), value


@EACH_KEY
def test_a_misspelt_key_is_refused(key: Key) -> None:
    assert not takes(f"{'.'.join(key.path)}x = {next(iter(of(key).good))}")


@EACH_KEY
def test_each_key_is_described(key: Key) -> None:
    place: Any = schema(KEYS, NAMES)
    for name in key.path:
        place = place["properties"][name]
    assert place["description"].endswith(".")


@pytest.mark.parametrize(
    ("toml", "good"),
    [
        ('filter = "x.py"', True),
        ("filter = ''", False),
        ("filter = 5", False),
        ("filter = []", False),
        ('[[filter]]\nuse = "x.py"\n[filter.settings]\na = 1', True),
        ("[[filter]]\na = 1", False),
        ('[[filter]]\nuse = "x"\nwhen = ["tls"]\non_error = "continue"\ntimeout = "5 s"\nenabled = false', True),
        ('[[filter]]\nuse = "x"\nwhn = "tls"', False),
        ('[[filter]]\nuse = "x"\nshadow = true\nshare = 0.5', True),
        ('[[filter]]\nuse = "x"\nshadow = true\nshare = { part = 1, by = "client", key = { file = "k" } }', True),
        ('[[filter]]\nuse = "x"\nshadow = "yes"', False),
        ('[[filter]]\nuse = "x"\nshadow = true\nshare = 2', False),
        ('[[filter]]\nuse = "x"\nshadow = true\nshare = { by = "client" }', False),
        ('[[filter]]\nuse = "x"\ntimeout = 0', False),
        ("[settings]\na = 1", True),
        ("settings = 1", False),
        ("[nothing]", False),
    ],
)
def test_the_filter_is_described_too(toml: str, good: bool) -> None:
    assert takes(toml) is good


def test_the_example_is_valid() -> None:
    example = Path(__file__).parents[2] / "examples" / "configuration" / "aiomilter.toml"
    assert VALIDATOR.is_valid(tomllib.loads(example.read_text()))


@pytest.mark.parametrize(
    ("toml", "is_taken"),
    [
        ('[[filter]]\nuse = "rates"\nuser = "1/h"', True),
        ('[[filter]]\nuse = "rates"\nuser = "1/h"\nwhen = "tls"', True),
        ('[[filter]]\nuse = "tag.py"\nuser = "1/h"', False),
        ('[[filter]]\nuse = "rates"\nuser = "1/h"\nwhen = 5', False),
        ('[state]\npassword = { file = "x" }\nkey = ["a", { env = "B" }]', True),
        ("[state]\npassword = 5", False),
        ('listen = { mx = "inet:1@h" }', True),
        ("listen = { mx = 5 }", False),
    ],
)
def test_a_ready_filter_has_its_settings_in_its_table(toml: str, is_taken: bool) -> None:
    assert takes(toml) == is_taken
