"""``install()``: pymilter's names give modules of ours, each when it is needed."""

import subprocess
import sys
from pathlib import Path

import pytest

from aiomilter.compat import MODULES
from tests.patience import PATIENCE


def python(program: str, *path: Path) -> str:
    """Run a program in a Python of its own and return what it prints."""
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={"PYTHONPATH": ":".join(map(str, [*sys.path, *path]))},
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


INSTALL = "from aiomilter.compat import install; install(); install()\n"


def test_both_modules_are_one_api_and_what_a_program_sets_is_set() -> None:
    program = """
import Milter, milter
from Milter import CONTINUE, Base, factory
from Milter.utils import parse_addr
import Milter.utils
print(Milter.milter is milter, Milter.error is milter.error, milter.error.__module__, Milter.utils.parse_addr is parse_addr)
Milter.factory = Base
from aiomilter.compat import classic
print(classic.factory is Base, CONTINUE)
"""
    assert python(INSTALL + program) == "True True milter True\nTrue 0"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_name_can_be_imported_first(name: str) -> None:
    assert python(f"{INSTALL}import {name}; import sys; print(sys.modules[{name!r}].__name__)") == MODULES[name]


def test_milter_costs_no_dns_database_or_mail_import() -> None:
    program = "import sys, Milter; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    found = python(INSTALL + program).split()
    assert "aiomilter" in found
    assert set(found).isdisjoint({"dns", "sqlite3", "dbm", "email", "idna", "uvloop", "smtplib"})


def test_another_pymilter_is_neither_used_nor_harmed(tmp_path: Path) -> None:
    (tmp_path / "Milter").mkdir()
    (tmp_path / "Milter" / "__init__.py").write_text("other = True")
    (tmp_path / "milter.py").write_text("other = True")
    program = "import Milter, milter; print(hasattr(Milter, 'other'), hasattr(milter, 'other'))"
    assert python(program, tmp_path) == "True True"
    assert python(INSTALL + program, tmp_path) == "False False"


def test_what_is_not_pymilters_is_found_as_ever(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("here = True")
    program = """
import mine
try:
    import Milter.nothing
except ModuleNotFoundError as error:
    print(mine.here, error.name)
"""
    assert python(INSTALL + program, tmp_path) == "True Milter.nothing"


def test_a_program_that_logs_everything_gets_no_line_for_each_packet() -> None:
    program = "import logging; logging.basicConfig(level=logging.DEBUG); import Milter; log = logging.getLogger('aiomilter')\n"
    assert (
        python(f"{INSTALL}{program}print(log.isEnabledFor(logging.DEBUG), log.isEnabledFor(logging.INFO))")
        == "False True"
    )
    asked = "logging.getLogger('aiomilter').setLevel(logging.DEBUG); import Milter"
    program = program.replace("import Milter", asked)
    assert python(f"{INSTALL}{program}print(log.isEnabledFor(logging.DEBUG))") == "True"
