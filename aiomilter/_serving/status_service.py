"""The HTTP listeners of a process that does nothing else, as one service."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiomilter.observe import SERVER, Lifecycle, LifecycleKind
from aiomilter.observe.guard import Guard

if TYPE_CHECKING:
    from aiomilter._serving.status import StatusListener

__all__ = ["StatusService"]


class StatusService:
    """Several HTTP listeners as the service that a process runs for.

    Args:
        listeners: Each with an address of its own.
        observer: Hears of its lifecycle.
    """

    drain_timeout = 0.0

    def __init__(self, listeners: "Sequence[StatusListener]", observer: Guard) -> None:
        self.broken = asyncio.Event()
        self._listeners = listeners
        self._observer = observer

    def report(self, kind: LifecycleKind, what: str, error: BaseException | None = None) -> None:
        """Report a sentence on its lifecycle."""
        self._observer.tell(Lifecycle(SERVER, kind, what, error))

    async def start(self) -> None:
        """Listen on all addresses.

        Raises:
            OSError: One cannot be listened on.
        """
        try:
            for listener in self._listeners:
                await listener.start()
        except BaseException:
            await self.close()
            raise

    async def reload(self) -> None:
        """Do nothing: the process stays while workers are replaced."""

    async def drain(self, timeout: float | None = None) -> None:
        """Close: what it shows has ended before."""
        await self.close()

    async def close(self) -> None:
        """Stop listening on all addresses."""
        for listener in self._listeners:
            await listener.close()
