"""What a message costs in user instructions and system calls, counted exactly: ``python -m benchmarks gates``.

The load is the generator in ``milterload.c``, which behaves as Postfix does: a MACRO packet before every event, ABORT after
messages, packets that need no answer sent with the next that does.  One thing is left out, that Postfix writes what follows
DATA from another process: whether a filter reads both writes at once is chance, which no count may depend on.  A count is the
difference between two runs that differ in the number of messages only, so start-up falls out: bytecode is cached and hashes
are the same in both.  Instructions are valgrind's, which begins to count once the filter is imported; system calls are
strace's.  A machine that is busy with something else splits what the generator writes into more reads, so run it on a quiet
one.  Fails where a count is more than 2 % above its bound.

The bounds are the goals (S1 to S3 in the project's notes on speed), for CPython 3.11 built without profile-guided
optimization, as pyenv builds it.  Another interpreter costs something else, and is counted without being judged by ``--any``.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._contenders import machine

HERE = Path(__file__).parent
# Scenario of the generator; goals and bounds: instructions in thousands on asyncio and uvloop, system calls.
SCENARIOS = {"typical": "typical", "noop": "all-callbacks"}
BOUNDS = {
    ("typical", "asyncio", "instructions"): 470_000.0,
    ("typical", "uvloop", "instructions"): 410_000.0,
    ("noop", "asyncio", "instructions"): 1_100_000.0,
    ("noop", "uvloop", "instructions"): 720_000.0,
    ("typical", "asyncio", "calls"): 11.0,
    ("typical", "uvloop", "calls"): 11.0,
    ("noop", "asyncio", "calls"): 57.0,
    ("noop", "uvloop", "calls"): 57.0,
}
MESSAGES = {"instructions": (100, 300), "calls": (200, 700)}
TOOLS = {
    "instructions": ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=/dev/null"],
    "calls": ["strace", "-c", "-f", "-S", "calls"],
}
START = """
#include <valgrind/callgrind.h>
void start(void) { CALLGRIND_START_INSTRUMENTATION; }
"""


def total(what: str, text: str) -> int:
    """Return the sum that valgrind or strace has printed."""
    if what == "instructions":
        found = re.search(r"Collected : (\d+)", text)
    else:
        found = re.search(r"^\s*100\.00\s+\S+\s+(?:\S+\s+)?(\d+)\s+(?:\d+\s+)?total", text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"gates: expected the total of {TOOLS[what][0]}, found:\n{text[-2000:]}")
    return int(found[1])


def count(what: str, filter_: str, loop: str, messages: int, load: Path, folder: Path) -> int:
    """Serve one filter under a tool that counts, send it so many messages, and return the count."""
    socket = folder / "filter.sock"
    command = [*TOOLS[what], sys.executable, "-m", "benchmarks.filters", str(socket), filter_, loop]
    settled = {"PYTHONHASHSEED": "0", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    if what == "instructions":
        settled["COUNTED_FROM"] = str(folder / "start.so")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | settled
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=HERE.parent, env=environment)
    try:
        while not socket.is_socket() and process.poll() is None:
            time.sleep(0.05)
        time.sleep(0.5)
        options = ["--connections", "16", "--reuse", "1000000", "--warmup", "0", "--messages", str(messages)]
        command = [str(load), "--one-process", "--scenario", SCENARIOS[filter_], *options, f"unix:{socket}"]
        subprocess.run(command, check=True, capture_output=True)
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        # strace does not pass the signal on; valgrind is the filter.
        for pid in children or [str(process.pid)]:
            subprocess.run(["kill", "-TERM", pid], check=True)
        _, text = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.communicate()
    return total(what, text)


def main(arguments: list[str]) -> int:
    """Count everything, print the table and JSON, and return 1 if a bound is passed."""
    missing = [tool for tool in ("cc", "valgrind", "strace", "pgrep") if shutil.which(tool) is None]
    if missing:
        print(f"gates: expected {', '.join(missing)} on the path, found none", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(prog="python -m benchmarks gates", description=__doc__)
    parser.add_argument("--any", action="store_true", help="judge nothing")
    parser.add_argument("--quick", action="store_true", help="few messages, and judge nothing")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    judged = not (options.any or options.quick)
    results = {}
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        load = folder / "milterload"
        subprocess.run(["cc", "-O2", "-pthread", "-o", load, HERE / "milterload.c"], check=True)
        (folder / "start.c").write_text(START)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "start.so", folder / "start.c"], check=True)
        # The first run writes the bytecode that all others read.
        for loop in ("asyncio", "uvloop"):
            count("calls", "typical", loop, 1, load, folder)
        print(f"{'per message':34}{'counted':>12}{'bound':>12}")
        for key, bound in BOUNDS.items():
            filter_, loop, what = key
            few, many = (10, 30) if options.quick else MESSAGES[what]
            low, high = (count(what, filter_, loop, number, load, folder) for number in (few, many))
            found = (high - low) / (many - few)
            over = found > bound * 1.02
            failed = failed or (judged and over)
            results[" ".join(key)] = {"counted": found, "bound": bound}
            print(f"{' '.join(key):34}{found:12,.1f}{bound:12,.0f}{'  above' * over}", flush=True)
    found_all = json.dumps({**machine(), "messages": MESSAGES, "results": results})
    print(found_all)
    if options.json:
        Path(options.json).write_text(found_all + "\n")
    return 1 if failed else 0
