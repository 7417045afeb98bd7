"""What a server has open and in work at a moment."""

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Load"]


class Load(NamedTuple):
    """What a server has open and in work.

    Args:
        stopped: Whether it accepts no more.
        filters: What makes its filters now, and one of these; empty before the start.
        connections: Open connections, by the socket that accepted them.
        messages: Messages in progress, by the same.
        memory: Octets that all connections buffer.
    """

    stopped: bool
    filters: tuple[object, ...]
    connections: Mapping[str, int]
    messages: Mapping[str, int]
    memory: int
