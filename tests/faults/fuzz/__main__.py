"""Fuzz one target with Atheris: ``python -m tests.faults.fuzz TARGET [--seconds N | --inputs N] [--keep]``.

An input that breaks a promise is printed as a line for the corpus, with the traceback, and the exit status is 1.
"""

import argparse
import contextlib
import importlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.faults.fuzz.corpus import read, write

# What libFuzzer says of a run: how much it has tried, how much of the code that reaches.
_DONE = re.compile(r"Done (\d+) runs")
_COVER = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")


def main() -> int:
    """Run libFuzzer in a process of its own, since it ends the one it runs in."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--inputs", type=int, help="try so many, the same every time, however long that takes")
    parser.add_argument("--keep", action="store_true", help="put what reaches something new into the corpus")
    parser.add_argument("--inside", help=argparse.SUPPRESS, nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.inside is not None:
        _fuzz(options.target, options.inside)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as work:
        seeds, found = Path(work, "seeds"), Path(work, "found")
        seeds.mkdir()
        found.mkdir()
        for number, octets in enumerate(read(options.target)):
            seeds.joinpath(f"{number:04}").write_bytes(octets)
        limits = ["-max_len=2000", "-rss_limit_mb=2048", "-timeout=20", f"-artifact_prefix={work}/"]
        bound = [f"-runs={options.inputs}", "-seed=1"] if options.inputs else [f"-max_total_time={options.seconds}"]
        status, said = _inside(options.target, [*bound, *limits, str(found), str(seeds)])
        done, covers = _DONE.findall(said), _COVER.findall(said)
        edges, features, kept = covers[-1] if covers else ("0", "0", "0")
        print(
            f"fuzz {options.target}: {done[-1] if done else 0} inputs, {edges} edges, {features} features, corpus {kept}"
        )
        for artifact in Path(work).glob("*-*"):
            print(f"{artifact.name.partition('-')[0]}: {artifact.read_bytes().hex()}\n{said[-6000:]}")
            status = 1
        if options.keep and status == 0:
            write(options.target, [path.read_bytes() for path in (*seeds.iterdir(), *found.iterdir())])
    return status


def _inside(target: str, arguments: list[str]) -> tuple[int, str]:
    command = [sys.executable, "-m", "tests.faults.fuzz", target, "--inside", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        print(text[-6000:], file=sys.stderr)
    return int(done.returncode != 0), text


def _fuzz(name: str, arguments: list[str]) -> None:
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["aiomilter"]), contextlib.redirect_stdout(open(os.devnull, "w")):
        from tests.faults.fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    raise SystemExit(main())
