"""The parts of the suite that run beside each other: two wait for other programs, two need none."""

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest

__all__ = ["NEED_PROGRAMS", "SAME_MODULES", "SHARDS", "has_module", "may_need_programs", "shard"]

SHARDS: Final = ("1/4", "2/4", "3/4", "4/4")
"""As written on the command line."""
NEED_PROGRAMS: Final = SHARDS[:2]
"""Those whose tests wait for MTAs and other programs."""
SAME_MODULES: Final = (("2/4", "4/4"), ("1/4", "3/4"))
"""Pairs that have the same modules: one process imports these once for both."""


def shard(items: Iterable[pytest.Item], *names: str) -> list[pytest.Item]:
    """Return the tests of some parts, in their order."""
    return [item for item in items if any(_has(name, item) for name in names)]


def _has(name: str, item: pytest.Item) -> bool:
    return has_module(name, item.nodeid.partition("::")[0]) and (name in NEED_PROGRAMS) == (
        item.get_closest_marker("interop") is not None
    )


def has_module(name: str, path: str) -> bool:
    """Return whether a part may have tests of a module.

    Args:
        name: Of the part.
        path: Of the module, from the root of the project, with slashes.
    """
    # Modules stay whole, since their tests share what they have started; which of two parts has one is as good as chance.
    return SHARDS.index(name) % 2 == zlib.crc32(path.encode()) % 2


def may_need_programs(path: Path) -> bool:
    """Return whether a module may have tests that need programs: it says so, or the name of its folder does."""
    # A mark is written where the test is.  Four of five modules have none, and to import these takes as long as some tests.
    return "interop" in path.parent.parts or b"interop" in path.read_bytes()
