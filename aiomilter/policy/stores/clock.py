"""The clock of stores that have none of their own."""

import time
from collections.abc import Callable
from typing import Final

__all__ = ["Clock"]

_JUMP: Final = 60 * 1_000_000


class Clock:
    """Microseconds since 1970, which never go back: a jump back of the wall clock counts as no time.

    Args:
        wall: Returns nanoseconds since 1970.
        jumped: Told by how many seconds the wall clock has gone back, if they are more than 60.
    """

    def __init__(self, wall: Callable[[], int] = time.time_ns, jumped: Callable[[float], object] | None = None) -> None:
        self._wall = wall
        self._jumped = jumped
        self._last = 0
        self._ahead = 0

    def __call__(self) -> int:
        """Return the time."""
        now = self._wall() // 1000 + self._ahead
        if now < self._last:
            back = self._last - now
            if back > _JUMP:
                self._ahead += back
                if self._jumped is not None:
                    self._jumped(back / 1e6)
            now = self._last
        self._last = now
        return now
