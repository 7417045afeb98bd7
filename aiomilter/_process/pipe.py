"""The pipe that frames of :mod:`aiomilter._serving.feed` take from a worker to the supervisor, and on to the HTTP listener."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Final

from aiomilter._serving.feed import MOST_FRAME

__all__ = ["FeedPipe", "pipe_pair"]

_BUFFER: Final = 1 << 20
"""Octets that may wait; the system may allow fewer."""
_AT_ONCE: Final = 256
"""Frames that are read before others get their turn."""
# Both keep the bounds of a frame.  Of datagrams Linux lets only some wait, whatever their size.
_KIND: Final = (
    getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM) if hasattr(socket, "SO_PEERCRED") else socket.SOCK_DGRAM
)


class FeedPipe:
    """One end of a pipe for frames.  It never blocks.

    Args:
        sock: A connected socket that keeps the bounds of what is sent.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self._socket = sock
        self.ended = False
        """Whether the other end is closed."""

    def fileno(self) -> int:
        """Return the descriptor, for a selector or an event loop."""
        return self._socket.fileno()

    def send(self, frame: bytes) -> bool:
        """Send a frame, and return whether there was room for it."""
        try:
            return self._socket.send(frame) == len(frame)
        except OSError:
            return False

    def receive(self) -> Iterator[bytes]:
        """Yield frames that have arrived, some hundreds at most."""
        for _ in range(_AT_ONCE):
            try:
                frame = self._socket.recv(MOST_FRAME)
            except BlockingIOError:
                return
            except OSError:
                frame = b""
            if not frame:
                self.ended = True
                return
            yield frame

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def pipe_pair() -> tuple[FeedPipe, FeedPipe]:
    """Return both ends of a new pipe.

    Raises:
        OSError: The process has too many descriptors open.
    """
    one, other = socket.socketpair(type=_KIND)
    return FeedPipe(one), FeedPipe(other)
