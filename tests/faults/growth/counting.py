"""What it costs to read a text, in instructions: valgrind counts them, those inside of ``re`` and ``str`` as well.

One process reads all texts.  It runs uncounted until everything is imported, and marks where a text begins and ends by
functions of ``count.c``; valgrind writes a file for each, which holds the sum.  The same texts cost the same every time, on a
busy machine as well.
"""

import contextlib
import ctypes
import gc
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from tests.faults.growth.parsers import CONTROLS, PARSERS, Parser
from tests.faults.growth.shapes import Shape, shapes

__all__ = ["SIZES", "Cost", "costs", "read"]

SIZES: Final = (500, 1000, 2000)
"""Characters of the texts of a shape."""
_ALL: Final = {**PARSERS, **CONTROLS}
_ROOT: Final = Path(__file__).parents[3]
_SOURCE: Final = Path(__file__).parent / "count.c"
_TIME: Final = 600
"""Seconds after which a parser hangs."""
_NOISE: Final = 40_000
"""Instructions that a text may cost more for other reasons: an allocation, or a table that is full."""
_SLOPE: Final = 3.0
"""How many times as much the second half of the longest text may cost as the first: twice is to be expected, since the shortest
is a quarter of it."""
_RATIO: Final = 2.8
"""How many times as much the longest text may cost as the one of half its length, if that is not so: where a bound is reached
there may be a step."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What the texts of a shape cost.

    Args:
        parser: Name of the parser that reads them.
        shape: Theirs.
        counts: Instructions, one number for each size.
    """

    parser: str
    shape: Shape
    counts: Sequence[int]

    @property
    def linear(self) -> bool:
        """Whether what is added to a text costs as much as what was there."""
        shortest, half, longest = self.counts
        even = longest - half <= _SLOPE * max(half - shortest, 0) + _NOISE
        return even or longest <= _RATIO * half

    def __str__(self) -> str:
        """Return a line that says how to read the same texts again."""
        return f"{self.parser}: {', '.join(map(str, self.counts))} instructions for {SIZES} of {self.shape}"


def costs(seed: str, number: int, parsers: Iterable[str] = PARSERS) -> list[Cost]:
    """Count what so many shapes cost for each of these parsers."""
    with tempfile.TemporaryDirectory(prefix="growth-") as name:
        folder = Path(name)
        library = folder / "count.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, _SOURCE], check=True)
        command = [
            "valgrind",
            "--tool=callgrind",
            "--instr-atstart=no",
            "--dump-line=no",
            f"--callgrind-out-file={folder}/out",
        ]
        command += [sys.executable, "-m", __name__, str(library), seed, str(number), *parsers]
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        with (folder / "said").open("w+") as said:
            done = subprocess.run(
                command, cwd=_ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT, timeout=_TIME, check=False
            )
            said.seek(0)
            text = said.read()
        if done.returncode != 0:
            raise AssertionError(f"counting ended with {done.returncode}:\n{text[-4000:]}")
        planned = list(plan(seed, number, parsers))
        counts = [_count(folder / f"out.{dump + 1}") for dump in range(len(planned) * len(SIZES))]
    steps = len(SIZES)
    return [Cost(name, shape, counts[at * steps : (at + 1) * steps]) for at, (name, shape) in enumerate(planned)]


def _count(dump: Path) -> int:
    found = re.search(r"^(?:summary|totals): (\d+)", dump.read_text(), re.MULTILINE)
    assert found is not None, dump
    return int(found[1])


def plan(seed: str, number: int, parsers: Iterable[str]) -> Iterator[tuple[str, Shape]]:
    """Yield what is counted, in its order."""
    for name in parsers:
        parser = _ALL[name]
        yield from ((name, shape) for shape in islice(shapes(f"{seed} {name}", parser.atoms), number * parser.weight))


def main(library: str, seed: str, number: str, *names: str) -> None:
    """Read the texts; the process that valgrind runs."""
    count = ctypes.CDLL(library)
    # Each is warm once it has read a text, so that the counts begin with nothing that happens once.
    for name, shape in plan(seed, int(number), names):
        read(_ALL[name], shape.text(50))
    gc.disable()
    count.start()
    for name, shape in plan(seed, int(number), names):
        print(name, shape, flush=True)
        for size in SIZES:
            text = shape.text(round(size * _ALL[name].scale))
            count.begin()
            read(_ALL[name], text)
            count.end()
    count.stop()


def read(parser: Parser, text: str) -> None:
    """Have a parser read a text; what it says that it raises is an answer as well."""
    with contextlib.suppress(*parser.raises):
        parser.read(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
