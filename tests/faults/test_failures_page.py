"""``aiomilter help failures``: each row is shown by a fault of the matrix or by a test, and names options that exist."""

import re
from pathlib import Path
from typing import Final

from aiomilter.options import Options
from tests.faults.matrix import FAULTS
from tests.faults.shown import SHOWN

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "aiomilter" / "help" / "failures.rst").read_text("utf-8")
FIELDS: Final = ("client", "log", "option")


def rows() -> dict[str, dict[str, str]]:
    """Return the cells of each row, by what happens."""
    found = {}
    for title, text in re.findall(r"^(\S.*)\n((?:    .*\n)+)", PAGE, re.MULTILINE):
        cells = re.findall(r"^    :(\w+): (.*(?:\n        .*)*)", text, re.MULTILINE)
        if cells:
            found[title] = {name: " ".join(cell.split()) for name, cell in cells}
    return found


def test_each_row_says_what_the_client_and_the_log_get_and_what_changes_it() -> None:
    assert len(rows()) > 20
    assert [title for title, cells in rows().items() if tuple(cells) != FIELDS] == []


def test_each_row_has_what_shows_it() -> None:
    assert set(rows()) == set(SHOWN)
    assert [title for title, shown in SHOWN.items() if not shown] == []


def test_each_test_that_shows_a_row_is_there() -> None:
    named = [test.partition("::") for shown in SHOWN.values() for test in shown if test.startswith("tests/")]
    missing = [f"{path}: {name}" for path, _, name in named if f"def {name}(" not in (ROOT / path).read_text("utf-8")]
    assert len(named) > 20
    assert missing == []


def test_each_fault_of_the_matrix_is_in_a_row_and_no_other() -> None:
    named = {fault for shown in SHOWN.values() for fault in shown if not fault.startswith("tests/")}
    assert named == {fault.name for fault in FAULTS if fault.name != "none"}


def test_each_option_that_a_row_names_is_one() -> None:
    options = {name for cells in rows().values() for name in re.findall(r"``([a-z_]+)``", cells["option"])}
    assert options - set(Options.__dataclass_fields__) == set()


def test_the_page_names_no_tests() -> None:
    assert "::test_" not in PAGE
