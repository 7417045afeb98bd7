"""Messages by the thousand, each fifth with a fault: at the end nothing more is there than after the first thousand."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.faults.report import Report
from tests.faults.soak import FAULTS, WARM, Soaked

_ROOT: Final = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("messages", [5_000, pytest.param(200_000, marks=pytest.mark.long)])
async def test_nothing_stays_of_any_number_of_messages(messages: int, report: Report) -> None:
    """P-136: tasks, descriptors and threads as after the first thousand; objects and memory but for what a heap takes."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "tests.faults.soak", str(messages)),
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert (process.returncode, err.decode()) == (0, "")
    soaked = Soaked.from_json(out.decode())
    first, last = soaked.first, soaked.last
    faults = sum(soaked.sent.get(fault, 0) for fault in FAULTS)
    report.lines.append(
        f"soak: {messages} messages, {faults} with a fault: {last.tasks - first.tasks:+} tasks,"
        f" {last.descriptors - first.descriptors:+} descriptors, {last.threads - first.threads:+} threads,"
        f" {last.objects - first.objects:+} objects, {last.size - first.size:+} KiB since the first {WARM}"
    )

    assert all(soaked.sent.get(fault) for fault in FAULTS)
    assert (last.tasks, last.descriptors, last.threads) == (first.tasks, first.descriptors, first.threads)
    assert last.objects - first.objects < 500
    assert last.size - first.size < 4096
    assert soaked.endings["begun"] == soaked.endings["ended"] > messages * 0.9
    assert soaked.heard.get("bug", 0) == 0
    assert soaked.heard["failed"] > 0
