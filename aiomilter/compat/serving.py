"""Making the server of classic filters: which connections have a thread, and which limits of ours do not hold."""

import threading
from collections.abc import Callable
from typing import Any, Final, Unpack

from aiomilter._connection.served import ServedConnection
from aiomilter.compat.callbacks import Callbacks
from aiomilter.compat.handler import ClassicHandler
from aiomilter.compat.threads import EndingThreads, LoopConnection, ThreadConnection
from aiomilter.observe.log import LogObserver
from aiomilter.options import Options, ServeOptions
from aiomilter.server import Server

__all__ = ["classic_server"]

_LIMITS: Final = {"max_headers": 1_000_000, "max_headers_size": 1 << 30, "max_recipients": 1_000_000}
"""libmilter has none of these limits; the MTA has, and nothing that they count is kept in memory."""


def classic_server(
    callbacks: Callbacks,
    *sockets: str,
    inline: Callable[[], bool],
    threads: int | None = None,
    read_timeout: float | None = None,
    **options: Unpack[ServeOptions],
) -> Server:
    """Return a server of classic filters.

    Args:
        callbacks: The callbacks of the filter.
        sockets: As for :func:`aiomilter.serve`.
        inline: Returns, for each connection, whether none of its callbacks blocks, so that it needs no thread.
        threads: The most callbacks that run at once; None for as many as there are connections.
        read_timeout: Seconds within which the next octet of a packet that has begun has to come, >= 0; None for
            ``idle_timeout``.
        options: As for :func:`aiomilter.serve`.  Without an observer, a lack of threads or descriptors is printed on stderr
            if no log handler reports it.
    """
    given: dict[str, Any] = {**_LIMITS, **options}
    if given.get("observer") is None:
        given["observer"] = LogObserver(insists=True)
    checked = Options(**given)
    slots = threading.Semaphore(threads) if threads is not None else None
    leaving = EndingThreads()

    def serve_one(*args: Any) -> ServedConnection:
        if inline():
            return LoopConnection(*args, read_timeout=read_timeout)
        return ThreadConnection(*args, leaving=leaving, slots=slots, read_timeout=read_timeout)

    return Server(
        lambda: ClassicHandler(callbacks),
        sockets,
        checked,
        connection_factory=serve_one,
        on_closed=lambda: leaving.ended(checked.cancel_timeout),
    )
