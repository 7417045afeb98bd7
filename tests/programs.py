"""Programs of other projects that tests run: where they are, and what becomes of a test that lacks one."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn, Protocol, TypeVar

import pytest

__all__ = ["LACKED", "bare", "compiled", "lacking", "need", "needed", "program", "running"]

_NONE: Final = "AIOMILTER_TESTS_BARE"
"""Variable of the environment; if it is set the machine counts as one that has none of them."""
_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin"
"""Daemons are not on everybody's path."""
_HEADERS: Final = Path("/usr/include/libmilter/mfapi.h")


class Rig(Protocol):
    """What runs some of them."""

    @classmethod
    def missing(cls) -> str | None:
        """What this machine lacks; None if nothing."""

    def start(self) -> None:
        """Start it, and return when it works."""

    def stop(self) -> None:
        """End what runs."""


SomeRig = TypeVar("SomeRig", bound=Rig)


def bare() -> bool:
    """Return whether the machine counts as one that has none."""
    return bool(os.environ.get(_NONE))


def program(name: str) -> str | None:
    """Return the path of a program, None if it is not there."""
    return None if bare() else shutil.which(name, path=_PATH)


LACKED: Final[list[str]] = []
"""The tests that lacked something."""


def lacking(missing: str) -> NoReturn:
    """Skip the test that lacks something; in CI, where everything must be there, fail it."""
    LACKED.append(os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0])
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def need(missing: str | None) -> None:
    """Go on if nothing is missing; else as :func:`lacking`."""
    if missing is not None:
        lacking(missing)


def needed(name: str, package: str | None = None) -> str:
    """Return the path of a program without which the test cannot be.

    Args:
        name: Its own.
        package: Debian's, if that has another name.
    """
    found = program(name)
    if found is None:
        lacking(f"{name} is not installed (Debian package {package or name})")
    return found


def running(kind: type[SomeRig]) -> Iterator[SomeRig]:
    """Yield a rig that runs, and end it: what a fixture does, ``yield from running(Postfix)``."""
    need(kind.missing())
    rig = kind()
    try:
        rig.start()
        yield rig
    finally:
        rig.stop()


def compiled(source: Path, directory: Path) -> Path:
    """Compile a filter on libmilter, and return its path."""
    compiler = program("cc")
    if compiler is None or not _HEADERS.exists():
        lacking("a C compiler with libmilter's headers (Debian: gcc libmilter-dev) is not installed")
    made = directory / "filter"
    command = [compiler, "-Wall", "-Werror", "-o", str(made), str(source), "-lmilter", "-lpthread", "-ldl"]
    subprocess.run(command, check=True)
    return made
