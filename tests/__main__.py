"""The one door to the checks: ``python -m tests [--shard I/4]... [pytest arguments]``.

Runs the format check, the linter, the type checker and the tests, and says at the end which failed.  The tests run in four
parts beside each other, two that wait for other programs and two that need none (``tests/shards.py``); ``--shard`` runs one
of them, and may be given more than once, without the checks.  Other arguments go to pytest, which then runs in one piece;
with arguments that start with a path only pytest runs: ``python -m tests tests/wire``.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.programs import bare
from tests.shards import SAME_MODULES, SHARDS

ROOT: Final = Path(__file__).parent.parent
STATIC: Final = (
    ("format", [sys.executable, "-m", "ruff", "format", "--check", "."]),
    ("lint", [sys.executable, "-m", "ruff", "check", "."]),
    ("types", [sys.executable, "-m", "mypy"]),
)
PYTEST: Final = (sys.executable, "-m", "pytest")
WHOLE: Final = ("--durations=25",)
"""Arguments of a run of all tests."""


def parts() -> list[tuple[str, ...]]:
    """Return what runs beside each other; the last is shown while it runs, after the other checks."""
    # Where nothing waits for a program, what needs one is skipped at once.
    return [*SAME_MODULES] if bare() else [(name,) for name in (*SHARDS[:2], *SHARDS[:1:-1])]


def tests(shards: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Return the command that runs some parts of the tests."""
    return [*PYTEST, *(f"--shard={name}" for name in shards), *(arguments or WHOLE)]


class Checks:
    """Runs commands, and keeps what failed."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def run(self, name: str, command: Sequence[str]) -> None:
        """Run one to its end."""
        print(f"== {name}: {' '.join(command[1:])}", flush=True)
        began = time.monotonic()
        self._ended(name, subprocess.run(command, cwd=ROOT, check=False).returncode, began)

    @contextmanager
    def beside(self, name: str, command: Sequence[str]) -> Iterator[None]:
        """Run one beside those that run in the block, and print what it printed after them."""
        with tempfile.TemporaryFile() as output:
            began = time.monotonic()
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
            try:
                yield
            finally:
                process.wait()
            output.seek(0)
            print(f"== {name}: {' '.join(command[1:])}", flush=True)
            sys.stdout.buffer.write(output.read())
            self._ended(name, process.returncode, began)

    def _ended(self, name: str, status: int, began: float) -> None:
        print(f"== {name}: {time.monotonic() - began:.0f} s until its end", flush=True)
        if status != 0:
            self.failed.append(name)


def main(arguments: list[str]) -> int:
    """Run every check, all of them even when one fails, and return the exit status of the whole."""
    parser = argparse.ArgumentParser(prog="python -m tests", add_help=False, allow_abbrev=False)
    parser.add_argument("--shard", choices=SHARDS, action="append", dest="shards")
    options, rest = parser.parse_known_args(arguments)
    checks = Checks()
    with ExitStack() as stack:
        whole = not options.shards and not rest
        beside = parts() if whole else [(name,) for name in options.shards or ()]
        shown = beside.pop() if whole else ()
        for names in beside:
            stack.enter_context(checks.beside(f"tests {' '.join(names)}", tests(names, rest)))
        if not options.shards and all(argument.startswith("-") for argument in rest):
            for name, command in STATIC:
                checks.run(name, command)
        if whole:
            checks.run(f"tests {' '.join(shown)}", tests(shown, rest))
        elif not options.shards:
            checks.run("tests", [*PYTEST, *rest])
    print(f"== failed: {', '.join(checks.failed)}" if checks.failed else "== all checks passed", flush=True)
    return 1 if checks.failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
