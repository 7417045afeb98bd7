"""The words between the supervisor and a worker: one octet each, over a socket pair."""

import contextlib
import enum
import socket
from typing import Final

__all__ = ["News", "Order", "WorkerChannel", "channel_pair"]

_READ_SIZE: Final = 4096


class Order(enum.IntEnum):
    """A word of the supervisor to a worker."""

    BEGIN = ord("b")
    """Accept connections."""
    DRAIN = ord("d")
    """Accept no more, and end once the open connections have ended."""
    STOP = ord("s")
    """The same within ``drain_timeout``; a second one ends them now."""


class News(enum.IntEnum):
    """A word of a worker to the supervisor."""

    READY = ord("r")
    """The filter is built."""
    ALIVE = ord(".")
    """The event loop turns."""
    CLOSED = ord("c")
    """It accepts no more connections."""


class WorkerChannel:
    """One end of a connection between the supervisor and a worker.  It never blocks.

    Args:
        sock: A connected stream socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self.ended = False
        """Whether the other end is closed: the other process has ended, or is about to."""

    def fileno(self) -> int:
        """Return the descriptor, for a selector or an event loop."""
        return self._socket.fileno()

    def send(self, word: Order | News) -> None:
        """Send a word; a process that has ended needs none."""
        with contextlib.suppress(OSError):
            self._socket.send(bytes((word,)))

    def receive(self) -> bytes:
        """Return the words that have arrived, an octet each; see :attr:`ended` where there are none."""
        try:
            words = self._socket.recv(_READ_SIZE)
        except BlockingIOError:
            return b""
        except OSError:
            words = b""
        self.ended = not words
        return words

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def channel_pair() -> tuple[WorkerChannel, WorkerChannel]:
    """Return both ends of a new channel.

    Raises:
        OSError: The process has too many descriptors open.
    """
    one, other = socket.socketpair()
    return WorkerChannel(one), WorkerChannel(other)
