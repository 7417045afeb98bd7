"""The rigs of two runs on one machine do not meet."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.rigs.mta import free_port
from tests.interop.rigs.once import alone


def test_a_port_is_given_once_although_nobody_listens_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    choices = iter([port, 29_999, port, 29_998, 29_997])
    monkeypatch.setattr(random, "randrange", lambda low, high: next(choices))

    assert free_port() != port


@pytest.mark.slow
def test_what_is_installed_once_is_not_installed_by_two_at_a_time(tmp_path: Path) -> None:
    look = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    command = [sys.executable, "-c", look, str(tmp_path / "cache" / "rig.lock")]

    with alone(tmp_path / "cache" / "rig"):
        meanwhile = subprocess.run(command, capture_output=True, text=True, check=False)
    afterwards = subprocess.run(command, capture_output=True, text=True, check=False)

    assert meanwhile.returncode == 1
    assert "BlockingIOError" in meanwhile.stderr
    assert afterwards.returncode == 0
