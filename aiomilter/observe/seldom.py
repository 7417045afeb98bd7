"""What may happen a thousand times a second is said once a minute."""

from collections.abc import Callable
from typing import Final

__all__ = ["Seldom"]

_INTERVAL: Final = 60.0


class Seldom:
    """Says a kind of thing at most once a minute, and then how often it has happened since it was last said.

    Args:
        tell: Is told.
        time: The time now, in seconds.
    """

    def __init__(self, tell: Callable[[str], object], time: Callable[[], float]) -> None:
        self._tell = tell
        self._time = time
        self._told: dict[str, tuple[float, int]] = {}

    def __call__(self, kind: str, what: str) -> None:
        """Say something, unless something of its kind was said less than a minute ago.

        Args:
            kind: One of a few.
            what: A line for the log.
        """
        now = self._time()
        when, unsaid = self._told.get(kind, (now - _INTERVAL, 0))
        if now - when < _INTERVAL:
            self._told[kind] = when, unsaid + 1
            return
        self._told[kind] = now, 0
        self._tell(f"{what} (and {unsaid} more like this before)" if unsaid else what)
