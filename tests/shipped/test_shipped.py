"""What is made from the code and shipped with it is that of this code, and works."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.programs import needed
from tests.shipped import FOLDER, made

MADE = made()


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.name)
def test_each_file_is_that_of_this_code(path: Path) -> None:
    assert path.read_text() == MADE[path], "run 'python -m tests.shipped'"


def test_no_other_file_is_shipped_beside_them() -> None:
    there = {path for name in ("man", "completion") for path in (FOLDER / name).iterdir()}
    assert there == set(MADE)


@pytest.mark.interop
def test_mandoc_finds_nothing_to_say_on_the_manual_pages() -> None:
    pages = sorted(map(str, (FOLDER / "man").iterdir()))
    done = subprocess.run([needed("mandoc", "mandoc"), "-T", "lint", *pages], capture_output=True, text=True)
    # Other pages are not installed where the lint runs.
    said = [line for line in done.stdout.splitlines() if "referenced manual not found" not in line]
    assert said == []


def completed(*words: str) -> list[str]:
    """Return what bash offers in place of the last word."""
    script = """
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
        _aiomilter
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    command = ["bash", "-c", script, "bash", str(FOLDER / "completion" / "aiomilter"), *words]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"]}, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["ch"], ["check"]),
        (["config", "sch"], ["schema"]),
        (["help", ""], []),
        (["run", "--max-connections-"], ["--max-connections-per-peer"]),
        (["run", "--workers", "2", "--on-error-l"], ["--on-error-local"]),
        (["check", "filter.py", "--mta", "p"], ["postfix"]),
        # Files, which bash completes where nothing is offered.
        (["run", "--config", "gate"], []),
        (["run", "gate"], []),
    ],
)
def test_bash_completes_commands_options_and_their_values(words: list[str], offered: list[str]) -> None:
    assert completed("aiomilter", *words) == offered
