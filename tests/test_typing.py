"""What users write type-checks, and wrong use does not: ``tests/typing/``."""

import re
import runpy
from pathlib import Path

import pytest
from mypy import api

HERE = Path(__file__).parent / "typing"
WRONG = sorted((HERE / "wrong").glob("*.py"))
_MARK = re.compile(r"# E: (.+)$")
_FOUND = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+): error: .*\[(?P<code>[a-z-]+)\]$")


def marked(path: Path) -> dict[int, set[str]]:
    """The codes expected, by line."""
    lines = enumerate(path.read_text().splitlines(), 1)
    return {number: set(match[1].split()) for number, line in lines if (match := _MARK.search(line))}


def check(*paths: Path) -> str:
    root = Path(__file__).parent.parent
    out, err, _ = api.run(["--config-file", str(root / "pyproject.toml"), "--no-pretty", *map(str, paths)])
    assert not err, err
    return out


@pytest.mark.slow
def test_what_users_write_checks() -> None:
    assert check(HERE / "right.py").startswith("Success")


@pytest.mark.slow
def test_every_wrong_use_fails_where_it_is_written() -> None:
    """P-091, P-092, P-110: types refuse what the protocol does."""
    found: dict[str, dict[int, set[str]]] = {path.name: {} for path in WRONG}
    for line in check(*WRONG).splitlines():
        if match := _FOUND.match(line):
            found[Path(match["file"]).name].setdefault(int(match["line"]), set()).add(match["code"])
    assert len(WRONG) > 3
    for path in WRONG:
        assert found[path.name] == marked(path), path.name


def test_what_users_write_can_be_imported() -> None:
    names = runpy.run_path(str(HERE / "right.py"))
    assert "milter" in names
