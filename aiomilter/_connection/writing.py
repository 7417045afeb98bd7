"""Octets that were handed to a transport, and that its peer has not read yet."""

import asyncio
from collections.abc import Callable

__all__ = ["WriteTimeout", "unwritten"]


def unwritten(transport: asyncio.Transport) -> int:
    """Return how many octets a transport still has to write."""
    try:
        return transport.get_write_buffer_size()
    except AttributeError:
        # Of TLS on asyncio, whose transport is closed when the one below it is gone.
        return 0


class WriteTimeout:
    """Calls a function if a peer reads none of the octets that are left; made for a connection that has some left.

    Args:
        loop: The event loop.
        seconds: How long the peer has to read some of them, > 0.
        left: Returns how many octets are left.
        expired: Is called, once.
    """

    __slots__ = ("_expired", "_left", "_loop", "_seconds", "_size", "_timer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        left: Callable[[], int],
        expired: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._left = left
        self._expired = expired
        self._timer: asyncio.TimerHandle | None = None
        # Octets that were left when it was armed.
        self._size = 0

    @property
    def armed(self) -> bool:
        """Whether it was started and not stopped."""
        return self._timer is not None

    def start(self) -> None:
        """Give the peer that time from now on."""
        self.stop()
        self._size = self._left()
        self._timer = self._loop.call_later(self._seconds, self._fired)

    def stop(self) -> None:
        """Disarm it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fired(self) -> None:
        if self._left() < self._size:
            self.start()
        else:
            self._expired()
