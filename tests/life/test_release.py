"""SIGHUP after another release was put in the place of the one that serves: all of it is taken, or nothing."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from aiomilter.mta import connect
from tests.patience import PATIENCE

from .daemon import Daemon, deliver, marks, running

pytestmark = pytest.mark.slow
RELOADED: Final = "INFO aiomilter: reloaded"
FILTER: Final = """\
{imports}
from aiomilter import Milter

class F(Milter):
    async def eom(self, ctx):
{lazily}
        ctx.add_header("X-Version", f"filter {version}, helper {{helper.V}}")
        ctx.add_header("X-Process", {process})
"""
FINDER: Final = """\
import sys
from importlib.util import spec_from_file_location

class Editable:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "pkg":
            return spec_from_file_location(name, "{root}/current/pkg/__init__.py")

sys.meta_path.append(Editable)
"""


class Kind(NamedTuple):
    """How a filter is laid out, and found."""

    target: str
    package: str = ""
    imports: str = "import helper"
    lazily: str = ""
    helper: str = "helper.py"
    directory: str = ""
    variables: Mapping[str, str] = {}
    options: Sequence[str] = ()


KINDS: Final = {
    "a file": Kind("current/filter.py"),
    "a file and a name": Kind("current/filter.py:F"),
    "a file by its absolute path": Kind("{root}/current/filter.py"),
    "a link to the file": Kind("filter.py"),
    "a module in the current directory": Kind("filter:F", directory="current", variables={"PWD": "{root}/current"}),
    "a module of PYTHONPATH": Kind("filter:F", variables={"PYTHONPATH": "current"}),
    "a module of a package": Kind(
        "pkg.filter:F", "pkg", "from . import helper", variables={"PYTHONPATH": "{root}/current"}
    ),
    "a module of a namespace": Kind(
        "pkg.filter:F", "pkg/", "import pkg.helper as helper", variables={"PYTHONPATH": "{root}/current"}
    ),
    "an editable package": Kind("pkg.filter:F", "pkg", "from pkg import helper", variables={"PYTHONPATH": "{root}"}),
    "a directory that the filter puts on the path": Kind(
        "current/filter.py",
        imports="import sys, os\nsys.path.insert(0, os.path.dirname(__file__) + '/lib')\nimport helper",
        helper="lib/helper.py",
    ),
    "a package beside the file": Kind("current/filter.py", imports="import p.helper as helper", helper="p/helper.py"),
    "a current directory that is a link": Kind(
        "filter.py", directory="current", variables={"PWD": "{root}/current"}
    ),
    "imported in a callback": Kind("current/filter.py", imports="", lazily="        import helper"),
    "imported in a callback from PYTHONPATH": Kind(
        "filter:F", imports="", lazily="        import helper", variables={"PYTHONPATH": "current"}
    ),
    "workers": Kind("current/filter.py", options=("--workers", "2")),
    "workers in a directory that is a link": Kind(
        "filter:F", directory="current", variables={"PWD": "{root}/current"}, options=("--workers", "2")
    ),
}  # fmt: skip


def write(root: Path, kind: Kind, version: str, process: str = '""') -> None:
    """Write a release, and what it says of its process."""
    home = root / f"v{version}" / kind.package
    for file, text in {
        "filter.py": FILTER.format(imports=kind.imports, lazily=kind.lazily, version=version, process=process),
        kind.helper: f"V = {version!r}\n",
        **({"__init__.py": ""} if kind.package and not kind.package.endswith("/") else {}),
    }.items():
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        (home / file).write_text(text)


def lead_to(root: Path, version: str) -> None:
    """Have the links lead to a release, as it is done: in one step."""
    for link, place in (("current", f"v{version}"), ("filter.py", f"v{version}/filter.py")):
        (root / "next").symlink_to(place)
        os.replace(root / "next", root / link)


async def started(stack: AsyncExitStack, root: Path, kind: Kind, *options: str) -> Daemon:
    """Return a daemon that serves ``root / "s"``."""
    (root / "sitecustomize.py").write_text(FINDER.format(root=root))
    given = {name: value.format(root=root) for name, value in kind.variables.items()}
    if "PYTHONPATH" in given:
        given["PYTHONPATH"] += os.pathsep + os.environ.get("PYTHONPATH", "")
    daemon = await stack.enter_async_context(
        running(
            kind.target.format(root=root), "--listen", str(root / "s"), *kind.options, *options,
            directory=root / kind.directory, environment=given,
        )
    )  # fmt: skip
    await daemon.logged("listening on|serve new connections")
    return daemon


@pytest.mark.parametrize("removed", [False, True], ids=["kept", "removed"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
async def test_a_release_is_taken_as_a_whole(kind: Kind, removed: bool, tmp_path: Path) -> None:
    write(tmp_path, kind, "1")
    lead_to(tmp_path, "1")
    async with AsyncExitStack() as stack:
        daemon = await started(stack, tmp_path, kind)
        for count, version in enumerate("121", start=0):
            if count:
                write(tmp_path, kind, version)
                lead_to(tmp_path, version)
                if removed:
                    shutil.rmtree(tmp_path / ("v2" if version == "1" else "v1"))
                daemon.send(signal.SIGHUP)
                await daemon.logged(r"INFO aiomilter(\[\d+\])?: reloaded", count)
            assert (await deliver(str(tmp_path / "s")))[0] == f"filter {version}, helper {version}"


@pytest.mark.parametrize("kind", [each for each in KINDS.values() if not each.lazily], ids=lambda kind: kind.target)
async def test_what_a_release_lacks_is_not_taken_from_the_one_before(kind: Kind, tmp_path: Path) -> None:
    for version in "12":
        write(tmp_path, kind, version)
    (tmp_path / "v2" / kind.package / kind.helper).unlink()
    lead_to(tmp_path, "1")
    async with AsyncExitStack() as stack:
        daemon = await started(stack, tmp_path, kind)
        lead_to(tmp_path, "2")
        daemon.send(signal.SIGHUP)
        await daemon.logged(
            r"ERROR aiomilter(\[\d+\])?: cannot reload: .*(No module named|cannot import name) '.*helper'"
        )
        assert (await deliver(str(tmp_path / "s")))[0] == "filter 1, helper 1"


FAILURES: Final = {
    "syntax": "V = '2'\ndef broken(:\n",
    "an exception": "V = '2'\nraise ValueError\n",
    "the end of the program": "raise SystemExit\n",
    "an interrupt": "raise KeyboardInterrupt\n",
    "a cancellation": "import asyncio\nraise asyncio.CancelledError\n",
    "a question": "input('go on? ')\n",
    "a question for a password": "import getpass\ngetpass.getpass()\n",
    "a change of directory and logging": "import os, logging.config\nos.chdir('/')\n"
    "logging.config.dictConfig({'version': 1, 'root': {'level': 'CRITICAL'}})\nraise ValueError\n",
    "a thread of its own": "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nraise ValueError\n",
}


@pytest.mark.parametrize("code", FAILURES.values(), ids=FAILURES)
async def test_a_release_that_fails_leaves_all_of_the_one_before(code: str, tmp_path: Path) -> None:
    late = tmp_path / "v1" / "late.py"
    lazily = f"        import p.helper as helper, os, sys\n        if os.path.exists({str(late)!r}): import late"
    kind = Kind(
        "filter:F", "", "import p.helper as helper", lazily, "p/helper.py",
        variables={"PYTHONPATH": "current"},
    )  # fmt: skip
    process = "f'{os.getcwd()} {sys.path}'"
    for version in "12":
        write(tmp_path, kind, version, process)
    (tmp_path / "v2" / "p" / "helper.py").write_text(code)
    lead_to(tmp_path, "1")
    async with AsyncExitStack() as stack:
        daemon = await started(stack, tmp_path, kind)
        before = await deliver(str(tmp_path / "s"))
        assert before[0] == "filter 1, helper 1"
        lead_to(tmp_path, "2")
        daemon.send(signal.SIGHUP)
        await daemon.logged("ERROR aiomilter: cannot reload: .*; nothing has changed")
        late.touch()
        assert await deliver(str(tmp_path / "s")) == before
        late.unlink()
        write(tmp_path, kind, "2", process)
        daemon.send(signal.SIGHUP)
        await daemon.logged(RELOADED)
        after = await deliver(str(tmp_path / "s"))
        assert after == ("filter 2, helper 2", before[1].replace("/v1", "/v2"))
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    assert not any("_import_of_own_release" in line for line in daemon.log)


SAME_AT_EVERY_IMPORT: Final = {
    "asyncio.run": "import asyncio\nasyncio.run(asyncio.sleep(0))\n",
    "chdir": "import os\nos.chdir('data')\n",
    "dictConfig": "import logging.config\nlogging.config.dictConfig({'version': 1})\n",
    "dictConfig with a root": "import logging.config\nlogging.config.dictConfig({'version': 1, 'root': {'level': 'ERROR'}})\n",
    "a handler of a signal": "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n",
    "a handler of a signal and a loop": "import asyncio, os, signal\nos.chdir('data')\n"
    "signal.signal(signal.SIGUSR1, signal.SIG_IGN)\nasyncio.run(asyncio.sleep(0))\n",
    "a connection to a database": "import sqlite3\ndb = sqlite3.connect(':memory:')\nuse = lambda: db.execute('select 1')\n",
    "what belongs to a thread": "import threading\nown = threading.local()\nown.x = 1\nuse = lambda: own.x\n",
}


@pytest.mark.parametrize("loop", ["--uvloop", "--no-uvloop", "--workers=2"])
@pytest.mark.parametrize("code", SAME_AT_EVERY_IMPORT.values(), ids=SAME_AT_EVERY_IMPORT)
async def test_what_an_import_may_do_at_the_start_it_may_do_at_a_reload(code: str, loop: str, tmp_path: Path) -> None:
    kind = Kind("current/filter.py", lazily="        helper.use()")
    (tmp_path / "data").mkdir()
    for version in "12":
        write(tmp_path, kind, version)
        with (tmp_path / f"v{version}" / "helper.py").open("a") as file:
            file.write(f"use = int\n{code}")
    lead_to(tmp_path, "1")
    async with AsyncExitStack() as stack:
        daemon = await started(stack, tmp_path, kind, loop)
        for count, version in enumerate("1212"):
            if count:
                lead_to(tmp_path, version)
                daemon.send(signal.SIGHUP)
                await daemon.logged(r"INFO aiomilter(\[\d+\])?: reloaded", count)
            assert (await deliver(str(tmp_path / "s")))[0] == f"filter {version}, helper {version}"
            await daemon.logged("INFO aiomilter.* client=.* eom: ", count + 1)
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    assert not (tmp_path / "s").exists()


async def test_mail_goes_on_while_a_release_is_imported(tmp_path: Path) -> None:
    """And what the old one imports in a callback meanwhile is its own."""
    kind = Kind("current/filter.py", lazily="        import helper")
    for version in "12":
        write(tmp_path, kind, version)
    lead_to(tmp_path, "1")
    os.mkfifo(tmp_path / "hold")
    (tmp_path / "v2" / "filter.py").write_text(
        "import helper\nopen('hold').read()\n" + (tmp_path / "v2" / "filter.py").read_text()
    )
    async with AsyncExitStack() as stack:
        daemon = await started(stack, tmp_path, kind)
        lead_to(tmp_path, "2")
        daemon.send(signal.SIGHUP)
        writer = await asyncio.to_thread(open, tmp_path / "hold", "w")  # opens once the reload has begun to read
        for _ in range(3):
            assert (await deliver(str(tmp_path / "s")))[0] == "filter 1, helper 1"
        writer.close()
        await daemon.logged(RELOADED)
        assert (await deliver(str(tmp_path / "s")))[0] == "filter 2, helper 2"


async def test_an_import_that_hangs_is_not_waited_for_at_the_end(tmp_path: Path) -> None:
    kind = Kind("current/filter.py")
    write(tmp_path, kind, "1")
    lead_to(tmp_path, "1")
    async with AsyncExitStack() as stack:
        daemon = await started(stack, tmp_path, kind)
        (tmp_path / "v1" / "filter.py").write_text("print('hangs', flush=True)\nimport time\ntime.sleep(3600)\n")
        daemon.send(signal.SIGHUP)
        await daemon.printed("hangs")
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0


async def test_what_an_open_session_imports_after_a_reload_is_of_its_own_release(tmp_path: Path) -> None:
    kind = Kind("current/filter.py", lazily="        import helper")
    late = Kind("current/filter.py", imports="", lazily="        import helper", helper="helper.py")
    for version, each in (("1", kind), ("2", kind), ("3", late), ("4", late)):
        write(tmp_path, each, version)
    lead_to(tmp_path, "1")
    seen = []
    async with AsyncExitStack() as stack:
        daemon = await started(stack, tmp_path, kind)
        for count, version in enumerate("234", start=1):
            async with connect(str(tmp_path / "s"), timeout=PATIENCE) as session:
                await session.connect()
                lead_to(tmp_path, version)
                daemon.send(signal.SIGHUP)
                await daemon.logged(RELOADED, count)
                await session.mail("<a@x>")
                await session.rcpt("<b@x>")
                result = await session.message(b"A: b\r\n\r\n")
                seen.append(marks(result.delivered)[0] if result.delivered is not None else "")
        await daemon.logged(
            "ImportError: helper is of another release by now, and this session began before the reload"
        )
        assert (await deliver(str(tmp_path / "s")))[0] == "filter 4, helper 4"
    assert seen == ["filter 1, helper 1", "filter 2, helper 2", ""]


def certificate(directory: Path, *more: str) -> None:
    """Make a certificate ``c`` with its key ``k``."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 2 -subj /CN=x -keyout k -out c"
    subprocess.run([*command.split(), *(more or ("-nodes",))], cwd=directory, check=True, capture_output=True)


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["", "workers"])
async def test_files_of_options_are_those_of_the_start(options: tuple[str, ...], tmp_path: Path) -> None:
    kind = Kind("current/filter.py", imports="import os, helper\nos.chdir('/')")
    write(tmp_path, kind, "1")
    lead_to(tmp_path, "1")
    certificate(tmp_path)
    files = ("--tls-certificate", "c", "--tls-key", "k", "--tls-client-ca", "c")
    async with AsyncExitStack() as stack:
        daemon = await started(stack, tmp_path, kind, *files, *options)
        daemon.send(signal.SIGHUP)
        await daemon.logged(r"INFO aiomilter(\[\d+\])?: reloaded")
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    assert not (tmp_path / "s").exists()


async def test_a_certificate_that_breaks_during_a_reload_is_told_apart(tmp_path: Path) -> None:
    kind = Kind("current/filter.py")
    write(tmp_path, kind, "1")
    lead_to(tmp_path, "1")
    certificate(tmp_path)
    async with AsyncExitStack() as stack:
        daemon = await started(stack, tmp_path, kind, "--tls-certificate", "c", "--tls-key", "k")
        write(tmp_path, kind, "2")
        (tmp_path / "v2" / "helper.py").write_text("V = '2'\nopen('k', 'w').close()\n")
        lead_to(tmp_path, "2")
        daemon.send(signal.SIGHUP)
        await daemon.logged(
            "ERROR aiomilter: reloaded the filter alone: cannot use 'k' for TLS: .*; TLS goes on as before"
        )
        assert (await deliver(str(tmp_path / "s")))[0] == "filter 2, helper 2"
    assert not any(RELOADED in line for line in daemon.log)


def test_no_terminal_is_asked_for_the_pass_phrase_of_a_key(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text("from aiomilter import Milter\nclass F(Milter): pass\n")
    certificate(tmp_path, "-passout", "pass:secret")
    arguments = ["run", "f.py", "--listen", "inet:0@127.0.0.1", "--tls-certificate", "c", "--tls-key", "k"]
    done = subprocess.run(
        [sys.executable, "-c", RUN_ON_TERMINAL, *arguments],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False, start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "aiomilter: cannot use 'k' for TLS: its private key is encrypted, and a daemon cannot ask for the pass phrase;"
        " store the key without one, as 'openssl pkey -in FILE -out FILE' writes it\n"
    )


@pytest.mark.parametrize("question", ["input()", "__import__('getpass').getpass()"])
@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["", "workers"])
async def test_no_terminal_is_asked_at_a_reload(question: str, options: tuple[str, ...], tmp_path: Path) -> None:
    kind = Kind("current/filter.py")
    write(tmp_path, kind, "1")
    lead_to(tmp_path, "1")
    arguments = ("run", "current/filter.py", "--listen", str(tmp_path / "s"), *options)
    async with running(*arguments, directory=tmp_path, command=("-c", RUN_ON_TERMINAL), own_group=True) as daemon:
        await daemon.logged("listening on|serve new connections")
        (tmp_path / "v1" / "helper.py").write_text(f"{question}\n")
        daemon.send(signal.SIGHUP)
        await daemon.logged("cannot reload: current/filter.py cannot be imported: EOFError: ")
        assert (await deliver(str(tmp_path / "s")))[0] == "filter 1, helper 1"


RUN_ON_TERMINAL: Final = """\
import fcntl, os, pty, sys, termios
ours, its = pty.openpty()
os.dup2(its, 0)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from aiomilter._cli import main
sys.exit(main())
"""
