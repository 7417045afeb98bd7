"""What may happen a thousand times a second is said once a minute."""

from collections.abc import Callable
from threading import Lock
from typing import Final

from aiomilter.observe.events import SERVER, Where

__all__ = ["Seldom"]

_INTERVAL: Final = 60.0


class Seldom:
    """Says a kind of thing at most once a minute, and then how often it has happened since it was last said.

    It may be called from any thread: each connection of a program that compat runs has one.

    Args:
        tell: Is told where and what.
        time: The time now, in seconds.
    """

    def __init__(self, tell: Callable[[Where, str], object], time: Callable[[], float]) -> None:
        self._tell = tell
        self._time = time
        self._told: dict[str, tuple[float, int]] = {}
        self._lock = Lock()

    def __call__(self, kind: str, what: str, where: Where = SERVER) -> None:
        """Say something, unless something of its kind was said less than a minute ago.

        Args:
            kind: One of a few.
            what: A line for the log.
            where: Where it happened.
        """
        now = self._time()
        with self._lock:
            when, unsaid = self._told.get(kind, (now - _INTERVAL, 0))
            if now - when < _INTERVAL:
                self._told[kind] = when, unsaid + 1
                return
            self._told[kind] = now, 0
        self._tell(where, f"{what} (and {unsaid} more like this before)" if unsaid else what)
