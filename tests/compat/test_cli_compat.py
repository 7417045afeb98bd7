"""``aiomilter compat``: a program for pymilter, as ``python`` would run it."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from aiomilter import ACCEPT
from aiomilter.mta import connect
from aiomilter.wire.modifications import AddHeader
from tests.listening import listens

PROGRAM = """
import sys, Milter

class Tagger(Milter.Base):
    @Milter.noreply
    def header(self, name, value):
        self.names = getattr(self, "names", ()) + (name,)
        return Milter.CONTINUE

    def eom(self):
        self.addheader("X-Seen", ",".join(self.names))
        return Milter.ACCEPT

if __name__ == "__main__":
    Milter.factory = Tagger
    Milter.set_flags(Milter.ADDHDRS)
    print("arguments", sys.argv[1:], flush=True)
    Milter.runmilter("tagger", sys.argv[1], timeout=60)
    print("the end", flush=True)
"""

Run: TypeAlias = "Callable[..., subprocess.Popen[str]]"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Run a program's text with the command; what is still alive at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(text: str, *arguments: str, options: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
        script = tmp_path / "program.py"
        script.write_text(textwrap.dedent(text))
        process = subprocess.Popen(
            [sys.executable, "-m", "aiomilter", "compat", *options, str(script), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def wait_for(path: Path, process: "subprocess.Popen[Any]") -> None:
    """Wait until somebody listens on a socket."""
    end = time.monotonic() + 20
    while not listens(str(path)):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)


async def test_a_program_serves_mail_until_a_signal_and_goes_on_after_it(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    process = run(PROGRAM, f"unix:{path}")
    wait_for(path, process)
    async with connect(f"unix:{path}") as session:
        await session.negotiate()
        await session.connect("client.example", "192.0.2.1")
        await session.helo()
        await session.mail("<a@a.example>")
        await session.rcpt("<b@b.example>")
        result = await session.message(b"Subject: hi\r\nTo: you\r\n\r\nHello\r\n")
        await session.quit()
    assert (result.answer, result.modifications) == (ACCEPT, (AddHeader("X-Seen", "Subject,To"),))
    process.terminate()
    output, errors = process.communicate(timeout=20)
    assert (output, errors, process.returncode) == (f"arguments ['unix:{path}']\nthe end\n", "", 0)
    assert not path.exists()


@pytest.mark.parametrize(
    ("text", "status", "output", "errors"),
    [
        ("import sys; sys.exit(3)", 3, "", ""),
        ("import sys; sys.exit()", 0, "", ""),
        ("raise SystemExit('enough')", 1, "", "enough\n"),
        ("def f():\n    1/0\nf()", 1, "", None),
        ("def f(:", 1, "", None),
        ("import Milter\nMilter.runmilter('n', '')", 1, "", None),
        ("print(__name__, __file__[-10:])", 0, "__main__ program.py\n", ""),
    ],
)
def test_a_program_ends_as_python_would_end_it(
    run: Run, tmp_path: Path, text: str, status: int, output: str, errors: str | None
) -> None:
    process = run(text)
    found = process.communicate(timeout=20)
    if errors is None:
        # The first frame, or the place of the syntax error, is the program's.
        lines = [line for line in found[1].splitlines() if line.startswith("  File")]
        assert str(tmp_path / "program.py") in lines[0]
    else:
        assert found[1] == errors
    assert (process.returncode, found[0]) == (status, output)


def test_without_a_script_only_that_is_missing() -> None:
    found = subprocess.run([sys.executable, "-m", "aiomilter", "compat"], capture_output=True, text=True, timeout=20)
    assert (found.returncode, found.stdout) == (2, "")
    wanted = "the following arguments are required: SCRIPT; see 'aiomilter compat --help'"
    assert found.stderr == f"aiomilter compat: {wanted}\n"


def test_a_script_that_does_not_exist_is_one_line() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "aiomilter", "compat", "/nowhere.py"], capture_output=True, text=True, timeout=20
    )
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "aiomilter: cannot run '/nowhere.py': No such file or directory\n"
