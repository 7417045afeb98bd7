"""The filters that are compared, each in a process of its own, and the generator that sends them mail.

Peers are built in a folder of the benchmark's; what cannot be built is named with the reason.
"""

import compileall
import contextlib
import json
import os
import platform
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
PEERS: Final = HERE / "peers"
PYMILTER: Final = "pymilter==1.0.5"
PUREPYTHONMILTER: Final = "purepythonmilter==0.0.1"
PYTHON_LIBMILTER: Final = "python-libmilter==2.0.0"
_TOO_LONG: Final = 600
"""Seconds after which a round has failed."""


@dataclass(frozen=True)
class Contender:
    """A way to run the measured filters.

    Args:
        name: In the table.
        version: Of the library and what runs it.
        command: Gives the command that serves a filter on an address.
        tcp: It can listen on nothing else.
        pace: Share of the messages of a round that it gets, so that a slow one does not take the time of all.
    """

    name: str
    version: str
    command: Callable[[str, str], list[str]]
    tcp: bool = False
    pace: float = 1.0


@dataclass
class Field:
    """Who takes part.

    Args:
        folder: For builds and sockets.
        load: The generator.
        contenders: Who runs here.
        missing: Who does not, and why.
    """

    folder: Path
    load: Path
    contenders: list[Contender] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


def output(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """Run a command and return what it prints.

    Raises:
        RuntimeError: It is not there, or failed.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})})
    except OSError as error:
        raise RuntimeError(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name}: {done.stderr.strip().splitlines()[-1:] or done.returncode}")
    return done.stdout.strip()


def ours() -> Iterator[Contender]:
    """Yield aiomilter on both event loops."""
    import aiomilter

    python = platform.python_version()
    for loop in ("asyncio", "uvloop"):
        with contextlib.suppress(ImportError):
            found = __import__(loop)
            version = f"aiomilter {aiomilter.__version__}, Python {python}"
            if loop == "uvloop":
                version += f", uvloop {found.__version__}"
            yield Contender(f"aiomilter {loop}", version, partial(_filters, loop))


def _filters(loop: str, kind: str, at: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.filters", at.removeprefix("unix:"), kind, loop]


def libmilter(folder: Path) -> Contender:
    """Build the C filter."""
    binary = folder / "libmilter"
    output("cc", "-O2", "-o", binary, PEERS / "filter.c", "-lmilter", "-lpthread")
    version = output("dpkg-query", "-W", "-f=${Version}", "libmilter-dev") if shutil.which("dpkg-query") else "?"
    return Contender("libmilter C", f"libmilter {version}", lambda kind, at: [str(binary), at, kind])


def pymilter(folder: Path) -> Contender:
    """Build pymilter in an environment of its own."""
    prefix = folder / "pymilter"
    output(sys.executable, "-m", "venv", prefix)
    python = prefix / "bin/python"
    output(python, "-m", "pip", "install", "-q", "setuptools>=65", "wheel")
    output(python, "-m", "pip", "install", "-q", "--no-build-isolation", PYMILTER)
    version = f"{PYMILTER.replace('==', ' ')}, Python {platform.python_version()}"
    return Contender("pymilter", version, lambda kind, at: [str(python), str(PEERS / "classic.py"), at, kind])


def _installed(folder: Path, requirement: str) -> tuple[str, str]:
    """Install a peer in an environment of its own; return its interpreter and its version."""
    prefix = folder / requirement.partition("==")[0]
    output(sys.executable, "-m", "venv", prefix)
    python = prefix / "bin/python"
    output(python, "-m", "pip", "install", "-q", requirement)
    return str(python), f"{requirement.replace('==', ' ')}, Python {platform.python_version()}"


def purepythonmilter(folder: Path) -> Contender:
    """Install purepythonmilter, which listens on TCP only."""
    python, version = _installed(folder, PUREPYTHONMILTER)

    def command(kind: str, at: str) -> list[str]:
        port, _, host = at.removeprefix("inet:").partition("@")
        return [python, str(PEERS / "pure.py"), host, port, kind]

    return Contender("purepythonmilter", f"{version}, over TCP in every scenario", command, tcp=True, pace=0.1)


def python_libmilter(folder: Path) -> Contender:
    """Install python-libmilter."""
    python, version = _installed(folder, PYTHON_LIBMILTER)

    def command(kind: str, at: str) -> list[str]:
        scheme, _, rest = at.partition(":")
        port, _, host = rest.partition("@")
        return [python, str(PEERS / "threads.py"), f"inet:{host}:{port}" if scheme == "inet" else rest, kind]

    return Contender("python-libmilter", f"{version}, a thread a connection", command, pace=0.25)


def compat(folder: Path) -> Contender:
    """Run pymilter's program on ours."""
    output(sys.executable, "-c", "import aiomilter.compat")
    command = [sys.executable, "-m", "aiomilter", "compat", str(PEERS / "classic.py")]
    return Contender("aiomilter compat", "pymilter's program", lambda kind, at: [*command, at, kind])


def go(folder: Path) -> Contender:
    """Build the Go filter on Debian's library."""
    binary = folder / "go"
    settings = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(folder / "gocache")}
    output("go", "build", "-o", binary, PEERS / "filter.go", env=settings)
    package = output("dpkg-query", "-W", "-f=${Version}", "golang-github-emersion-go-milter-dev")

    def command(kind: str, at: str) -> list[str]:
        scheme, _, rest = at.partition(":")
        if scheme == "inet":
            port, _, host = rest.partition("@")
            return [str(binary), "tcp", f"{host}:{port}", kind]
        return [str(binary), "unix", rest, kind]

    return Contender("go-milter", f"go-milter {package}, {output('go', 'version')[11:]}", command)


PEERS_BUILT: Final[dict[str, Callable[[Path], Contender]]] = {
    "libmilter C": libmilter,
    "pymilter": pymilter,
    "aiomilter compat": compat,
    "go-milter": go,
    "purepythonmilter": purepythonmilter,
    "python-libmilter": python_libmilter,
}


def prepare(folder: Path, names: list[str] | None = None) -> Field:
    """Build the generator and who takes part.

    Args:
        folder: To build in.
        names: Of the contenders; all if None.
    """
    load = folder / "milterload"
    # What a start that compiles ours leaves free, connections would take: a third less memory than in truth.
    for package in (HERE.parent / "aiomilter", HERE):
        compileall.compile_dir(package, quiet=1)
    output("cc", "-O2", "-pthread", "-o", load, HERE / "milterload.c")
    found = Field(folder, load)
    found.contenders += [each for each in ours() if names is None or each.name in names]
    for name, build in PEERS_BUILT.items():
        if names is None or name in names:
            try:
                found.contenders.append(build(folder))
            except RuntimeError as error:
                found.missing[name] = str(error)
    return found


def address(taking: Field, contender: Contender, *, tcp: bool = False) -> str:
    """Return where a contender is to listen: a UNIX socket, unless TCP is asked for or all it can do."""
    if not (tcp or contender.tcp):
        return f"unix:{taking.folder / 'filter.sock'}"
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"inet:{free.getsockname()[1]}@127.0.0.1"


def raise_limit() -> int:
    """Allow as many descriptors as the system lets us, and return how many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


@contextlib.contextmanager
def serving(contender: Contender, kind: str, at: str) -> Iterator[int]:
    """Serve a filter while inside; give its process id."""
    scheme, _, rest = at.partition(":")
    path = Path(rest)
    if scheme == "unix":
        path.unlink(missing_ok=True)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(contender.command(kind, at), stdout=log, stderr=log, cwd=HERE.parent)
    try:
        until = time.monotonic() + 20
        while not _listens(at) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)
        if process.poll() is not None:
            raise RuntimeError(f"{contender.name}: the filter ended with {process.returncode}")
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(where: str) -> bool:
    scheme, _, rest = where.partition(":")
    if scheme == "unix":
        return Path(rest).is_socket()
    port, _, host = rest.partition("@")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def send(load: Path, pid: int, at: str, *options: str | int) -> dict[str, Any]:
    """Have the generator send messages and return what it found.

    Raises:
        RuntimeError: Not every message was answered as expected.
    """
    command = [str(load), "--json", "--timeout", "15", "--pid", str(pid), *map(str, options), at]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TOO_LONG)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"messages were not answered within {_TOO_LONG} s") from None
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise RuntimeError(f"the generator failed: {done.stderr[-300:]}") from None
    if found.get("errors"):
        raise RuntimeError(f"the generator saw errors: {found['error_kinds']}")
    return found


def machine() -> dict[str, str]:
    """Return the date, and what was measured on."""
    models: list[str] = []
    with contextlib.suppress(OSError):
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} x {models[0].partition(':')[2].strip() if models else platform.machine()}",
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def about(taking: Field) -> dict[str, Any]:
    """Return date, machine, versions, and who is missing."""
    return {
        **machine(),
        "versions": {each.name: each.version for each in taking.contenders},
        "missing": taking.missing,
    }


def report(found: dict[str, Any], path: str | None) -> None:
    """Print who took part, and write everything as JSON."""
    for name, version in found["about"]["versions"].items():
        print(f"{name}: {version}")
    for name, reason in found["about"]["missing"].items():
        print(f"{name}: missing, {reason}")
    print(f"{found['about']['date']}, {found['about']['machine']}, {found['about']['system']}")
    if path:
        Path(path).write_text(json.dumps(found, indent=1) + "\n")
