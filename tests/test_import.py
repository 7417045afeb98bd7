"""``import aiomilter`` costs what a filter needs, and nothing more."""

import copy
import pickle
import subprocess
import sys
from types import FunctionType
from typing import Any

import pytest

import aiomilter
from aiomilter import Connect, Header, Helo, Mail, Rcpt, Stage, Unknown, Verdict

HEAVY = ("aiodns", "aiosmtpd", "cryptography", "dns", "email", "hypothesis", "idna", "pytest", "uvloop")
PROGRAM = "import sys, aiomilter; print(*sorted({name.partition('.')[0] for name in sys.modules}))"


def test_importing_aiomilter_loads_no_dns_smtp_or_crypto_library() -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split()
    assert "aiomilter" in found
    assert set(found).isdisjoint(HEAVY)


RUN = """\
import sys
from aiomilter._cli import main

main(["--version"])
main(["run", "missing.py", "--listen", "inet:0@127.0.0.1"])
print(*sorted(sys.modules))
"""


def test_the_version_and_a_daemon_without_a_configuration_file_load_nothing_for_what_they_do_not_do() -> None:
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=True)
    assert "there is no file 'missing.py'" in done.stderr
    of_files = {"conversion", "file", "filter_settings", "lines", "reading", "schema", "secrets", "written"}
    assert {f"aiomilter._config.{name}" for name in of_files}.isdisjoint(done.stdout.split())
    assert {"tomllib", "sqlite3"}.isdisjoint(done.stdout.split())


EXPORTED = [name for name in aiomilter.__all__ if isinstance(getattr(aiomilter, name), type | FunctionType)]


@pytest.mark.parametrize("name", EXPORTED)
def test_what_aiomilter_exports_is_shown_by_the_name_it_is_imported_by(name: str) -> None:
    exported = getattr(aiomilter, name)
    assert f"{exported.__module__}.{exported.__qualname__}" == f"aiomilter.{name}"
    assert pickle.loads(pickle.dumps(exported)) is exported


def test_classes_of_users_stay_theirs() -> None:
    class Mine(aiomilter.Milter): ...

    assert repr(aiomilter.Milter) == "<class 'aiomilter.Milter'>"
    assert Mine.__module__ == __name__


VALUES = [Mail("<a@b>", ("X=1",)), Rcpt("<a@b>"), Header("A", "b"), Helo("x"), Connect("h"), Unknown("x"), Stage.MAIL]
VALUES += [Verdict.REJECT, aiomilter.Family.INET, aiomilter.Action.QUARANTINE, aiomilter.TemporaryFailure("x")]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_can_be_pickled_and_copied(value: Any) -> None:
    for made in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value)):
        assert type(made) is type(value)
        assert repr(made) == repr(value)
