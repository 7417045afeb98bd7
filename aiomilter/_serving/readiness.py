"""Asking a filter whether it can do its work: ``async def ready(self) -> str | None``, of what makes filters or of a filter."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from aiomilter.handler import ready_method

__all__ = ["Readiness"]

_INTERVAL: Final = 2.0
"""Seconds between two questions."""
_TIMEOUT: Final = 2.0
"""Seconds for the answer."""
_LENGTH: Final = 200
"""Characters of an answer that are shown."""


class Readiness:
    """Asks every two seconds, in the event loop that serves.

    Args:
        filters: Returns what may have the method: what makes filters, and one of these.
    """

    def __init__(self, filters: Callable[[], Iterable[object]]) -> None:
        self.problem: str | None = None
        """What the filter lacks, in a line; None for nothing."""
        self._filters = filters
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Ask from now on."""
        self._task = asyncio.create_task(self._go_on())

    def stop(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()

    async def _go_on(self) -> None:
        while True:
            self.problem = await self.ask()
            await asyncio.sleep(_INTERVAL)

    async def ask(self) -> str | None:
        """Return what the filter lacks, in a line; None for nothing, and where it has no such method."""
        method = ready_method(self._filters())
        if method is None:
            return None
        try:
            async with asyncio.timeout(_TIMEOUT) as deadline:
                answer = await method()
        except TimeoutError:
            if deadline.expired():
                return f"ready() took longer than {_TIMEOUT:g} s"
            return "ready() raised TimeoutError"
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return "ready() raised CancelledError"
        except Exception as error:  # noqa: BLE001 - it is the answer
            return _line(f"ready() raised {type(error).__name__}: {error}")
        return None if answer is None else _line(str(answer)) or "ready() returned an empty text"


def _line(text: str) -> str:
    return " ".join(text.split())[:_LENGTH]
