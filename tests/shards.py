"""The two parts of the suite that run beside each other: what waits for other programs, and the rest."""

from collections.abc import Iterable
from typing import Final

import pytest

__all__ = ["SHARDS", "shard"]

SHARDS: Final = ("1/2", "2/2")
"""As written on the command line."""


def shard(items: Iterable[pytest.Item], name: str) -> list[pytest.Item]:
    """Return the tests of one part, in their order: 1/2 waits for MTAs and other programs, 2/2 needs none."""
    return [item for item in items if name == SHARDS[0 if item.get_closest_marker("interop") else 1]]
