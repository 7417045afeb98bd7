"""A postmaster with a socket that Postfix does not see runs the doctor, does what it prints, and mail flows."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.doctor.mends import do, printed_steps
from tests.doctor.rig import Chrooted
from tests.interop.scene import Scene
from tests.patience import PATIENCE
from tests.programs import running

pytestmark = [pytest.mark.interop, pytest.mark.slow]

FILTER: Final = """\
from aiomilter import EndOfMessageContext, Milter

class Stamp(Milter):
    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Seen", "yes")
"""
WAYS: Final = {
    # How the filter is served at first, and what the doctor is told of it.
    "config": (
        ["run", "--config", "gateway.toml"],
        ["--config", "gateway.toml"],
    ),
    "flags": (
        ["run", "stamp.py", "--listen", "unix:{socket}", "--socket-mode=666"],
        [],
    ),
}
TOML: Final = """\
filter = "stamp.py"
listen = [
    "unix:{socket}",
]

[socket]
mode = "0666"
"""


class Served:
    """The filter's process, of which there is one at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, command: str) -> None:
        """Serve by a command, as systemd would on a restart."""
        self.stop()
        words = shlex.split(command)
        assert words[0] == "aiomilter"
        with (self.directory / "filter.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=self.directory,
                env={**os.environ, "PWD": str(self.directory)},
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while b"listening" not in (said := (self.directory / "filter.log").read_bytes()):
            assert self._process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.01)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)
            self._process = None


@pytest.fixture(scope="module")
def rig() -> Iterator[Chrooted]:
    class Asking(Chrooted):
        def __init__(self) -> None:
            super().__init__()
            (self.directory / "run").mkdir()
            self.settings = (
                f"smtpd_milters = unix:{self.directory}/run/gateway.sock\nnon_smtpd_milters = $smtpd_milters\n"
            )

    yield from running(Asking)


@pytest.fixture
def served(tmp_path: Path, rig: Chrooted) -> Iterator[Served]:
    filter_ = Served(tmp_path)
    (tmp_path / "stamp.py").write_text(FILTER)
    (tmp_path / "gateway.toml").write_text(TOML.format(socket=rig.directory / "run" / "gateway.sock"))
    before = {name: (rig.etc / name).read_bytes() for name in ("main.cf", "master.cf")}
    yield filter_
    filter_.stop()
    for name, octets in before.items():
        (rig.etc / name).write_bytes(octets)
        os.utime(rig.etc / name, (time.time() - 10,) * 2)


def doctor(directory: Path, rig: Chrooted, *arguments: str) -> tuple[int, str]:
    """Run the doctor as a postmaster does, and return its exit code and what it prints."""
    command = [sys.executable, "-m", "aiomilter", "doctor", "--main-cf", str(rig.etc), *arguments]
    done = subprocess.run(
        command, cwd=directory, env={**os.environ, "PWD": str(directory)}, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


async def sent(rig: Chrooted) -> list[bytes]:
    """Send a message, and return what is delivered of it."""
    scene = Scene(rig, "mx")
    async with scene.connect() as client:
        await client.send(recipients=["bob@example.test"])
    return [delivery.content for delivery in await scene.deliveries()]


@pytest.mark.parametrize("way", WAYS)
async def test_mail_flows_once_what_is_printed_is_done(way: str, rig: Chrooted, served: Served, tmp_path: Path) -> None:
    serve, told = WAYS[way]
    socket = rig.directory / "run" / "gateway.sock"
    served(shlex.join(["aiomilter", *(word.format(socket=socket) for word in serve)]))
    assert await sent(rig) == []

    status, report = doctor(tmp_path, rig, *told)
    assert status == 1
    assert report.count("error: socket-outside-chroot: ") == 1
    assert f"and there is no such socket; it is at {socket}" in report
    assert list(printed_steps(report)) != []

    do(report, served)

    status, report = doctor(tmp_path, rig, *told)
    assert (status, "no findings" in report) == (0, True), report
    [message] = await sent(rig)
    assert b"X-Seen: yes\r\n" in message
