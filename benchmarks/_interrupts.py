"""Ctrl-C and kill only where nothing is half started: what runs beside a benchmark is always ended."""

import signal
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["Interrupts"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Signals that end the process wait for the next ``allowed`` block, where they raise KeyboardInterrupt."""

    def __init__(self) -> None:
        self._allowed = False
        self._waiting = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold them back while inside; raise what still waits at the end."""
        before = {number: signal.signal(number, self._come) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._waiting:
            raise KeyboardInterrupt

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Let one through while inside, at once if it came before."""
        self._allowed = True
        try:
            if self._waiting:
                raise KeyboardInterrupt
            yield
        finally:
            self._allowed = False

    def _come(self, number: int, frame: types.FrameType | None) -> None:
        self._waiting = True
        if self._allowed:
            # No second one before the finally clause has run.
            self._allowed = False
            raise KeyboardInterrupt
