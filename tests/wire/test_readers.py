"""Which reader of the protocol is used."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.wire.readers import compiled

ROOT = Path(__file__).parents[2]
WHICH = "from aiomilter.wire import readers, connection; print(readers.COMPILED, connection.read.__module__)"
# As where no compiler was: the module is not there.
ABSENT = "import sys; sys.modules['aiomilter.wire._reader'] = None; "


def said(code: str, pure: str | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "AIOMILTER_PURE"}
    if pure is not None:
        environment["AIOMILTER_PURE"] = pure
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment, check=True
    )
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("pure", [None, "", "0"])
def test_the_compiled_reader_is_used_where_it_is(pure: str | None) -> None:
    compiled()
    assert said(WHICH, pure) == "True aiomilter.wire._reader"


@pytest.mark.slow
def test_the_environment_switches_it_off() -> None:
    assert said(WHICH, "1") == "False aiomilter.wire.reader"


@pytest.mark.slow
def test_the_one_in_python_is_used_where_none_was_built() -> None:
    assert said(ABSENT + WHICH) == "False aiomilter.wire.reader"


@pytest.mark.slow
@pytest.mark.parametrize(("pure", "name"), [("0", "compiled reader"), ("1", "reader in Python")])
def test_the_version_says_which_one_it_is(pure: str, name: str) -> None:
    compiled()
    assert said("from aiomilter._cli import main; main(['--version'])", pure).endswith(f" ({name})")


def test_an_install_needs_no_compiler() -> None:
    """To setuptools the extension is optional: ``CC=/bin/false pip install .`` succeeds."""
    (extension,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    assert extension["optional"] is True
    assert [(ROOT / source).is_file() for source in extension["sources"]] == [True]
