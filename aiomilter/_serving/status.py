"""The HTTP listener: one address, and the routes that others mount there, such as ``/metrics``.

It is imported only where one is asked for, since it needs aiohttp (the extra ``web``).  How to mount routes:

- Make them by a function that takes the :class:`~aiomilter._serving.feed.Feed` and returns an ``aiohttp`` application; ``web``
  of this module is ``aiohttp.web``, which no other module imports.  The function is called once, in the process that listens,
  with its event loop running.
- A route reads ``feed.snapshot()``, the sums of what all serving processes count, and ``feed.processes``, each of them with
  its gauges and its state.  ``feed.follow(take)`` has ``take(pid, octets)`` called with each record, as it arrives.
- What serves mail has a :class:`~aiomilter._serving.feed.Reporter`: ``reporter.add(source)`` asks a function for values twice a
  second, ``reporter.record(octets)`` sends a record of up to 64 KiB at once, or drops it where the pipe is full.
- With workers the listener is a process of its own, which serves no mail and is replaced when it dies; what is to outlast that
  must not be kept in it.  Without workers it is in the one process, and its routes must not block.

Addresses are ``HOST:PORT``, ``[HOST]:PORT``, ``unix:/PATH``, or as :mod:`aiomilter.addresses` has them.  Those that other hosts
reach need ``allow``.  A connection that asks for nothing is closed after half a minute, and there are at most 64.
"""

import asyncio
import socket
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, TypeAlias

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from aiomilter._serving.access import Access
from aiomilter._serving.binding import Bound
from aiomilter._serving.feed import Feed
from aiomilter._serving.forked import keep_from_children
from aiomilter._serving.listener import Listener
from aiomilter.observe import (
    SERVER,
    ConnectionRefused,
    InternalError,
    Lifecycle,
    LifecycleKind,
    ObserverEvent,
    ResourceExhausted,
    Where,
)

__all__ = ["MakeRoutes", "StatusListener", "web"]

MakeRoutes: TypeAlias = Callable[[Feed], web.Application]
"""Makes the routes of one address."""

_MOST_CONNECTIONS: Final = 64
_IDLE_TIMEOUT: Final = 30.0
"""Seconds that a connection may be open without a request."""
_BACKLOG: Final = 64
_SHUTDOWN_TIMEOUT: Final = 1.0
"""Seconds for a request that is being answered at the end."""


class StatusListener:
    """Listens for HTTP on the sockets of one address; a service that starts, drains and closes.

    Args:
        bound: Its sockets, bound by :func:`aiomilter._serving.status_address.bind_status`.
        make_routes: See :data:`MakeRoutes`.
        feed: What the routes show.
        tell: Hears of failures and refusals.
        allow: Networks that may connect by TCP; None for all that reach it, which is the loopback alone.
    """

    def __init__(
        self,
        bound: Sequence[Bound],
        make_routes: MakeRoutes,
        feed: Feed,
        tell: Callable[[ObserverEvent], object],
        allow: Collection[str] | None = None,
    ) -> None:
        self._bound = bound
        self._make_routes = make_routes
        self._feed = feed
        self._tell = tell
        self._access = Access(allow, None, None)
        self._listeners: list[Listener] = []
        self._labels: list[str] = []
        self._runner: web.AppRunner | None = None
        # When each connection has last asked for something; None while it is being answered.
        self._used: dict[object, float | None] = {}
        self._making: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens."""
        return tuple(bound.label for bound in self._bound)

    async def start(self) -> None:
        """Make the routes, and listen.

        Raises:
            OSError: It cannot be listened on.
        """
        application = self._make_routes(self._feed)
        application.middlewares.append(self._noting())
        self._runner = web.AppRunner(
            application,
            access_log=None,
            logger=_Faults(self._tell),
            keepalive_timeout=_IDLE_TIMEOUT,
            shutdown_timeout=_SHUTDOWN_TIMEOUT,
        )
        await self._runner.setup()
        try:
            for bound in self._bound:
                listener = Listener(bound, self._accepted, self._cannot_accept)
                self._listeners.append(listener)
                listener.start(_BACKLOG)
                label = bound.label
                self._labels.append(label)
                what = f"listening on {label} for HTTP"
                self._tell(Lifecycle(Where(listener=label), LifecycleKind.LISTENER_STARTED, what))
        except BaseException:
            await self.close()
            raise
        self._sweep()

    async def reload(self) -> None:
        """Do nothing: what is shown is what is served."""

    async def drain(self, timeout: float | None = None) -> None:
        """Do nothing: ``/readyz`` says until the end that the others drain; :meth:`close` follows."""

    async def close(self) -> None:
        """Stop listening, and end all connections."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for listener in self._listeners:
            listener.close()
        for bound in self._bound[len(self._listeners) :]:
            bound.close()
        for label in self._labels:
            what = f"no longer listening on {label} for HTTP"
            self._tell(Lifecycle(Where(listener=label), LifecycleKind.LISTENER_STOPPED, what))
        for task in self._making:
            task.cancel()
        if self._runner is not None:
            await self._runner.cleanup()

    # ------------------------------------------------------------------------------------------------------ connections

    def _accepted(self, sock: socket.socket, _: Any) -> None:
        keep_from_children(sock)
        refusal = self._access.refusal(sock)
        if refusal is not None or self.connections + len(self._making) >= _MOST_CONNECTIONS:
            sock.close()
            if refusal is not None:
                what = f"a connection for HTTP was closed: {refusal.partition(' is not in ')[0]} is not allowed"
                self._tell(ConnectionRefused(SERVER, "access", what))
            return
        task = asyncio.create_task(self._serve(sock))
        self._making.add(task)
        task.add_done_callback(self._making.discard)

    @property
    def connections(self) -> int:
        """How many are open."""
        server = self._runner.server if self._runner is not None else None
        return len(server.connections) if server is not None else 0

    async def _serve(self, sock: socket.socket) -> None:
        assert self._runner is not None
        server = self._runner.server
        if server is None:  # it closes
            sock.close()
            return
        loop = asyncio.get_running_loop()
        try:
            _, protocol = await loop.connect_accepted_socket(server, sock)
            self._used[protocol] = loop.time()
        except (OSError, asyncio.CancelledError):
            sock.close()

    def _noting(self) -> Any:
        """Return a middleware that notes that a connection is in use, while it is."""
        now = asyncio.get_running_loop().time

        @web.middleware
        async def noting(request: web.Request, handler: Any) -> web.StreamResponse:
            self._used[request.protocol] = None
            try:
                response: web.StreamResponse = await handler(request)
                return response
            finally:
                self._used[request.protocol] = now()

        return noting

    def _sweep(self) -> None:
        """Forget connections that have ended, and close those that ask for nothing."""
        assert self._runner is not None
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_IDLE_TIMEOUT / 4, self._sweep)
        server = self._runner.server
        open_ones = set(server.connections) if server is not None else set()
        for protocol, used in list(self._used.items()):
            if protocol not in open_ones:
                del self._used[protocol]
            elif used is not None and loop.time() - used > _IDLE_TIMEOUT:
                protocol.force_close()

    def _cannot_accept(self, error: OSError) -> None:
        what = f"cannot accept connections for HTTP: {error.strerror}; trying again every second"
        self._tell(ResourceExhausted(SERVER, "descriptors", what))


class _Faults:
    """Where aiohttp logs: an error of a route is reported, what a client does wrong is answered, no more."""

    def __init__(self, tell: Callable[[ObserverEvent], object]) -> None:
        self._tell = tell

    def debug(self, *_: object, **__: object) -> None:
        """Do nothing."""

    def exception(self, *_: object, exc_info: object = None, **__: object) -> None:
        """Report an error of a route."""
        if isinstance(exc_info, Exception) and not isinstance(exc_info, HttpProcessingError):
            what = f"a page failed: {type(exc_info).__name__}: {exc_info}"
            self._tell(InternalError(SERVER, what, exc_info))

    info = warning = error = debug
