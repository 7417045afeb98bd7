"""What users write type-checks, and wrong use does not: ``tests/typing/``."""

import json
import os
import re
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from mypy import api

from tests.programs import need

ROOT = Path(__file__).parent.parent
HERE = Path(__file__).parent / "typing"
only_311 = pytest.mark.skipif(sys.version_info >= (3, 12), reason="one Python is enough")
WRONG = sorted((HERE / "wrong").glob("*.py"))
_MARK = re.compile(r"# E: (.+)$")
_FOUND = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+): error: .*\[(?P<code>[a-z-]+)\]$")


def marked(path: Path) -> dict[int, set[str]]:
    """The codes expected, by line."""
    lines = enumerate(path.read_text().splitlines(), 1)
    return {number: set(match[1].split()) for number, line in lines if (match := _MARK.search(line))}


def check(*paths: Path) -> str:
    out, err, _ = api.run(["--config-file", str(ROOT / "pyproject.toml"), "--no-pretty", *map(str, paths)])
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


def pyright(*arguments: str) -> Any:
    """Return what pyright finds, in its own form."""
    need(None if find_spec("pyright") else "pyright is not installed (pip install 'aiomilter[types]')")
    command = [sys.executable, "-m", "pyright", "--outputjson", *arguments]
    # It looks for the interpreter that has the package on the path.
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.interop
@only_311
def test_pyright_knows_the_type_of_each_public_name() -> None:
    found = pyright("--verifytypes", "aiomilter", "--ignoreexternal")["typeCompleteness"]
    unclear = [symbol["name"] for symbol in found["symbols"] if symbol["isExported"] and not symbol["isTypeKnown"]]
    assert (unclear, found["completenessScore"]) == ([], 1)


@pytest.fixture(scope="module")
def found_by_pyright() -> Any:
    """What it finds in all that users write: one run, since most of its time goes into what they import."""
    return pyright("examples", *map(str, (HERE / "right.py", *WRONG)))


@pytest.mark.slow
@pytest.mark.interop
@only_311
def test_pyright_finds_nothing_in_what_users_write(found_by_pyright: Any) -> None:
    assert [each for each in found_by_pyright["generalDiagnostics"] if Path(each["file"]) not in WRONG] == []
    assert found_by_pyright["summary"]["filesAnalyzed"] >= 10 + len(WRONG)


@pytest.mark.slow
@pytest.mark.interop
@only_311
def test_pyright_finds_every_wrong_use_where_it_is_written(found_by_pyright: Any) -> None:
    found: dict[str, set[int]] = {path.name: set() for path in WRONG}
    for each in found_by_pyright["generalDiagnostics"]:
        found.get(Path(each["file"]).name, set()).add(each["range"]["start"]["line"] + 1)
    for path in WRONG:
        assert found[path.name] == set(marked(path)), path.name


def test_what_users_write_can_be_imported() -> None:
    names = runpy.run_path(str(HERE / "right.py"))
    assert "milter" in names
