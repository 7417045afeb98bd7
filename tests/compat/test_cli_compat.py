"""``aiomilter compat``: a program for pymilter, as ``python`` would run it."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from aiomilter import ACCEPT
from aiomilter.mta import connect
from aiomilter.wire.modifications import AddHeader
from tests.listening import listens
from tests.patience import PATIENCE

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
    end = time.monotonic() + PATIENCE
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
    output, errors = process.communicate(timeout=PATIENCE)
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
        ("print(__builtins__.__name__)", 0, "builtins\n", ""),
        ("import sys; sys.stdout = None", 0, "", ""),
        ("import sys; sys.stdout.close()", 0, "", ""),
        ("import sys; sys.stdin.close(); sys.stdout.close(); sys.stderr.close(); sys.exit('lost')", 1, "", ""),
        ("import sys; sys.stderr = None; sys.exit('lost')", 1, "", ""),
        ("import atexit; atexit.register(print, 'last'); raise KeyboardInterrupt", -signal.SIGINT, "last\n", None),
    ],
)
def test_a_program_ends_as_python_would_end_it(
    run: Run, tmp_path: Path, text: str, status: int, output: str, errors: str | None
) -> None:
    process = run(text)
    found = process.communicate(timeout=PATIENCE)
    if errors is None:
        # The first frame, or the place of the syntax error, is the program's.
        lines = [line for line in found[1].splitlines() if line.startswith("  File")]
        assert str(tmp_path / "program.py") in lines[0]
    else:
        assert found[1] == errors
    assert (process.returncode, found[0]) == (status, output)


def test_a_program_knows_where_it_is_whatever_it_was_called_by(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import sys; print(__file__, __loader__.path, sys.argv[0])")
    found = subprocess.run(
        [sys.executable, "-m", "aiomilter", "compat", "program.py"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    path = f"{tmp_path}/program.py"
    assert (found.stdout, found.stderr) == (f"{path} {path} program.py\n", "")


@pytest.mark.slow
def test_any_name_may_lie_beside_a_program_and_it_finds_its_own_first(run: Run, tmp_path: Path) -> None:
    """What aiomilter imports late is found where it is installed; a program's neighbours come first for itself, as ever."""
    for name in ("dns", "idna", "email", "encodings", "mimetypes", "zipfile", "html", "hmac", "stringprep"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py beside the program was imported')\n")
    (tmp_path / "colorsys.py").write_text("OWN = True\n")
    program = """
    import Milter, Milter.dns, mime, colorsys
    from aiomilter.dns import question_name
    print(question_name("b\u00fccher.example"), colorsys.OWN, Milter.dns.DNSLookup("x.example", "SPF"))
    """
    process = run(program)
    assert (*process.communicate(timeout=PATIENCE), process.returncode) == ("xn--bcher-kva.example True []\n", "", 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["import dns, Milter", "import dns, Milter.dns; Milter.dns.DNSLookup('x.example', 'SPF')"]
)
def test_a_program_may_have_a_module_of_the_name_of_a_library(run: Run, tmp_path: Path, text: str) -> None:
    """Milter.dns asks without it."""
    (tmp_path / "dns.py").write_text("HOSTS = ()\n")
    process = run(f"{text}; print(dns.HOSTS)")
    assert (*process.communicate(timeout=PATIENCE), process.returncode) == ("()\n", "", 0)


def test_executors_take_work_for_as_long_as_a_thread_of_the_program_runs(run: Run) -> None:
    text = """
    import asyncio, threading

    def work():
        threading.main_thread().join(0.1)
        print(asyncio.run(asyncio.to_thread(lambda: "done")))

    threading.Thread(target=work).start()
    """
    process = run(text)
    assert (*process.communicate(timeout=PATIENCE), process.returncode) == ("done\n", "", 0)


def test_without_a_script_only_that_is_missing() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "aiomilter", "compat"], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (found.returncode, found.stdout) == (2, "")
    wanted = "the following arguments are required: SCRIPT; see 'aiomilter compat --help'"
    assert found.stderr == f"aiomilter compat: {wanted}\n"


def test_a_script_that_does_not_exist_is_one_line() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "aiomilter", "compat", "/nowhere.py"], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (found.returncode, found.stdout) == (4, "")
    assert found.stderr == "aiomilter: cannot run '/nowhere.py': No such file or directory\n"


FORKING = """
import os, sys, Milter

def answer(filter):
    how = filter.how
    child = os.fork()
    if child == 0:
        print(how, file=log)
        if how == "exit":
            sys.exit(3)
        if how == "raise":
            1 / 0
        return Milter.REJECT if how == "reject" else Milter.CONTINUE
    filter.addheader("X-Status", str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
    return Milter.ACCEPT

class Forking(Milter.Base):
    %sdef envfrom(self, sender, *params):
        self.how = sender.strip("<>")
        return Milter.CONTINUE

    %sdef eom(self):
        return answer(self)

    %sdef close(self):
        print("close", file=log, flush=True)
        return Milter.CONTINUE

log = open(sys.argv[1] + ".log", "a")
Milter.factory = Forking
Milter.runmilter("forking", sys.argv[1])
"""
EITHER: Final = {"blocking": ("", "", ""), "async": ("async ",) * 3, "both": ("", "async ", "")}


@pytest.mark.slow
@pytest.mark.parametrize("kind", EITHER)
async def test_a_child_that_a_callback_forks_ends_with_it_and_says_nothing_to_the_mta(
    run: Run, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "sock"
    process = run(FORKING % EITHER[kind], str(path))
    wait_for(path, process)
    found = {}
    async with connect(f"unix:{path}", timeout=PATIENCE) as session:
        for how in ("exit", "raise", "reject", "continue"):
            await session.mail(f"<{how}>")
            await session.rcpt("<b@b.example>")
            result = await session.message(b"Subject: hi\r\n\r\nHello\r\n")
            found[how] = (result.answer, result.modifications)
    process.terminate()
    _, errors = process.communicate(timeout=PATIENCE)
    statuses = {"exit": "3", "raise": "1", "reject": "0", "continue": "0"}
    assert found == {how: (ACCEPT, (AddHeader("X-Status", status),)) for how, status in statuses.items()}
    assert Path(f"{path}.log").read_text() == "exit\nraise\nreject\ncontinue\nclose\n"
    # Python 3.12 and later warn whenever a process with threads forks.
    lines = [line for line in errors.splitlines() if not line.startswith(" ") and "DeprecationWarning" not in line]
    assert lines == ["Traceback (most recent call last):", "ZeroDivisionError: division by zero"]


@pytest.mark.slow
async def test_a_signal_ends_a_child_that_a_callback_forks(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    text = """
    import multiprocessing, sys, threading, Milter

    context = multiprocessing.get_context("fork")

    class Forking(Milter.Base):
        def envfrom(self, sender, *params):
            begun = context.Event()
            child = context.Process(target=lambda: begun.set() or threading.Event().wait())
            child.start()
            begun.wait()
            child.terminate()
            child.join()
            self.status = child.exitcode
            return Milter.CONTINUE

        def eom(self):
            self.addheader("X-Status", str(self.status))
            return Milter.ACCEPT

    Milter.factory = Forking
    Milter.runmilter("forking", sys.argv[1])
    """
    process = run(text, str(path))
    wait_for(path, process)
    async with connect(f"unix:{path}", timeout=PATIENCE) as session:
        await session.mail("<a@a.example>")
        await session.rcpt("<b@b.example>")
        result = await session.message(b"Subject: hi\r\n\r\nHello\r\n")
    assert result.modifications == (AddHeader("X-Status", "-15"),)
    process.terminate()
    assert process.wait(PATIENCE) == 0
