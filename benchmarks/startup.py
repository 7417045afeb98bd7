"""How long until a filter is there: ``python -m benchmarks startup``.

``import`` is a new interpreter that imports aiomilter, with its bytecode cached, less one that imports nothing; ``listening``
is from the start of ``aiomilter run`` with a filter to its socket.  Fails where ``import aiomilter`` brings what nobody needs
who does not ask for it: a library for DNS, cryptography or SMTP.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiomilter
from benchmarks._contenders import machine
from benchmarks._goals import judged, spread

UNASKED = ("dns", "aiodns", "pycares", "cryptography", "aiosmtpd", "smtplib", "uvloop")
"""Modules that ``import aiomilter`` may not bring."""
CACHING = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""Where bytecode is cached, as it is where nobody asks for the contrary."""
FILTER = """
import aiomilter


class Filter(aiomilter.Milter):
    async def eom(self, ctx: aiomilter.EndOfMessageContext) -> None:
        ctx.add_header("X-Seen", "yes")
"""


def seconds(statement: str) -> float:
    """Return how long an interpreter takes for a statement."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, env=CACHING)
    return time.perf_counter() - started


def unasked() -> list[str]:
    """Return those of UNASKED that an interpreter has after ``import aiomilter``."""
    statement = f"import sys, aiomilter; print(*(name for name in {UNASKED!r} if name in sys.modules))"
    return subprocess.run([sys.executable, "-c", statement], check=True, capture_output=True, text=True).stdout.split()


def listening(folder: Path) -> float:
    """Return seconds from the command to the socket."""
    socket, source = folder / "filter.sock", folder / "filter.py"
    source.write_text(FILTER)
    socket.unlink(missing_ok=True)
    started = time.perf_counter()
    command = [sys.executable, "-m", "aiomilter", "run", f"{source}:Filter", "--listen", f"unix:{socket}"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=CACHING)
    try:
        while not socket.is_socket():
            if process.poll() is not None:
                raise SystemExit(f"startup: the filter ended with {process.returncode}")
            time.sleep(0.001)
        return time.perf_counter() - started
    finally:
        process.terminate()
        process.wait()


def main(arguments: list[str]) -> int:
    """Measure, print medians in milliseconds, and write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks startup", description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--quick", action="store_true", help="three rounds, to see that it works")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    found: dict[str, list[float]] = {"nothing": [], "import": [], "asyncio": [], "listening": []}
    with tempfile.TemporaryDirectory() as name:
        seconds("import aiomilter.daemon")
        for _ in range(3 if options.quick else options.rounds):
            nothing = seconds("pass")
            found["nothing"].append(nothing)
            found["import"].append(seconds("import aiomilter") - nothing)
            found["asyncio"].append(seconds("import asyncio") - nothing)
            found["listening"].append(listening(Path(name)))
    medians = {what: statistics.median(each) * 1000 for what, each in found.items()}
    for what, median in medians.items():
        goal = f", {judged(median, 120)}" if what == "import" else ""
        print(f"{what:12}{median:8.1f} ms, spread {spread(found[what]):.0%}{goal}")
    brought = unasked()
    print(f"import aiomilter brings {', '.join(brought) or 'none'} of {', '.join(UNASKED)}")
    print(f"aiomilter {aiomilter.__version__}, Python {platform.python_version()}, {platform.platform()}")
    if options.json:
        Path(options.json).write_text(
            json.dumps(
                {
                    "about": {**machine(), "aiomilter": aiomilter.__version__},
                    "medians_ms": medians,
                    "unasked": brought,
                    "seconds": found,
                },
                indent=1,
            )
            + "\n"
        )
    return 1 if brought else 0
