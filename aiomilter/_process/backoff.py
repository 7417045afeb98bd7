"""How long the supervisor waits before it starts another worker in the place of one that has died."""

from typing import Final

__all__ = ["Backoff"]


class Backoff:
    """The delay before another worker is started in the place of one that has died.

    There is none, unless several have died young: then it doubles each time, up to half a minute.
    """

    YOUNG: Final = 10.0
    """Seconds of life."""
    FIRST: Final = 0.5
    MOST: Final = 30.0

    def __init__(self) -> None:
        self._deaths = 0

    def died(self, age: float) -> float:
        """Return the seconds to wait after a worker has died at an age."""
        self._deaths = self._deaths + 1 if age < self.YOUNG else 1
        return min(self.FIRST * 2 ** min(self._deaths - 2, 16), self.MOST) if self._deaths > 1 else 0.0
