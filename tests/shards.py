"""The two parts of the suite that run beside each other: what waits for others, and what computes."""

from collections.abc import Iterable
from typing import Final

import pytest

__all__ = ["SHARDS", "shard"]

SHARDS: Final = ("1/2", "2/2")
"""As written on the command line."""


def shard(items: Iterable[pytest.Item], name: str) -> list[pytest.Item]:
    """Return the tests of one part, in their order: 1/2 waits for MTAs, processes and time-outs, 2/2 computes."""
    return [item for item in items if name == SHARDS[0 if _waits(item) else 1]]


def _waits(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("interop", "slow"))
