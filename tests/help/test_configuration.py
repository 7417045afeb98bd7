"""What the page on configuration shows is in order, and goes as it says."""

import re
from pathlib import Path

import pytest

from aiomilter._cli import main
from aiomilter._cli.configured import KEYS
from aiomilter._config.reading import FILTER
from tests.help.pages import PAGES, literal, python

TOML = [block.text for block in literal("configuration") if block.language == "toml"]


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with what the page has one save."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    monkeypatch.setenv("REDIS_PASSWORD", "pa55")
    (filter_,) = python("configuration")
    (tmp_path / "tag.py").write_text(filter_.text)
    (tmp_path / "gateway.toml").write_text(TOML[0])
    (tmp_path / "redis.password").write_text("pa55\n")
    return tmp_path


def test_the_file_is_in_order(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check", "gateway.toml"]) == 0
    assert capsys.readouterr() == ("gateway.toml: in order\n", "")


def test_a_secret_is_where_the_page_says(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (saved / "redis.password").chmod(0o600)
    (saved / "gateway.toml").write_text(TOML[0].partition("[settings]")[0] + TOML[2])
    assert main(["config", "check", "gateway.toml"]) == 0
    assert capsys.readouterr() == ("gateway.toml: in order\n", "")


def test_several_filters_are_in_order(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (several,) = [text for text in TOML if "[[filter]]" in text]
    (saved / "gateway.toml").write_text(several)
    assert main(["config", "check", "gateway.toml"]) == 0
    assert capsys.readouterr() == ("gateway.toml: in order\n", "")


def test_mistakes_read_as_shown(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = TOML[0].replace("max_connections", "max_conections").replace("512 MiB", "512 M")
    (saved / "gateway.toml").write_text(wrong)
    assert main(["config", "check", "gateway.toml"]) == 2
    (shown,) = [block.text for block in literal("configuration") if "max_conections" in block.text]
    assert capsys.readouterr().err == shown


def test_the_table_names_every_table_and_the_keys_that_have_no_rule() -> None:
    rows = re.findall(r"(?m)^(none|``\[\w+\]``).*?  +(.*)$", PAGES["configuration"].read_text("utf-8"))
    named = {table.strip("`[]"): set(re.findall(r"``(\w+)``", text)) for table, text in rows}
    keys: dict[str, set[str]] = {}
    for key in KEYS:
        keys.setdefault(key.path[0] if len(key.path) > 1 else "none", set()).add(key.path[-1])
    assert named.keys() == keys.keys()
    for table in keys.keys() - {"limits", "deadlines"}:
        own = {name for name in keys[table] if not name.endswith(("_local", "_authenticated"))}
        assert named[table] - {FILTER} == own, table
    assert all(name.startswith("max_") for name in keys["limits"])
    assert all(name.endswith(("_timeout", "_timeouts", "_interval")) for name in keys["deadlines"])
