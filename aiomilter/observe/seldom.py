"""What may happen a thousand times a second is said once a minute."""

from collections.abc import Callable
from threading import Lock
from typing import Final, Generic, TypeVar

__all__ = ["Seldom"]

_INTERVAL: Final = 60.0
_Event = TypeVar("_Event")


class Seldom(Generic[_Event]):
    """Says a kind of thing at most once a minute, and then how often it has happened since it was last said.

    It may be called from any thread: each connection of a program that compat runs has one.

    Args:
        tell: Is told the event, and what to add to its sentence.
        time: The time now, in seconds.
    """

    def __init__(self, tell: Callable[[_Event, str], object], time: Callable[[], float]) -> None:
        self._tell = tell
        self._time = time
        self._told: dict[str, tuple[float, int]] = {}
        self._lock = Lock()

    def __call__(self, kind: str, event: _Event) -> None:
        """Say something, unless something of its kind was said less than a minute ago.

        Args:
            kind: One of a few.
            event: The event.
        """
        now = self._time()
        with self._lock:
            when, unsaid = self._told.get(kind, (now - _INTERVAL, 0))
            if now - when < _INTERVAL:
                self._told[kind] = when, unsaid + 1
                return
            self._told[kind] = now, 0
        self._tell(event, f" (and {unsaid} more like this before)" if unsaid else "")
