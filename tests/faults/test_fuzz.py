"""Octets chosen by what they reach break no promise: kept ones on every Python, new ones where Atheris is."""

import asyncio
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


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="one Python is enough, and Atheris is installed on 3.11")
@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.long)])
@pytest.mark.parametrize("target", TARGETS)
async def test_what_is_found_breaks_no_promise(target: str, long: bool, report: Report) -> None:
    """Inputs that reach new code are tried; one that breaks a promise is printed, for the corpus."""
    need(None if find_spec("atheris") else "Atheris is not installed (pip install atheris)")
    bound = ("--seconds", str(LONG)) if long else ("--inputs", str(SHORT[target]))
    command = (sys.executable, "-m", "tests.faults.fuzz", target, *bound)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=-1, stderr=-2)
    said = (await process.communicate())[0].decode(errors="replace")
    report.lines.extend(line for line in said.splitlines() if line.startswith("fuzz "))

    assert process.returncode == 0, said
    assert " 0 inputs" not in said
