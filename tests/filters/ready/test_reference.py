"""What ``aiomilter filters`` prints is whole, and true of each filter."""

import dataclasses
import re
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from aiomilter import filters
from aiomilter._cli import main
from aiomilter._cli.members import _READERS
from aiomilter.filters.ready import ReadyFilter
from aiomilter.filters.reference import documented, reference
from tests.filters.ready.gateway import read
from tests.test_layering import PACKAGE

CLASSES: list[type[ReadyFilter]] = [getattr(filters, cls) for cls in filters.NAMES.values()]
every = pytest.mark.parametrize("cls", CLASSES, ids=filters.NAMES)
OF_ALL = {*_READERS, "use", "settings", "enabled", "shadow", "share"}


@every
def test_each_setting_has_its_line(cls: type[ReadyFilter]) -> None:
    texts = documented(cls)
    names = [each.name for each in dataclasses.fields(cls) if each.init]
    assert [name for name in names if not any(fnmatchcase(name, each) for each in texts)] == []
    assert [each for each in texts if not any(fnmatchcase(name, each) for name in names)] == []
    assert OF_ALL.isdisjoint(names)


@every
def test_its_example_is_a_file(cls: type[ReadyFilter], tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(cls.example)
    names = [each["use"] for each in tomllib.loads(cls.example)["filter"]]
    found = read(tmp_path / "gateway.toml")
    assert found.where is not None
    assert names == [*found.where.filters[-1].ready.needs, cls.name]
    assert [each.ready.name for each in found.where.filters] == names


@every
def test_it_is_a_frozen_dataclass_with_keywords_only(cls: type[ReadyFilter]) -> None:
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(each.kw_only for each in dataclasses.fields(cls) if each.init)
    assert filters.NAMES[cls.name] == cls.__name__
    assert cls.__module__ == f"aiomilter.filters.{cls.name}"


@every
def test_its_reasons_are_words_and_those_that_it_gives(cls: type[ReadyFilter]) -> None:
    source = (PACKAGE / "filters" / f"{cls.name}.py").read_text("utf-8")
    assert all(re.fullmatch(r"[a-z][a-z_]*(_RESULT)?", reason) for reason in cls.reasons)
    used = set(re.findall(r'reason=f?"([a-z_]+)', source))
    assert {each for each in used if not any(reason.startswith(each) for reason in cls.reasons)} == set()


@every
def test_its_reference_is_printed(cls: type[ReadyFilter], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["filters", cls.name]) == 0
    shown = capsys.readouterr().out
    assert shown == reference(cls)
    assert max(map(len, shown.splitlines())) <= 128
    assert "``" not in shown


def test_all_are_listed_in_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["filters"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(filters.NAMES)
    assert all(len(line) <= 128 for line in lines)
    assert main(["filters", "autenticate"]) == 2
    assert "did you mean authenticate?" in capsys.readouterr().err
