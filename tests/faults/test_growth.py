"""Hostile texts: each parser of foreign text takes time that grows as they do, and raises nothing else than it says."""

import asyncio
import sys
from itertools import islice
from pathlib import Path
from typing import Final

import pytest

from tests.faults.growth.counting import Cost, costs, read
from tests.faults.growth.parsers import CONTROLS, PARSERS
from tests.faults.growth.shapes import NUMBER, Shape, shapes
from tests.faults.report import Report
from tests.programs import need, program

SEED: Final = "1"
COUNTED: Final = 1
"""Shapes for each parser whose instructions are counted; times its weight."""
READ: Final = 60
"""Shapes for each parser that are only read."""


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_raises_what_it_says(name: str) -> None:
    """No RecursionError, IndexError or UnicodeError, whatever the text, nor a warning; deep ones as well."""
    parser = PARSERS[name]
    for number, shape in enumerate(islice(shapes(f"{SEED} {name}", parser.atoms), READ * parser.weight)):
        for size in (0, 40, 300, *([round(20_000 * parser.scale)] if number < READ // 6 else [])):
            try:
                read(parser, shape.text(size))
            except Exception as error:
                raise AssertionError(f"{name}: {type(error).__name__} for {size} of {shape}") from error


def missing() -> str | None:
    """What this machine lacks to count; None if nothing."""
    for tool in ("valgrind", "cc"):
        if program(tool) is None:
            return f"{tool} is not on the path, which the count of instructions needs"
    return None if Path("/usr/include/valgrind/callgrind.h").exists() else "valgrind has no headers (callgrind.h)"


@pytest.fixture(scope="module")
def counted(report: Report) -> list[Cost]:
    """What texts cost, in instructions, those of regular expressions and methods of ``str`` as well."""
    need(missing())
    found = costs(SEED, COUNTED, [*(name for name, parser in PARSERS.items() if parser.grows), *CONTROLS])
    report.lines.append(
        f"growth: {sum(sum(cost.counts) for cost in found) / 1e6:.0f} million instructions, seed {SEED}"
    )
    return found


@pytest.mark.interop
@pytest.mark.slow
def test_a_text_of_twice_the_length_costs_twice_as_much(counted: list[Cost]) -> None:
    assert [str(cost) for cost in counted if not cost.linear and cost.parser in PARSERS] == []


@pytest.mark.interop
@pytest.mark.slow
def test_what_takes_time_with_the_square_is_told_from_what_does_not(counted: list[Cost]) -> None:
    """Python's own share in these is next to nothing: counted in its lines they would be alike."""
    controls = {(cost.parser, cost.linear) for cost in counted if cost.parser in CONTROLS}

    assert controls == {("scanned anew", False), ("copied anew", False), ("once", True)}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="one Python is enough")
@pytest.mark.parametrize("seed", ["2", "3", "4"])
async def test_other_texts_take_no_longer(seed: str, report: Report) -> None:
    """Larger ones, measured: what is found this way is for a count to prove."""
    command = (sys.executable, "-m", "tests.faults.growth", "--seed", seed, "--shapes", "100")
    process = await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=-2)
    said = (await process.communicate())[0].decode(errors="replace")
    report.lines.extend(line for line in said.splitlines() if not line.endswith(" s"))

    assert process.returncode == 0, said


def test_a_shape_has_the_size_that_is_asked_for() -> None:
    shape = Shape("<", ("ab", "c"), "|", ">")
    assert shape.text(0) == "<ab|c>"
    assert shape.text(12) == "<ababab|ccc>"[:12]
    assert Shape("", (f"a{NUMBER};",)).text(16) == "a0;a1;a2;a3;a4;"


def test_a_seed_makes_the_same_shapes() -> None:
    assert list(islice(shapes("1", "ab"), 20)) == list(islice(shapes("1", "ab"), 20))
    assert list(islice(shapes("1", "ab"), 20)) != list(islice(shapes("2", "ab"), 20))


@pytest.mark.parametrize(
    ("counts", "linear"),
    [
        ((100_000, 200_000, 400_000), True),
        ((100_000, 400_000, 1_600_000), False),
        ((1_000_000, 1_030_000, 1_150_000), True),  # a quadratic part that does not matter yet
        ((900_000, 800_000, 1_600_000), True),  # a bound was reached
        ((5000, 5000, 5000), True),
    ],
)
def test_twice_as_much_may_cost_a_little_more_than_twice(counts: tuple[int, ...], linear: bool) -> None:
    assert Cost("x", Shape("", ("a",)), counts).linear is linear
