"""The source distribution and the wheel made from it hold what they promise, and run."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

import pytest

from tests.shipped import FOLDER

ROOT: Final = FOLDER.parent.parent
PYTHON: Final = (sys.executable, "-P")
SHARED: Final = (
    "man/man1/aiomilter-run.1",
    "bash-completion/completions/aiomilter",
    "zsh/site-functions/_aiomilter",
    "fish/vendor_completions.d/aiomilter.fish",
)


def run(folder: Path, *command: str | Path, **environment: Path) -> str:
    """Run a command that has to succeed, and return what it has printed."""
    variables = os.environ | {name: str(value) for name, value in environment.items()}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_what_is_built_from_a_checkout_can_be_installed_and_runs(tmp_path: Path) -> None:
    """What is committed is built, in a clone: a build writes into its folder."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    clone, built, installed = tmp_path / "clone", tmp_path / "built", tmp_path / "installed"
    run(tmp_path, "git", "clone", "-q", ROOT, clone)
    run(tmp_path, *PYTHON, "-m", "build", "-q", "--no-isolation", "--outdir", built, clone)
    (source,), (wheel,) = built.glob("*.tar.gz"), built.glob("*.whl")

    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.rst", "LICENSE", "pyproject.toml", "tests/__main__.py", "examples/tag_external.py"} <= names
    assert {"aiomilter/wire/_reader.pyx", "aiomilter/help/man/aiomilter-run.1"} <= names
    assert [name for name in names if name.startswith((".ci", "tests/conformance/dkim/mail-dkim"))] == []
    assert [name for name in names if name.endswith((".so", ".pyc")) or name == "aiomilter/wire/_reader.c"] == []

    with zipfile.ZipFile(wheel) as files:
        held = set(files.namelist())
        files.extractall(installed)  # what an installer does, but for the data below
    assert {"aiomilter/py.typed", "aiomilter/help/postfix.rst"} <= held
    assert [name for name in held if name.startswith(("tests/", "examples/", "benchmarks/"))] == []

    (shared,) = installed.glob("*.data/data/share")
    for place in SHARED:
        assert (shared / place).is_file(), place
    where = (*PYTHON, "-c", "import aiomilter; print(aiomilter.__file__)")
    assert str(installed) in run(tmp_path, *where, PYTHONPATH=installed)
    check = (*PYTHON, "-m", "aiomilter", "check", clone / "examples/tag_external.py", "--expect", "accept")
    assert "[EXTERNAL]" in run(tmp_path, *check, PYTHONPATH=installed)
