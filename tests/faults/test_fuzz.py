"""Octets chosen by what they reach break no promise: kept ones on every Python, new ones where Atheris is."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from tests.faults.fuzz import targets
from tests.faults.fuzz.corpus import read
from tests.faults.fuzz.targets import TARGETS
from tests.faults.report import Report
from tests.programs import need

ROOT: Final = Path(__file__).parents[2]
SHORT: Final = {
    "framing": 3000,
    "packets": 30_000,
    "replies": 6000,
    "sessions": 200,
    "edits": 2000,
    "dmarc": 6000,
    "signatures": 3000,
    "chains": 2000,
    "senders": 10_000,
}
"""Inputs for each target in an ordinary run, some seconds each; the same every time, so that no load decides what is found."""
LONG: Final = 600 // len(TARGETS)
ONE_PYTHON: Final = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="one Python is enough, and Atheris is installed on 3.11"
)


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    yield
    targets.close()


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_what_was_found_before_breaks_no_promise(target: str) -> None:
    """Each kept input reached something new, or broke a promise once."""
    inputs = read(target)
    for octets in inputs:
        TARGETS[target](octets)

    assert inputs


@pytest.fixture(scope="module")
def fuzzed() -> subprocess.CompletedProcess[str]:
    """What was said of all targets: one process, since most of its time goes into preparing the code that is fuzzed."""
    return _fuzzed(*(f"{target}={inputs}" for target, inputs in SHORT.items()))


def _fuzzed(*arguments: str) -> subprocess.CompletedProcess[str]:
    need(None if find_spec("atheris") else "Atheris is not installed (pip install atheris)")
    command = (sys.executable, "-m", "tests.faults.fuzz", *arguments)
    return subprocess.run(command, cwd=ROOT, stdout=-1, stderr=-2, text=True, errors="replace", check=False)


def check(target: str, done: subprocess.CompletedProcess[str], report: Report) -> None:
    """See that inputs were tried, and that none broke a promise."""
    report.lines.extend(line for line in done.stdout.splitlines() if line.startswith(f"fuzz {target}:"))

    assert done.returncode == 0, done.stdout
    assert f"fuzz {target}: " in done.stdout
    assert f"fuzz {target}: 0 inputs" not in done.stdout


@pytest.mark.slow
@ONE_PYTHON
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_found_breaks_no_promise(target: str, fuzzed: subprocess.CompletedProcess[str], report: Report) -> None:
    """Inputs that reach new code are tried; one that breaks a promise is printed, for the corpus."""
    check(target, fuzzed, report)


@pytest.mark.long
@ONE_PYTHON
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_found_in_a_minute_breaks_no_promise(target: str, report: Report) -> None:
    check(target, _fuzzed(target, "--seconds", str(LONG)), report)
