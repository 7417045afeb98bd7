"""Acknowledging at once the octets that get no answer yet.

MTAs write with Nagle's algorithm on, which holds a packet back until the one before is acknowledged; by itself the system does
that after 40 ms.  Sendmail writes the macros of a stage and its packet one after the other; so does Postfix where another of
its processes writes the packet (``benchmarks postfix``).
"""

import contextlib
import socket
from typing import Final

__all__ = ["acknowledge", "can_acknowledge"]

_QUICK_ACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)
"""Linux only."""
_TCP: Final = (socket.AF_INET, socket.AF_INET6)


def can_acknowledge(sock: socket.socket | None) -> bool:
    """Return whether :func:`acknowledge` has an effect: on TCP, under Linux."""
    return _QUICK_ACK is not None and sock is not None and sock.family in _TCP


def acknowledge(sock: socket.socket) -> None:
    """Have the system acknowledge the octets received so far now; an answer would do that, too."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK or 0, 1)
