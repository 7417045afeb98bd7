"""What a server asks of any connection, whichever way its octets are transported.

``transport`` has the connections of native filters, on the event loop; those of classic filters may each have a thread.
"""

import asyncio
import contextvars
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, cast

from aiomilter._connection.answering import Answering, Channel
from aiomilter._connection.dispatch import DispatchTables
from aiomilter._connection.native import NativeAnswering
from aiomilter._connection.session import Session
from aiomilter._serving.memory import MemoryLimit
from aiomilter._serving.transports import Transports
from aiomilter.handler import Handler
from aiomilter.observe import Where
from aiomilter.observe.guard import Guard
from aiomilter.options import Options

__all__ = ["ServedConnection"]


class ServedConnection(ABC):
    """One connection with an MTA, as its server sees it; a subclass is also the :class:`Channel` of its session.

    Args:
        loop: The event loop.
        make: Makes the handler of an SMTP connection.
        tables: Of the factory that makes them.
        options: Limits and time-outs.
        observer: Gets the reports.
        number: Of the connection.
        on_ended: Called once when the connection and all its callbacks have ended.
        memory: The limit on the data that all connections buffer.
        peer: The other end, for the log; "" if not known.
        listener: The socket that accepted the connection; "" if none did.
    """

    __slots__ = (
        "_looks",
        "_on_ended",
        "_unfinished_looks",
        "context",
        "idle",
        "listener",
        "loop",
        "memory",
        "number",
        "observer",
        "options",
        "out",
        "peer",
        "session",
    )

    answering: ClassVar[Callable[[Session], Answering]] = NativeAnswering
    """Makes the :class:`Answering` of its session."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[], Handler],
        tables: DispatchTables,
        options: Options,
        observer: Guard,
        number: int,
        on_ended: Callable[["ServedConnection"], None],
        memory: MemoryLimit,
        peer: str = "",
        listener: str = "",
    ) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        self.options: Options = options
        self.observer: Guard = observer
        self.number: int = number
        self.peer: str = peer
        self.listener: str = listener
        self.memory: MemoryLimit = memory
        self.idle: int = 0
        """How often the server has looked since octets last came."""
        self._on_ended: Callable[[ServedConnection], None] | None = on_ended
        # How many unfinished packets were found, and how often the last of them was still unfinished.
        self._looks = 0
        self._unfinished_looks = 0
        self.session: Session = Session(make, tables, options, observer, cast(Channel, self), type(self).answering)
        self.out: list[bytes] = self.session.out
        """Packets to be written."""
        self.context: contextvars.Context = contextvars.copy_context()
        """Callbacks run in it."""

    # ------------------------------------------------------------------------------------------------------- its state

    @property
    @abstractmethod
    def waiting(self) -> bool:
        """Whether a callback is suspended; in a thread, whether one runs."""

    @property
    @abstractmethod
    def keeps_much(self) -> bool:
        """Whether it buffers more than a usual connection does."""

    @property
    def ended(self) -> bool:
        """Whether the server was notified of the end."""
        return self._on_ended is None

    @property
    def silent(self) -> bool:
        """Whether the peer has sent nothing at all."""
        wire = self.session.wire
        return not wire.negotiated and not wire.buffer.unfinished

    @property
    def begun(self) -> bool:
        """Whether an SMTP connection is open, as far as the MTA has reported."""
        return self.session.wire.connected

    def where(self) -> Where:
        """Return where the session is, for the observer."""
        return self.session.where()

    def peek_where(self) -> Where:
        """Return where the session is, for another thread: nothing changes."""
        return self.session.peek_where()

    def unfinished_looks(self) -> int:
        """Return how many times in a row the same packet was found unfinished, or none had come yet; 0 if all is well."""
        wire = self.session.wire
        buffer = wire.buffer
        if (wire.negotiated and not buffer.unfinished) or self.session.congested:
            self._unfinished_looks = 0
        elif self._looks != buffer.looks:
            self._looks, self._unfinished_looks = buffer.looks, 1
        else:
            self._unfinished_looks += 1
        return self._unfinished_looks

    # ---------------------------------------------------------------------------------------------- from the server

    @abstractmethod
    def serve(self, sock: socket.socket, transports: Transports) -> None:
        """Begin with a socket that was accepted.

        Args:
            sock: The socket; the connection closes it.
            transports: Makes its transport if it wants one.
        """

    @abstractmethod
    def stop(self) -> None:
        """End the connection soon: a callback that waits is cancelled and answered with ``on_error``."""

    def stop_in_time(self) -> None:
        """The same, and no callback has more than ``cancel_timeout`` to end, ``abort`` and ``close`` included."""
        self.session.hurry()
        self.stop()

    @abstractmethod
    def begin_drain(self) -> None:
        """End the connection at its next QUIT or QUIT_NC, or soon if no SMTP connection is open on it."""

    # --------------------------------------------------------------------------------------------------- its end

    def notify_end(self) -> None:
        """Notify the server, once, that the connection and all its callbacks have ended."""
        if self._on_ended is not None:
            on_ended, self._on_ended = self._on_ended, None
            self.on_end()
            self.memory.messages.discard(self.session)
            self.session.wire.let_go()  # the garbage collector may come late
            on_ended(self)

    @abstractmethod
    def on_end(self) -> None:
        """Release what the connection holds; called once, before the server is notified."""

    # ---------------------------------------------------------------------------------------------- for the session

    def time(self) -> float:
        """Return the time of the event loop."""
        return self.loop.time()

    def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Have the event loop call a function after a time."""
        return self.loop.call_later(delay, callback)
