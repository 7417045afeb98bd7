"""Keeping a server's sockets and signal handlers from forked child processes.

The child of a callback, or of a pool of processes, inherits them all.  While it holds a connection, the MTA does not see that
we have closed it; while it holds a listening socket, MTAs connect to a server that has ended.  A handler of ours has nothing to
stop there, and the signal is lost.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

__all__ = ["call_in_children", "keep_from_children"]

_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_calls: Final[list[Callable[[], object]]] = []
# By thread, while it forks.
_masks: Final[dict[int, set[signal.Signals | int]]] = {}
_sockets: Final[WeakSet[socket.socket]] = WeakSet()


def keep_from_children(sock: socket.socket) -> None:
    """Close a socket in every process that is forked from here on, for as long as it is open here."""
    _sockets.add(sock)


def call_in_children(call: Callable[[], object]) -> None:
    """Call a function in every process that is forked from here on, before a signal that ends processes can reach it."""
    _calls.append(call)


def _before() -> None:
    """Block signals until the child has handlers of its own: Python forgets those that arrive before that."""
    _masks[threading.get_ident()] = set(signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING))


def _after() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop(threading.get_ident()))


def _in_child() -> None:
    try:
        for call in _calls:
            call()
        _let_go()
    finally:
        _heed_signals()


def _heed_signals() -> None:
    """Unblock the signals that have waited.

    An exception of a handler is lost here, so a SIGINT that has waited ends the child at once, as its KeyboardInterrupt would.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.default_int_handler:
        _after()
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _after()
    signal.signal(signal.SIGINT, handler)


def _let_go() -> None:
    """Close the sockets in the child.

    Their descriptors refer to nothing from here on: an event loop, or another object, may close them once more, and must not
    hit a file that got the number since.
    """
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
    except OSError:  # there are as many files as the system allows
        for sock in list(_sockets):
            sock.close()
        return
    for sock in list(_sockets):
        if sock.fileno() >= 0:
            os.dup2(nowhere, sock.fileno(), inheritable=False)
    os.close(nowhere)
    _sockets.clear()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_in_child)
