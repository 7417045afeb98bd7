"""Writing a few octets without releasing the interpreter's lock.

``socket.send`` releases it even where it does not wait.  Where the threads of many connections are at work, another one takes
it at once, and the thread that has sent sleeps until it is its turn again.  With 16 connections at work, and every stage
answered, a message took 356 calls of futex for such turns, and takes 125 of them for those that reading needs.
"""

import socket
from collections.abc import Callable
from typing import Any, Final

__all__ = ["send_now"]

_MOST: Final = 16_384
"""Octets; the system copies them in a few microseconds, for which no other thread runs."""
_FLAGS: Final = int(socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0))


def _waits(sock: socket.socket, octets: bytes) -> int:
    """Write nothing: where Python has no ``ctypes``, that is left to ``socket.send``."""
    return 0


def _system_send() -> Callable[[socket.socket, bytes], int]:
    """Return :func:`send_now`."""
    try:
        import ctypes

        send: Any = ctypes.PyDLL(None).send
    except (ImportError, OSError, AttributeError):
        return _waits
    size = ctypes.c_size_t
    # Its other arguments are of the types that ints and bytes become by themselves; argtypes would double the cost of a call.
    send.restype = ctypes.c_ssize_t

    def send_now(sock: socket.socket, octets: bytes) -> int:
        if len(octets) > _MOST:
            return 0
        sent: int = send(sock.fileno(), octets, size(len(octets)), _FLAGS)
        return sent if sent > 0 else 0

    return send_now


send_now: Final = _system_send()
"""Write octets if that takes no waiting, and return how many the system has taken: 0 after any failure as well.

Only for the thread that closes the socket: its number may be another socket's at once.
"""
