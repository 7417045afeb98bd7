"""Processes that a program starts import what it imports, serve nothing of its own, and end when they are told to."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from aiomilter import CONTINUE, Reply
from aiomilter.mta import connect
from aiomilter.wire.modifications import AddHeader
from tests.compat.rigs import pymilter
from tests.listening import listens
from tests.patience import PATIENCE
from tests.programs import need

METHODS: Final = ("spawn", "forkserver")
ROOT: Final = Path(__file__).parents[2]
HELPER: Final = """
import Milter, mime
from Milter.utils import parse_addr

class Found:
    def __init__(self, address):
        self.address = parse_addr(address)
        self.module = Milter.Base.__module__

def find(address):
    return Found(address)
"""
PROGRAM: Final = """
import concurrent.futures, multiprocessing, multiprocessing.managers, sys
{install}
import Milter, helper

class Manager(multiprocessing.managers.BaseManager):
    pass

Manager.register("Found", helper.Found)

def local(address):
    return Milter.utils.parse_addr(address), __name__, sys.argv[1:], Milter.Base.__module__

def put(queue, address):
    queue.put(local(address))

def main(method):
    by_context = sys.argv[2:] == ["by context"]
    if not by_context:
        multiprocessing.set_start_method(method)
    context = multiprocessing.get_context(method) if by_context else multiprocessing
    with context.Pool(1) as pool:
        print("pool", pool.apply(local, ("a@b",)), pool.map(helper.find, ["c@d"])[0].address)
    queue = context.Queue()
    child = context.Process(target=put, args=(queue, "e@f"))
    child.start()
    print("process", queue.get(timeout=60))
    child.join()
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        print("executor", pool.submit(local, "g@h").result(60))
    with Manager(ctx=multiprocessing.get_context(method)) as manager:
        print("manager", "helper.Found" in str(manager.Found("i@j")))

if __name__ == "__main__":
    main(sys.argv[1])
"""


def environment(**more: str) -> Mapping[str, str]:
    """An environment in which a Python finds this package, wherever it is run."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **more}


def expected(*arguments: str) -> list[str]:
    how = f"'__mp_main__', {list(arguments)!r}, 'Milter'"
    return [
        f"pool (['a', 'b'], {how}) ['c', 'd']",
        f"process (['e', 'f'], {how})",
        f"executor (['g', 'h'], {how})",
        "manager True",
    ]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with what the program imports beside it."""
    (tmp_path / "helper.py").write_text(HELPER)
    return tmp_path


def write(place: Path, text: str, install: str = "") -> Path:
    """Write a program."""
    path = place / "program.py"
    path.write_text(textwrap.dedent(text).replace("{install}", install))
    return path


def finished(*command: str, cwd: Path, **more: str) -> tuple[list[str], str]:
    """Run a program to its end, and return the lines it prints, and what is on stderr."""
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=PATIENCE, cwd=cwd, env=environment(**more)
    )
    return done.stdout.splitlines(), done.stderr


COMPAT: Final = ("-m", "aiomilter", "compat")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["set for all", "by context"])
@pytest.mark.parametrize("method", METHODS)
def test_children_that_do_not_fork_import_what_the_program_imports(place: Path, method: str, way: str) -> None:
    arguments = (method, *(["by context"] if way == "by context" else []))
    script = write(place, PROGRAM)
    assert finished(*COMPAT, str(script), *arguments, cwd=ROOT) == (expected(*arguments), "")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_program_that_installs_has_such_children_too(place: Path, method: str) -> None:
    script = write(place, PROGRAM, "from aiomilter.compat import install; install()")
    assert finished(str(script), method, cwd=ROOT) == (expected(method), "")


GUARDED: Final = """
import multiprocessing, sys
if __name__ == "__main__":
    from aiomilter.compat import install
    install()
    import helper
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        print(pool.map(helper.find, ["a@b"])[0].address)
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_install_counts_for_children_whose_main_module_does_not_call_it(place: Path, method: str) -> None:
    assert finished(str(write(place, GUARDED)), method, cwd=ROOT) == (["['a', 'b']"], "")


MOVING: Final = """
import multiprocessing, os, sys
import Milter, helper

def local(address):
    return helper.find(address).address, sys.path[0] == os.path.dirname(os.path.realpath(__file__))

if __name__ == "__main__":
    os.chdir("/")
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        print(pool.apply(local, ("a@b",)))
"""
WAYS: Final = {
    "from another directory": ((), "..", {}),
    "by a relative path": ((), ".", {}),
    "with a safe path": ((), ".", {"PYTHONSAFEPATH": "1"}),
    "with a safe path by an option": (("-P",), ".", {}),
    "without bytecode": (("-B",), "..", {"PYTHONDONTWRITEBYTECODE": "1"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("way", WAYS)
def test_children_find_the_program_and_its_neighbours_wherever_it_is_run(place: Path, method: str, way: str) -> None:
    options, below, more = WAYS[way]
    script = write(place, MOVING)
    cwd = (place / below).resolve()
    found = finished(*options, *COMPAT, os.path.relpath(script, cwd), method, cwd=cwd, **more)
    assert found == (["(['a', 'b'], True)"], "")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_neighbour_of_the_program_is_not_taken_for_a_library_in_its_children(place: Path, method: str) -> None:
    """As in the program itself: what is beside it is found first by it, what is installed by aiomilter."""
    for name in ("dns", "idna"):
        (place / f"{name}.py").write_text("OWN = True\n")
    script = write(
        place,
        """
        import multiprocessing, sys, Milter, Milter.dns, dns

        def ask(name):
            from aiomilter.dns import question_name
            return question_name(name), dns.OWN, Milter.dns.DNSLookup("x.example", "SPF")

        if __name__ == "__main__":
            child = multiprocessing.get_context(sys.argv[1]).Pool(1)
            print(child.apply(ask, ("b\u00fccher.example",)))
            child.close()
            child.join()
        """,
    )
    assert finished(*COMPAT, str(script), method, cwd=ROOT) == (["('xn--bcher-kva.example', True, [])"], "")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_what_the_command_line_sets_holds_in_children_too(place: Path, method: str) -> None:
    script = write(
        place,
        """
        import multiprocessing, sys, Milter

        def limits():
            from aiomilter.compat.context import Text
            from aiomilter.compat.service import Limits
            return Limits.threads, Limits.drain_timeout, Text.errors

        if __name__ == "__main__":
            with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
                print(pool.apply(limits))
        """,
    )
    options = ("--threads", "7", "--drain-timeout", "2.5", "--any-octets")
    assert finished(*COMPAT, *options, str(script), method, cwd=ROOT) == (["(7, 2.5, 'surrogateescape')"], "")


# ------------------------------------------------------------------------------------------ any Python that is started

OTHER: Final = """
import Milter, milter, mime, sys
from Milter.utils import parse_addr
print(Milter.Base.__module__, hasattr(Milter, "other"), parse_addr("a@b"), Milter.milter is milter, "elsewhere" in str(mime))
"""
STARTING: Final = """
import os, subprocess, sys, Milter
print(any("elsewhere" in entry for entry in sys.path))
for command in ([sys.executable, "other.py"], [sys.executable, "-c", open("other.py").read()]):
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.stdout + done.stderr, end="")
"""


@pytest.mark.slow
@pytest.mark.parametrize("first", ["milter", "Milter", "mime", "Milter.utils"])
def test_any_python_that_a_program_starts_finds_the_modules(place: Path, first: str) -> None:
    (place / "other.py").write_text(f"import {first}\n{OTHER}")
    script = write(place, STARTING)
    found = finished(*COMPAT, str(script), cwd=place)
    assert found == (["False", *["Milter False ['a', 'b'] True False"] * 2], "")


@pytest.mark.slow
def test_it_finds_pymilter_instead_where_that_is_installed(place: Path) -> None:
    """As a package and two modules further on the path; the program itself gets aiomilter's."""
    installed = place / "installed"
    (installed / "Milter").mkdir(parents=True)
    (installed / "milter.py").write_text("")
    (installed / "mime.py").write_text("theirs = True\n")
    (installed / "Milter" / "__init__.py").write_text("import milter\nclass Base: pass\nother = True\n")
    (installed / "Milter" / "utils.py").write_text("def parse_addr(text): return 'theirs'\n")
    (place / "other.py").write_text(f"import sys\nsys.path.append({str(installed)!r})\n{OTHER}")
    script = write(place, STARTING)
    found = finished(*COMPAT, str(script), cwd=place)
    assert found == (["False", *["Milter True theirs True False"] * 2], "")


@pytest.mark.slow
def test_a_module_of_one_of_these_names_stays_another_programs(place: Path) -> None:
    (place / "installed").mkdir()
    (place / "installed" / "mime.py").write_text("theirs = True\n")
    (place / "other.py").write_text(
        f"import sys\nsys.path.append({str(place / 'installed')!r})\n"
        "import mime, Milter\nprint(mime.theirs, Milter.Base.__module__)"
    )
    script = write(place, STARTING)
    assert finished(*COMPAT, str(script), cwd=place) == (["False", *["True Milter"] * 2], "")


@pytest.mark.slow
@pytest.mark.parametrize("option", ["-S", "-I"])
def test_a_python_that_finds_no_aiomilter_misses_what_it_asked_for(place: Path, option: str) -> None:
    """Not something that the program has never heard of."""
    (place / "other.py").write_text("import Milter")
    command = "import os, subprocess, sys; os.environ['PYTHONPATH'] = os.environ['PYTHONPATH'].split(os.pathsep)[-1]; "
    command += (
        f"print(subprocess.run([sys.executable, {option!r}, 'other.py'], capture_output=True, text=True).stderr[-40:])"
    )
    lines, errors = finished(*COMPAT, str(write(place, command)), cwd=place)
    assert ([line for line in lines if line], errors) == (["uleNotFoundError: No module named 'Milter'"[-39:]], "")


def test_install_leaves_the_environment_as_it_is(place: Path) -> None:
    """It is one process's; the command is the whole program's."""
    text = "import os\nbefore = dict(os.environ)\nfrom aiomilter.compat import install\n"
    text += "install()\nimport Milter\nprint(before == dict(os.environ))"
    assert finished(str(write(place, text)), cwd=place) == (["True"], "")


FORKSERVER: Final = """
from aiomilter.compat import install
{before}
install()
install()
import multiprocessing.spawn as spawn
found = {{}}
exec("data = ask('ignore')", {{"__name__": "multiprocessing.forkserver", "ask": spawn.get_preparation_data}}, found)
told = spawn.get_preparation_data("child")
print("init_main_from_path" in found["data"], "aiomilter" in found["data"])
loader = spawn.__loader__
print("init_main_from_path" in told, next(iter(told)), type(loader).__name__, spawn.__spec__.loader is loader)
"""


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", "import multiprocessing.spawn"], ids=["imported after", "imported before"])
def test_a_fork_server_is_not_told_to_import_a_program_whose_modules_it_cannot_find(place: Path, before: str) -> None:
    """Python 3.12.8, 3.13.1 and later have it import the main module first, and die of what that raises."""
    script = write(place, FORKSERVER.format(before=before))
    assert finished(str(script), cwd=place) == (["False False", "True aiomilter SourceFileLoader True"], "")


@pytest.mark.slow
def test_a_child_that_runs_another_python_is_told_nothing_it_cannot_do(place: Path) -> None:
    """set_executable() may name one without aiomilter."""
    (place / "alien").write_text(f'#!/bin/sh\nexec env -u PYTHONPATH {sys._base_executable} -S "$@"\n')  # type: ignore[attr-defined]
    (place / "alien").chmod(0o755)
    script = write(
        place,
        """
        import multiprocessing, os, sys
        if __name__ == "__main__":
            import Milter
            home = os.path.dirname(os.path.dirname(os.path.dirname(sys.modules["aiomilter.compat"].__file__)))
            from aiomilter.compat import children
            children._HOME = "/nowhere"
            sys.path[:] = [entry for entry in sys.path if "site-packages" not in entry and entry != home]
            multiprocessing.set_executable(os.path.join(os.path.dirname(__file__), "alien"))
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.apply(len, ("four",)))
        """,
    )
    assert finished(*COMPAT, str(script), cwd=ROOT) == (["4"], "")


@pytest.mark.interop
@pytest.mark.slow
def test_a_program_on_pymilter_starts_such_children_as_well(place: Path) -> None:
    """What is expected above is what is seen there."""
    need(pymilter.missing())
    script = write(place, PROGRAM)
    for method in METHODS:
        done = subprocess.run([pymilter.PYTHON, str(script), method], capture_output=True, text=True, timeout=PATIENCE)
        assert (done.stdout.splitlines(), done.stderr) == (expected(method), "")


# ------------------------------------------------------------------------------------------- programs that serve mail

POOL: Final = """
import multiprocessing, sys, Milter

class M(Milter.Base):
    def eom(self):
        self.addheader("X-Length", str(pool.apply_async(len, ("four",)).get(60)))
        return Milter.CONTINUE

if __name__ == "__main__":
    pool = multiprocessing.get_context(sys.argv[2]).Pool(2)
    Milter.factory = M
    Milter.runmilter("x", sys.argv[1], 240)
    pool.terminate()
    pool.join()
    print("ended", {child.exitcode for child in pool._pool} <= {0, -15})
"""
REPLACED: Final = """
import multiprocessing, sys, Milter

class M(Milter.Base):
    def eom(self):
        # Each child serves once, and the next is forked while there are connections.
        for _ in range(3):
            length = pool.apply_async(len, ("four",)).get(60)
        self.addheader("X-Length", str(length))
        return Milter.CONTINUE

if __name__ == "__main__":
    pool = multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1)
    Milter.factory = M
    Milter.runmilter("x", sys.argv[1], 240)
    pool.terminate()
    pool.join()
    print("ended")
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(place: Path) -> Iterator[Start]:
    """Run programs that serve; what is still alive at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(*command: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )
        started.append(process)
        wait_until(lambda: listens(f"{place}/sock") or process.poll() is not None)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], bool]) -> None:
    """Look until something is so."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


async def one_message(path: Path) -> object:
    """Have a message handled, and return answer and edits."""
    async with connect(f"unix:{path}", timeout=PATIENCE) as session:
        await session.mail("<a@a.example>")
        await session.rcpt("<b@b.example>")
        result = await session.message(b"Subject: hi\r\n\r\nHello\r\n")
        await session.quit()
    return result.answer, result.modifications


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", *METHODS])
async def test_a_callback_waits_for_children_of_any_kind_and_they_serve_nothing(
    place: Path, start: Start, method: str
) -> None:
    process = start(*COMPAT, str(write(place, POOL)), f"unix:{place}/sock", method)
    for _ in range(2):
        assert await one_message(place / "sock") == (CONTINUE, (AddHeader("X-Length", "4"),))
    process.terminate()
    output, errors = process.communicate(timeout=PATIENCE)
    assert (output, errors, process.returncode) == ("ended True\n", "", 0)


@pytest.mark.slow
async def test_children_that_a_pool_forks_while_mail_is_served_end_when_they_are_told_to(
    place: Path, start: Start
) -> None:
    process = start("-W", "ignore", *COMPAT, str(write(place, REPLACED)), f"unix:{place}/sock")
    for _ in range(2):
        assert await one_message(place / "sock") == (CONTINUE, (AddHeader("X-Length", "4"),))
    process.terminate()
    output, errors = process.communicate(timeout=PATIENCE)
    assert (output, errors, process.returncode) == ("ended\n", "", 0)


OUTLIVING: Final = """
import os, sys, time, Milter

class M(Milter.Base):
    %sdef envfrom(self, sender, *params):
        pid = os.fork()
        if pid == 0:
            os.closerange(0, 3)
            while True:
                time.sleep(60)
        self.setreply("550", None, str(pid))
        return Milter.REJECT

if __name__ == "__main__":
    Milter.factory = M
    Milter.runmilter("x", sys.argv[1], 240)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["", "async "], ids=["blocking", "async"])
async def test_a_child_that_outlives_the_program_keeps_none_of_its_sockets(
    place: Path, start: Start, kind: str
) -> None:
    script = write(place, OUTLIVING % kind)
    process = start("-W", "ignore", *COMPAT, "--drain-timeout", "0.1", str(script), f"unix:{place}/sock")
    reader, writer = await asyncio.open_unix_connection(f"{place}/sock")
    async with connect(f"unix:{place}/sock", timeout=PATIENCE) as session:
        answer = await session.mail("<a@a.example>")
        assert isinstance(answer, Reply)
        child = int(answer.lines[0])
    try:
        process.terminate()
        assert process.wait(PATIENCE) == 0
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == b""
        writer.close()
        assert not listens(f"{place}/sock")
    finally:
        os.kill(child, signal.SIGKILL)
