"""Fuzz targets with Atheris: ``python -m tests.faults.fuzz TARGET[=INPUTS]... [--seconds N] [--keep]``.

``TARGET=INPUTS`` tries so many inputs, the same every time, however long that takes.  An input that breaks a promise is printed
as a line for the corpus, with the traceback, and the exit status is 1.
"""

import argparse
import contextlib
import ctypes
import importlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.faults.fuzz.corpus import read, write

# What libFuzzer says of a run: how much it has tried, how much of the code that reaches.
_DONE = re.compile(r"Done (\d+) runs")
_COVER = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")


def main() -> int:
    """Run libFuzzer for each target."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="+", metavar="TARGET[=INPUTS]")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", action="store_true", help="put what reaches something new into the corpus")
    options = parser.parse_args()
    atheris: Any = importlib.import_module("atheris")
    # What takes longest, so it is done once for all targets.
    with atheris.instrument_imports(include=["aiomilter"]), contextlib.redirect_stderr(io.StringIO()):
        from tests.faults.fuzz.targets import TARGETS
    failed = False
    for each in options.targets:
        name, _, inputs = each.partition("=")
        bound = [f"-runs={int(inputs)}", "-seed=1"] if inputs else [f"-max_total_time={options.seconds}"]
        failed |= not _tried(atheris, TARGETS, name, bound, options.keep)
    return int(failed)


def _tried(
    atheris: Any, targets: Mapping[str, Callable[[bytes], None]], name: str, bound: list[str], keep: bool
) -> bool:
    """Fuzz one target, and print what came of it; return whether no promise was broken."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as work:
        seeds, found = Path(work, "seeds"), Path(work, "found")
        seeds.mkdir()
        found.mkdir()
        for number, octets in enumerate(read(name)):
            seeds.joinpath(f"{number:04}").write_bytes(octets)
        limits = ["-max_len=2000", "-rss_limit_mb=2048", "-timeout=20", f"-artifact_prefix={work}/"]
        arguments = [sys.argv[0], *bound, *limits, str(found), str(seeds)]
        good, said = _forked(lambda: _fuzz(atheris, targets[name], arguments), Path(work, "said"))
        done, covers = _DONE.findall(said), _COVER.findall(said)
        edges, features, kept = covers[-1] if covers else ("0", "0", "0")
        print(f"fuzz {name}: {done[-1] if done else 0} inputs, {edges} edges, {features} features, corpus {kept}")
        if not good:
            print(said[-6000:], file=sys.stderr)
        for artifact in Path(work).glob("*-*"):
            print(f"{artifact.name.partition('-')[0]}: {artifact.read_bytes().hex()}\n{said[-6000:]}")
            good = False
        if keep and good:
            write(name, [path.read_bytes() for path in (*seeds.iterdir(), *found.iterdir())])
    return good


def _forked(fuzz: Callable[[], None], output: Path) -> tuple[bool, str]:
    """Call in a process of its own, since libFuzzer ends the one it runs in; return whether it ended well, and what it said."""
    sys.stdout.flush()
    if (pid := os.fork()) == 0:
        with output.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        try:
            fuzz()
        finally:
            # Not os._exit: libFuzzer writes the input that broke a promise as the process exits.
            ctypes.CDLL(None).exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status == 0, output.read_text("utf-8", errors="replace")


def _fuzz(atheris: Any, target: Callable[[bytes], None], arguments: list[str]) -> None:
    atheris.Setup(arguments, target)
    atheris.Fuzz()


if __name__ == "__main__":
    raise SystemExit(main())
