"""What this machine asks for a system call and a context switch, and how Python was built: ``python -m benchmarks probe``.

A ratio to a library in C holds for one kind of machine: libmilter makes many system calls and wakes a thread for each packet,
a filter on an event loop makes few of both, and runs more instructions of Python instead.  These prices say which kind it is.

Each price is the least of many short rounds, since whatever else runs can only make a round longer.  What a loop of Python
costs by itself is taken off with a call that costs the same without the system.
"""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from itertools import repeat
from pathlib import Path
from time import perf_counter_ns
from typing import Final

from benchmarks._contenders import machine

__all__ = ["LABELS", "build", "interpreter", "lines", "main", "prices", "uvloop_version"]

ROUNDS: Final = 200
CALLS: Final = 1000
"""A round; a tenth of these where two processes take turns, so that few rounds are interrupted."""
ECHO: Final = """
import os, sys
source, sink = map(int, sys.argv[1:])
while octet := os.read(source, 1):
    os.write(sink, octet)
"""
LABELS: Final = {
    "python_call_ns": "a call of a Python function",
    "system_call_ns": "a system call (getppid)",
    "pipe_ns": "an octet written to a pipe and read from it, without a switch",
    "switch_ns": "a context switch, to another process on the same processor",
}


def _least(call: Callable[[], object], rounds: int, calls: int) -> float:
    """Return nanoseconds that one call takes in the best round, the loop included."""
    best = float("inf")
    for _ in range(rounds):
        turns = repeat(None, calls)
        started = perf_counter_ns()
        for _ in turns:
            call()
        best = min(best, (perf_counter_ns() - started) / calls)
    return best


def _nothing() -> None:
    """Do nothing, as a function of Python."""


@contextlib.contextmanager
def _one_processor() -> Iterator[None]:
    """Keep to one processor, so that a process that is woken needs a switch; macOS cannot say so."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _pipes(rounds: int) -> tuple[float, float]:
    """Return nanoseconds of a write and a read by one process, and of the same by two that take turns."""
    there, back = os.pipe(), os.pipe()

    def alone() -> None:
        os.write(there[1], b"x")
        os.read(there[0], 1)

    def in_turns() -> None:
        os.write(there[1], b"x")
        os.read(back[0], 1)

    with _one_processor():
        by_one = _least(alone, rounds, CALLS)
        command = [sys.executable, "-ISc", ECHO, str(there[0]), str(back[1])]
        with subprocess.Popen(command, pass_fds=(there[0], back[1])):
            os.close(there[0])
            os.close(back[1])
            try:
                by_two = _least(in_turns, rounds, CALLS // 10)
            finally:
                os.close(there[1])
                os.close(back[0])
    return by_one, by_two


def prices(rounds: int = ROUNDS) -> dict[str, float]:
    """Return nanoseconds for each of LABELS."""
    # Takes and returns what os.getppid does, and asks the system nothing.
    builtin = _least(sys.getrecursionlimit, rounds, CALLS)
    by_one, by_two = _pipes(rounds)
    found = {
        "python_call_ns": _least(_nothing, rounds, CALLS),
        "system_call_ns": _least(os.getppid, rounds, CALLS) - builtin,
        "pipe_ns": by_one,
        # A turn is two writes, two reads and two switches.
        "switch_ns": by_two / 2 - by_one,
    }
    return {what: max(0.0, found[what]) for what in LABELS}


def build(config: Mapping[str, object]) -> str:
    """Return how an interpreter with these variables of ``sysconfig`` was compiled.

    Debian's packages are optimized by profile, and record neither that nor ``-flto``: they leave the flags of both empty.
    """
    configured = str(config.get("CONFIG_ARGS") or "")
    levels = [flag for flag in str(config.get("PY_CFLAGS") or "").split() if flag.startswith("-O")]
    if "--enable-optimizations" in configured:
        profile = "with profile-guided optimization"
    elif config.get("PGO_PROF_USE_FLAG"):
        profile = "without profile-guided optimization"
    else:
        profile = "profile-guided optimization not recorded (Debian's packages have it)"
    said = [levels[-1] if levels else "no -O recorded", profile]
    said += ["link-time optimization"] if "--with-lto" in configured else []
    said += ["debug build"] if config.get("Py_DEBUG") else []
    said += ["free threads"] if config.get("Py_GIL_DISABLED") else []
    return ", ".join(said)


def interpreter() -> str:
    """Return which Python this is, and how it was built."""
    version = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{version}, {platform.python_compiler()}, {build(sysconfig.get_config_vars())}"


def uvloop_version() -> str:
    """Return the version of uvloop, or that there is none."""
    try:
        return metadata.version("uvloop")
    except metadata.PackageNotFoundError:
        return "not installed"


def lines(found: Mapping[str, float], rounds: int = ROUNDS) -> Iterator[str]:
    """Yield what is printed of the prices, the interpreter and how busy the machine is."""
    yield f"{interpreter()}; uvloop {uvloop_version()}"
    for what, label in LABELS.items():
        yield f"{label:66}{found[what]:8.0f} ns"
    load = os.getloadavg()[0]
    yield f"each the least of {rounds} rounds; load {load:.1f} on {os.cpu_count()} processors"


def main(arguments: list[str]) -> int:
    """Print prices and interpreter, and write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks probe", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few rounds, to see that it works")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    rounds = 5 if options.quick else ROUNDS
    found = prices(rounds)
    print(*lines(found, rounds), sep="\n")
    about = machine()
    print(f"{about['date']}, {about['machine']}, {about['system']}")
    if options.json:
        Path(options.json).write_text(
            json.dumps({"about": about, "interpreter": interpreter(), "prices": found}, indent=1) + "\n"
        )
    return 0
