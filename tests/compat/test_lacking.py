"""No thread or no descriptor for a connection: the postmaster hears of it, whatever the program has done about logging."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from aiomilter import ACCEPT, RemoteProtocolError
from aiomilter.mta import connect
from tests.listening import listens
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow

PROGRAM: Final = """
import logging, logging.config, resource, signal, sys, threading, Milter
{logging}

class M(Milter.Base):
    def eom(self):
        return Milter.ACCEPT

start = threading.Thread.start

def full(thread):
    if thread.name.startswith("milter-connection"):
        raise RuntimeError("can't start new thread")
    start(thread)

def lack(*_):
    if sys.argv[2] == "threads":
        threading.Thread.start = full
    else:
        # What is open stays so; nothing more can be opened.
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    print("lacking", flush=True)

def recover(*_):
    threading.Thread.start = start
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    print("recovered", flush=True)

limits = resource.getrlimit(resource.RLIMIT_NOFILE)
signal.signal(signal.SIGUSR1, lack)
signal.signal(signal.SIGUSR2, recover)
Milter.factory = M
Milter.runmilter("x", sys.argv[1], 240)
"""
LOGGING: Final = {
    "none": ("", "stderr"),
    "basic": ("logging.basicConfig()", "log"),
    "basic, errors only": (
        "logging.basicConfig(level=logging.ERROR); logging.getLogger('aiomilter').setLevel(logging.ERROR)",
        "stderr",
    ),
    "a handler for errors only": (
        "file = logging.FileHandler(sys.argv[1] + '.log'); file.setLevel('ERROR'); logging.getLogger().addHandler(file)",
        "stderr",
    ),
    "a file": ("logging.basicConfig(filename=sys.argv[1] + '.log')", "file"),
    "disabled": ("logging.disable(logging.CRITICAL)", "stderr"),
    "configured anew, without what exists": ("logging.config.dictConfig({'version': 1})", "stderr"),
    "configured anew, without what exists, for a file": (
        "logging.config.dictConfig({'version': 1, 'handlers': {'f': {'class': 'logging.FileHandler', 'filename': sys.argv[1] + "
        "'.log'}}, 'root': {'handlers': ['f'], 'level': 'INFO'}})",
        "stderr",
    ),
    "our logger kept for itself": ("logging.getLogger('aiomilter').propagate = False", "stderr"),
    "nothing on stderr": ("sys.stderr = None", "nowhere"),
    "stderr elsewhere": ("sys.stderr = open(sys.argv[1] + '.log', 'w', buffering=1)", "file"),
}
WHAT: Final = {
    "threads": r"closing a new connection: can't start new thread",
    "descriptors": r"cannot accept connections: Too many open files; trying again every second",
}


class Program:
    """A program that serves, and what it says."""

    def __init__(self, place: Path, setup: str, what: str) -> None:
        self.path = place / "sock"
        script = place / "program.py"
        script.write_text(PROGRAM.format(logging=setup))
        self.errors = place / "errors"
        with open(self.errors, "w") as errors:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "aiomilter",
                    "compat",
                    "--drain-timeout",
                    "1",
                    str(script),
                    str(self.path),
                    what,
                ],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=Path(__file__).parents[2],
            )

    def tell(self, number: signal.Signals) -> None:
        """Have it lack something, or no more."""
        self.process.send_signal(number)
        assert self.process.stdout is not None
        assert self.process.stdout.readline()

    def said(self, where: str) -> list[str]:
        """Return the lines that it has said somewhere."""
        path = {"file": Path(f"{self.path}.log"), "nowhere": Path(os.devnull)}.get(where, self.errors)
        return path.read_text().splitlines()


Begin = Callable[..., Program]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    started: list[Program] = []

    def start(setup: str, what: str) -> Program:
        program = Program(tmp_path, setup, what)
        started.append(program)
        wait_until(lambda: listens(str(program.path)) or program.process.poll() is not None)
        return program

    yield start
    for program in started:
        program.process.kill()
        program.process.communicate()


def wait_until(condition: Callable[[], bool]) -> None:
    """Look until something is so."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


async def message(path: Path) -> object:
    async with connect(f"unix:{path}", timeout=PATIENCE) as session:
        await session.mail("<a@a.example>")
        await session.rcpt("<b@b.example>")
        result = await session.message(b"Subject: hi\r\n\r\nHello\r\n")
        await session.quit()
    return result.answer


@pytest.mark.parametrize(
    ("what", "setup"),
    [
        *(("threads", setup) for setup in LOGGING),
        *(("descriptors", setup) for setup in ("none", "a file", "nothing on stderr")),
    ],
)
async def test_what_the_system_lacks_is_said_once_and_mail_goes_on_when_there_is_more(
    begin: Begin, what: str, setup: str
) -> None:
    lines, where = LOGGING[setup]
    program = begin(lines, what)
    assert await message(program.path) == ACCEPT
    program.tell(signal.SIGUSR1)
    waiting = [asyncio.ensure_future(message(program.path)) for _ in range(3)]
    said: Callable[[], list[str]] = lambda: [line for line in program.said(where) if re.search(WHAT[what], line)]  # noqa: E731
    if where != "nowhere":
        await asyncio.to_thread(wait_until, lambda: bool(said()))
    if what == "threads":
        # Closed at once: the MTA does as it does without a filter.
        for one in waiting:
            with contextlib.suppress(RemoteProtocolError, OSError):
                await one
    program.tell(signal.SIGUSR2)
    if what == "descriptors":
        assert await asyncio.gather(*waiting) == [ACCEPT] * 3
    assert await message(program.path) == ACCEPT
    assert len(said()) == (where != "nowhere")
    program.process.terminate()
    assert program.process.wait(PATIENCE) == 0
    if where != "log":
        ours = said() if where == "stderr" else []
        assert program.said("stderr") == ours
        assert all(line.startswith("aiomilter: ") for line in ours)


async def test_a_stderr_that_nobody_reads_stops_no_mail(tmp_path: Path) -> None:
    """It is full; the line is dropped."""
    script = tmp_path / "program.py"
    setup = "import os; os.set_blocking(2, False)\ntry:\n    while True: os.write(2, b'x' * 4096)\nexcept BlockingIOError: pass"
    script.write_text(PROGRAM.format(logging=f"{setup}\nos.set_blocking(2, True)"))
    process = subprocess.Popen(
        [sys.executable, "-m", "aiomilter", "compat", str(script), f"{tmp_path}/sock", "descriptors"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        wait_until(lambda: listens(f"{tmp_path}/sock") or process.poll() is not None)
        assert await message(tmp_path / "sock") == ACCEPT
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == b"lacking\n"
        waiting = asyncio.ensure_future(message(tmp_path / "sock"))
        await asyncio.sleep(0)
        process.send_signal(signal.SIGUSR2)
        assert process.stdout.readline() == b"recovered\n"
        assert await waiting == ACCEPT
    finally:
        process.kill()
        process.communicate()
