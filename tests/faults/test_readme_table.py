"""The chapter "When things go wrong" of README.rst: each row names what shows it, and that is there."""

import re
from pathlib import Path
from typing import Final

from aiomilter.options import Options
from tests.faults.matrix import FAULTS

ROOT: Final = Path(__file__).parents[2]
CHAPTER: Final = (ROOT / "README.rst").read_text().partition("\nWhen things go wrong\n")[2].partition("\n----")[0]
ROWS: Final = [[" ".join(cell.split()) for cell in re.split(r"\n     -", row)] for row in CHAPTER.split("\n   * -")[2:]]


def test_each_row_has_five_cells_and_names_what_shows_it() -> None:
    assert len(ROWS) > 20
    assert [row for row in ROWS if len(row) != 5] == []
    assert [row for row in ROWS if not re.search(r"tests/|\"", row[4])] == []


def test_each_test_that_a_row_names_is_there() -> None:
    named = [test for row in ROWS for test in re.findall(r"(tests/[\w/]+\.py)::(\w+)", row[4])]
    missing = [f"{path}::{name}" for path, name in named if not re.search(rf"def {name}\(", (ROOT / path).read_text())]
    assert len(named) > 20
    assert missing == []


def test_each_fault_of_the_matrix_is_in_a_row_and_no_other() -> None:
    named = {fault for row in ROWS for fault in re.findall(r"\"([^\"]+)\"", row[4])}
    assert named == {fault.name for fault in FAULTS if fault.name != "none"}


def test_each_option_that_a_row_names_is_one() -> None:
    options = {name for row in ROWS for name in re.findall(r"``([a-z_]+)``", row[3])}
    assert options - set(Options.__dataclass_fields__) == set()
