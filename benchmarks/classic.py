"""A filter written for pymilter, on pymilter and on aiomilter: ``python -m benchmarks classic``.

CPU of the filter's process per message over one UNIX socket, with a connection for each message, and messages a second over one
TCP connection.  Rounds are interleaved, so that both meet the machine in the same state; printed are medians and their ratio,
then JSON.  The load is ``milterload.c``, which behaves as Postfix does.
"""

import argparse
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from aiomilter import __version__
from benchmarks._contenders import machine
from benchmarks._goals import judged, rounds, spread
from tests.compat.rigs import pymilter

__all__ = ["main"]

HERE: Final = Path(__file__).parent
PROGRAM: Final = '''
import sys
import Milter


class Typical(Milter.Base):
    """What most filters do: look at the envelope, collect the content without answering it, add one header field."""

    def connect(self, hostname, family, hostaddr):
        self.client = hostaddr
        return Milter.CONTINUE

    def hello(self, hostname):
        return Milter.CONTINUE

    def envfrom(self, sender, *params):
        self.names, self.size = [], 0
        return Milter.CONTINUE

    def envrcpt(self, recipient, *params):
        return Milter.CONTINUE

    @Milter.noreply
    def header(self, name, value):
        self.names.append(name)
        return Milter.CONTINUE

    @Milter.noreply
    def body(self, chunk):
        self.size += len(chunk)
        return Milter.CONTINUE

    def eom(self):
        self.addheader("X-Seen", str(self.size))
        return Milter.CONTINUE


Milter.factory = Typical
Milter.set_flags(Milter.ADDHDRS)
Milter.runmilter("typical", sys.argv[1], timeout=600)
'''
CASES: Final = {
    "unix, one connection": ("unix", ["--connections", "1", "--reuse", "1000000", "--messages", "2000"]),
    "unix, 16 connections": ("unix", ["--connections", "16", "--reuse", "1000000", "--messages", "2000"]),
    "unix, a connection per message": ("unix", ["--connections", "8", "--reuse", "1", "--messages", "1000"]),
    "tcp, one connection": ("tcp", ["--connections", "1", "--reuse", "1000000", "--duration", "2"]),
}

GOALS: Final = {
    ("unix, one connection", "us CPU/message"): 1.0,
    ("unix, 16 connections", "us CPU/message"): 1.0,
    ("tcp, one connection", "messages/s"): 20.0,
}


def main(arguments: list[str]) -> int:
    """Run all cases, so many rounds of each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks classic", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--minutes", type=float, help="as many rounds as fit, instead of --rounds")
    parser.add_argument("--quick", action="store_true", help="one round, to see that it works")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    if pymilter.missing():
        print(f"missing: {pymilter.missing()}", file=sys.stderr)
        return 1
    found: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        load, program = Path(folder) / "milterload", Path(folder) / "program.py"
        subprocess.run(["cc", "-O2", "-pthread", "-o", load, HERE / "milterload.c"], check=True)
        program.write_text(PROGRAM)
        contenders = {
            "pymilter": [str(pymilter.PYTHON), str(program)],
            "aiomilter": [sys.executable, "-m", "aiomilter", "compat", str(program)],
        }
        served = {
            (name, kind): stack.enter_context(serving(command, address(kind, Path(folder) / name)))
            for name, command in contenders.items()
            for kind in ("unix", "tcp")
        }
        for _ in rounds(1 if options.quick else options.rounds, options.minutes):
            for case, (kind, given) in CASES.items():
                for name in contenders:
                    pid, where = served[name, kind]
                    command = [str(load), *given, "--expect-mods", "1", "--pid", str(pid), "--json", where]
                    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                    found[case][name].append(json.loads(output))
    report(found, options.json)
    return 0


def address(kind: str, path: Path) -> str:
    """Return where one contender listens."""
    if kind == "unix":
        return f"unix:{path}"
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"inet:{free.getsockname()[1]}@127.0.0.1"


@contextmanager
def serving(command: list[str], where: str) -> Iterator[tuple[int, str]]:
    """Start a contender and yield its process id and address."""
    process = subprocess.Popen([*command, where], env={**os.environ, "PYTHONPATH": str(HERE.parent)})
    try:
        while not listens(where):
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} has ended")
            time.sleep(0.05)
        yield process.pid, where
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def listens(where: str) -> bool:
    """Whether anybody listens there."""
    kind, _, rest = where.partition(":")
    with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET) as probe:
        target: Any = rest if kind == "unix" else ("127.0.0.1", int(rest.partition("@")[0]))
        return probe.connect_ex(target) == 0


def report(found: dict[str, dict[str, list[dict[str, Any]]]], path: str | None) -> None:
    """Print medians and ratios, then JSON."""
    print(f"aiomilter {__version__}, pymilter {pymilter.VERSION}, Python {platform.python_version()}")
    print(f"{'':32}{'pymilter':>10}{'spread':>8}{'aiomilter':>10}{'spread':>8}{'ratio':>8}")
    summary: dict[str, Any] = {}
    for case, results in found.items():
        for what, value in (("us CPU/message", cpu), ("messages/s", rate)):
            ours_all, theirs_all = ([*map(value, results[name])] for name in ("aiomilter", "pymilter"))
            ours, theirs = statistics.median(ours_all), statistics.median(theirs_all)
            wanted = GOALS.get((case, what))
            goal = f", {judged(ours / theirs, wanted, least=wanted > 1)}" if wanted else ""
            print(
                f"{case[:31]:32}{theirs:10.1f}{spread(theirs_all):8.0%}{ours:10.1f}{spread(ours_all):8.0%}"
                f"{ours / theirs:8.2f}  {what}{goal}"
            )
            summary[f"{case}: {what}"] = {"pymilter": theirs, "aiomilter": ours, "ratio": ours / theirs}
        share = statistics.median(each["generator"]["cpu_util"] for name in results for each in results[name])
        print(f"{case[:31]:32}{share:10.2f}  of a processor for the generator")
    about = {**machine(), "aiomilter": __version__, "pymilter": pymilter.VERSION}
    found_all = {"about": about, "summary": summary, "rounds": found}
    if path:
        Path(path).write_text(json.dumps(found_all, indent=1) + "\n")


def cpu(result: dict[str, Any]) -> float:
    """Return the filter's microseconds of CPU per message."""
    return float(result["server"]["cpu_us_per_msg"])


def rate(result: dict[str, Any]) -> float:
    """Return messages a second."""
    return float(result["msg_per_s"])
