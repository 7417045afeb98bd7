"""Accepting connections, a few at a time."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final

from aiomilter._serving.binding import Bound
from aiomilter._serving.forked import keep_from_children
from aiomilter._serving.sharing import AcceptBalancer, Turn

__all__ = ["Listener"]

_AT_ONCE: Final = 64
"""Connections accepted before those that are open get their turn again."""
_REST: Final = 1.0
"""Seconds until the next attempt where the system lacks something for another connection."""
_COURTESY: Final = 0.001
"""Seconds for the other processes to accept a connection that is theirs; they were woken, too."""


class Listener:
    """Accepts connections, a few at a time, so that many new ones do not delay those that are open.

    The event loop's own listener would take as many as ``backlog`` at once, or all (uvloop).

    Args:
        bound: The socket.
        accepted: Gets every new connection, and the address of its peer.
        failing: Called with the error where the system lacks something for another connection; accepting is tried again every
            second, and this is called again.
        share: Balances with other processes that accept from the same socket; None if there are none.
    """

    def __init__(
        self,
        bound: Bound,
        accepted: Callable[[socket.socket, Any], object],
        failing: Callable[[OSError], object],
        share: AcceptBalancer | None = None,
    ) -> None:
        self.bound = bound
        self._accepted = accepted
        self._failing = failing
        self._share = share
        self._loop = asyncio.get_running_loop()
        self._rest: asyncio.TimerHandle | None = None
        self._held = False

    def start(self, backlog: int) -> None:
        """Listen and accept."""
        keep_from_children(self.bound.socket)
        self.bound.socket.setblocking(False)
        self.bound.listen(backlog)
        self._read()

    def _read(self) -> None:
        self._rest = None
        self._loop.add_reader(self.bound.socket.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            if self._held:
                return
            turn = self._share.turn() if self._share is not None else Turn.OURS
            if turn is not Turn.THEIRS and not self._accept_one():
                return
            if turn is not Turn.OURS and not self._held:
                self._pause(_COURTESY, self._read)
                return

    def _accept_one(self) -> bool:
        try:
            connection, name = self.bound.socket.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionAbortedError:
            return True
        except OSError as error:
            self._pause(_REST, self._read)
            self._failing(error)
            return False
        connection.setblocking(False)
        self._accepted(connection, name)
        return True

    def _pause(self, delay: float, resume: Callable[[], None]) -> None:
        self._loop.remove_reader(self.bound.socket.fileno())
        self._rest = self._loop.call_later(delay, resume)

    def hold(self) -> None:
        """Accept no connection until :meth:`go_on`; until then they queue in the listen backlog."""
        if not self._held:
            self._held = True
            self._leave_alone()

    def go_on(self) -> None:
        """Accept again."""
        if self._held:
            self._held = False
            self._read()

    def _leave_alone(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        elif self.bound.socket.fileno() >= 0:
            self._loop.remove_reader(self.bound.socket.fileno())

    def close(self) -> None:
        """Stop listening."""
        self._leave_alone()
        self.bound.close()
