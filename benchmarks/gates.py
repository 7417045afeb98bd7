"""What a message costs in user instructions and system calls, counted exactly: ``python -m benchmarks gates``.

The load is the generator in ``milterload.c``, which behaves as Postfix does: a MACRO packet before every event, ABORT after
messages, packets that need no answer sent with the next that does.  One thing is left out, that Postfix writes what follows
DATA from another process: whether a filter reads both writes at once is chance, which no count may depend on.

Instructions are counted in process: one conversation is recorded from the generator, and fed to the protocol batch by batch
(``_feeding.py``), so the count is the same on a busy machine; it is what aiomilter and the filter cost, without the event loop
and the system.  They are counted with both readers of the protocol, the rest with the compiled one; without it these are left
out.  System calls are counted over a socket, where a machine that is busy splits what the generator writes into
more reads, so run that on a quiet one.  ``--sockets`` counts instructions over sockets, too, on both event loops, and judges
none of these.

A count is the difference between two runs that differ in the number of messages only, so start-up falls out: bytecode is
cached and hashes are the same in both.  Instructions are valgrind's, system calls strace's.  Fails where a count is more than
2 % above its bound.

The bounds are for CPython 3.11 built without profile-guided optimization, as pyenv builds it.  Another interpreter costs
something else, and is counted without being judged by ``--any``.

``--log`` counts instead what observing costs, and judges nothing: metrics, the log of ``aiomilter run`` as text and as JSON,
the inspector beside the text, and a shadow, which is counted with turns of the event loop, for it runs in a Task.
"""

import argparse
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from aiomilter.wire.readers import COMPILED
from benchmarks._contenders import machine
from benchmarks._feeding import record

HERE = Path(__file__).parent
# Scenario of the generator.
SCENARIOS = {"typical": "typical", "noop": "all-callbacks"}
FED = {"fed, compiled": "0", "fed, Python": "1"}
"""Fed in process, with each reader of the protocol: ``AIOMILTER_PURE`` in its environment."""
BOUNDS: dict[tuple[str, str, str], float] = {
    ("typical", "fed, compiled", "instructions"): 236_000.0,
    ("typical", "fed, Python", "instructions"): 421_000.0,
    ("noop", "fed, compiled", "instructions"): 454_000.0,
    ("noop", "fed, Python", "instructions"): 720_000.0,
    ("typical", "asyncio", "calls"): 11.0,
    ("typical", "uvloop", "calls"): 11.0,
    ("noop", "asyncio", "calls"): 57.0,
    ("noop", "uvloop", "calls"): 57.0,
}
OVER_SOCKETS = [(filter_, loop, "instructions") for filter_ in ("typical", "noop") for loop in ("asyncio", "uvloop")]
MESSAGES = {"instructions": (50, 150), "calls": (200, 700)}
OBSERVED: dict[str, str | None] = {
    "": None,
    "metrics": "",
    "text": "",
    "json": "",
    "inspected": "text",
    "in-turns": None,
    "composed": "in-turns",
    "shadow": "composed",
}
"""What observes, as ``_feeding`` has it, and what it is compared with."""
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


def environment(what: str, folder: Path) -> dict[str, str]:
    """Return the environment of a process that is counted: the same in each."""
    settled = {"PYTHONHASHSEED": "0", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    if what == "instructions":
        settled["COUNTED_FROM"] = str(folder / "start.so")
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | settled


def count(what: str, filter_: str, loop: str, messages: int, load: Path, folder: Path, observing: str = "") -> int:
    """Give one filter so many messages under a tool that counts, and return the count; ``observing`` as in OBSERVED."""
    if loop in FED:
        command = [*TOOLS[what], sys.executable, "-m", "benchmarks._feeding", str(folder / f"{filter_}.json"), filter_]
        done = subprocess.run(
            [*command, str(messages), *([observing] if observing else [])],
            capture_output=True,
            text=True,
            cwd=HERE.parent,
            env=environment(what, folder) | {"AIOMILTER_PURE": FED[loop]},
        )
        return total(what, done.stderr)
    socket = folder / "filter.sock"
    command = [*TOOLS[what], sys.executable, "-m", "benchmarks.filters", str(socket), filter_, loop]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=HERE.parent, env=environment(what, folder)
    )
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


def observed(load: Path, folder: Path) -> None:
    """Count a typical message as it is observed in each way, and print how much that is of the message without."""
    record(load, SCENARIOS["typical"], "typical", folder)
    loop = "fed, compiled" if COMPILED else "fed, Python"
    few, many = MESSAGES["instructions"]
    print(f"{'typical message':34}{'counted':>12}{'times':>12}  of")
    counted: dict[str, float] = {}
    for observing, of in OBSERVED.items():
        # The first run writes the bytecode that the others read.
        _, low, high = (
            count("instructions", "typical", loop, each, load, folder, observing) for each in (1, few, many)
        )
        counted[observing] = found = (high - low) / (many - few)
        ratio = "" if of is None else f"{found / counted[of]:12.3f}  {of or 'off'}"
        print(f"{observing or 'off':34}{found:12,.1f}{ratio}", flush=True)


def main(arguments: list[str]) -> int:
    """Count everything, print the table and JSON, and return 1 if a bound is passed."""
    missing = [tool for tool in ("cc", "valgrind", "strace", "pgrep") if shutil.which(tool) is None]
    if missing:
        print(f"gates: expected {', '.join(missing)} on the path, found none", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(prog="python -m benchmarks gates", description=__doc__)
    parser.add_argument("--any", action="store_true", help="judge nothing")
    parser.add_argument("--quick", action="store_true", help="few messages, and judge nothing")
    parser.add_argument("--sockets", action="store_true", help="count instructions over sockets, too")
    parser.add_argument(
        "--log", action="store_true", help="count what log, metrics, inspector and shadow cost, and judge nothing"
    )
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    judged = not (options.any or options.quick)
    results = {}
    failed = False
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        load = folder / "milterload"
        subprocess.run(["cc", "-O2", "-pthread", "-o", load, HERE / "milterload.c"], check=True)
        (folder / "start.c").write_text(START)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "start.so", folder / "start.c"], check=True)
        if options.log:
            observed(load, folder)
            return 0
        # The first run writes the bytecode that all others read.
        for loop in ("asyncio", "uvloop"):
            count("calls", "typical", loop, 1, load, folder)
        print(f"{'per message':34}{'counted':>12}{'bound':>12}")
        for filter_, scenario in SCENARIOS.items():
            record(load, scenario, filter_, folder)
        wanted: dict[tuple[str, str, str], float] = BOUNDS
        if options.sockets:
            wanted = BOUNDS | dict.fromkeys(OVER_SOCKETS, math.inf)
        if not COMPILED:
            print("no compiled reader: aiomilter was installed without a C compiler, or AIOMILTER_PURE is set")
            wanted = {key: bound for key, bound in wanted.items() if key[1] != "fed, compiled"}
        pool = stack.enter_context(ThreadPoolExecutor(os.cpu_count()))
        numbers = {what: (10, 30) if options.quick else both for what, both in MESSAGES.items()}
        # All that are fed at once, since no load changes these counts; they come first, and the rest is counted alone.
        fed = {
            (filter_, loop, what): [
                pool.submit(count, what, filter_, loop, number, load, folder) for number in numbers[what]
            ]
            for filter_, loop, what in wanted
            if loop in FED
        }
        for key, bound in wanted.items():
            filter_, loop, what = key
            few, many = numbers[what]
            if key in fed:
                low, high = (each.result() for each in fed[key])
            else:
                low, high = (count(what, filter_, loop, number, load, folder) for number in numbers[what])
            found = (high - low) / (many - few)
            over = found > bound * 1.02
            failed = failed or (judged and over)
            results[" ".join(key)] = {"counted": found, "bound": bound if bound < math.inf else None}
            shown = f"{bound:12,.0f}" if bound < math.inf else ""
            print(f"{' '.join(key):34}{found:12,.1f}{shown}{'  above' * over}", flush=True)
    found_all = json.dumps({**machine(), "messages": MESSAGES, "results": results})
    print(found_all)
    if options.json:
        Path(options.json).write_text(found_all + "\n")
    return 1 if failed else 0
