"""Closing connections that send nothing, or no complete packet, for too long."""

import asyncio
from collections.abc import Callable, Collection
from typing import Final, Protocol

from aiomilter._serving.memory import MemoryLimit
from aiomilter.observe import PeerError, PeerErrorKind, Where

__all__ = ["IdleTimeouts", "Idling"]

_SWEEPS: Final = 8
"""How often within the shorter timeout connections are looked at; one timer for all of them, none per packet."""


class Idling(Protocol):
    """A connection that is looked at."""

    idle: int
    """How many looks ago octets arrived last; counted here, set to 0 by the connection."""

    @property
    def waiting(self) -> bool:
        """Whether a callback is suspended."""

    @property
    def begun(self) -> bool:
        """Whether an SMTP connection is open, as far as the MTA has said."""

    @property
    def silent(self) -> bool:
        """Whether the peer has sent nothing at all."""

    @property
    def keeps_much(self) -> bool:
        """Whether it buffers more than a usual connection does."""

    def unfinished_looks(self) -> int:
        """Return how many times in a row the same packet was found unfinished; 0 if all is well."""

    def where(self) -> Where:
        """Return where it is, for the observer."""

    def stop(self) -> None:
        """End it soon."""


class IdleTimeouts:
    """Looks at all connections of a server, a few times within each timeout.

    A connection on which a callback is suspended is not idle.  Where the memory is full for ``packet_timeout``, connections
    that buffer much and send nothing for that time are closed, too.

    Args:
        connections: Those that are open.
        memory: The limit on their buffers.
        packet_timeout: Seconds that a packet may take to arrive completely, the first one included.
        idle_timeout: Seconds without a packet; None for ever.
        report: Hears of each connection that is closed.
    """

    def __init__(
        self,
        connections: Collection[Idling],
        memory: MemoryLimit,
        packet_timeout: float,
        idle_timeout: float | None,
        report: Callable[[PeerError], object],
    ) -> None:
        self._connections = connections
        self._memory = memory
        self._packet_timeout = packet_timeout
        self._idle_timeout = idle_timeout
        self._report = report
        self._interval = min(packet_timeout, idle_timeout or packet_timeout) / _SWEEPS
        self._timer: asyncio.TimerHandle | None = None
        # For how many looks the memory has been full.
        self._pressed = 0

    def start(self) -> None:
        """Begin to look."""
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def active(self) -> bool:
        """Whether it looks."""
        return self._timer is not None

    def _look(self) -> None:
        self.close_idle()
        self.start()

    def close_idle(self) -> None:
        """Close the connections whose time is over, which is counted in looks."""
        self._pressed = self._pressed + 1 if self._memory.full else 0
        for connection in list(self._connections):
            if connection.waiting:
                continue
            connection.idle += 1
            over = self._time_over(connection)
            if over is not None:
                kind, what = over
                self._report(PeerError(connection.where(), kind, f"{what}; closing"))
                connection.stop()

    def _time_over(self, connection: Idling) -> tuple[PeerErrorKind, str] | None:
        """Return why a connection is to be closed; None if it is not."""
        idle = float("inf") if self._idle_timeout is None else self._idle_timeout / self._interval
        unfinished = self._packet_timeout / self._interval
        patient = connection.begun and self._pressed <= unfinished
        if connection.unfinished_looks() > (idle if patient else unfinished):
            seconds = self._idle_timeout if patient else self._packet_timeout
            if connection.silent:
                why = "as a mail client that waits for a greeting would"
                return PeerErrorKind.SILENT, f"a connection sent nothing within {seconds:g} s, {why}"
            return PeerErrorKind.UNFINISHED, f"a connection sent no complete packet within {seconds:g} s"
        if min(self._pressed, connection.idle) > unfinished and connection.keeps_much:
            what = f"a connection that has much buffered sent no packet for {self._packet_timeout:g} s"
            return PeerErrorKind.UNFINISHED, what
        if connection.idle > idle:
            return PeerErrorKind.IDLE, f"a connection sent no packet for {self._idle_timeout:g} s"
        return None
