"""The reader that tests are run with: each of the two."""

import os
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import pytest

from aiomilter.wire import reader
from aiomilter.wire.reader import MOST, Wire

Read: TypeAlias = Callable[..., list[Any]]
READERS: Final = ("python", "compiled")
_now: Read = reader.read


def compiled() -> Read:
    """Return the compiled reader; where it was not built, skip the test, and in CI fail it."""
    try:
        from aiomilter.wire import _reader
    except ImportError:
        missing = "aiomilter was installed without a C compiler, so there is no compiled reader"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return _reader.read


def read(wire: Wire, most: int = MOST) -> list[Any]:
    """Read with the reader that was chosen last."""
    return _now(wire, most)


def choose(name: str) -> None:
    """Have :func:`read` use one of :data:`READERS`."""
    global _now
    _now = compiled() if name == "compiled" else reader.read
