"""Serving MTAs: ``serve`` and ``Server``.  They touch nothing global: no signals, no logging set-up, no loop policy."""

import asyncio
import socket
import ssl as tls
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from types import FrameType, TracebackType
from typing import Any, Final, Self, Unpack
from weakref import WeakKeyDictionary

from aiomilter._connection.dispatch import DispatchTables
from aiomilter._connection.served import ServedConnection
from aiomilter._connection.stack import connection_of
from aiomilter._connection.transport import MilterProtocol
from aiomilter._option_text import documented
from aiomilter._serving.access import Access, peer_address, peer_name
from aiomilter._serving.admission import ConnectionLimits
from aiomilter._serving.binding import Bound, Permissions
from aiomilter._serving.factory import Factory, FactoryLifespan
from aiomilter._serving.forked import keep_from_children
from aiomilter._serving.idle import IdleTimeouts
from aiomilter._serving.lifespans import FactoryLifespans
from aiomilter._serving.listeners import Listeners
from aiomilter._serving.load import Load
from aiomilter._serving.memory import MemoryLimit
from aiomilter._serving.reach import COMMANDS, reach_warnings
from aiomilter._serving.sharing import AcceptBalancer
from aiomilter._serving.shielded import finish, settle
from aiomilter._serving.stall import StallWatch, watch
from aiomilter._serving.transports import Transports
from aiomilter.addresses import parse_all
from aiomilter.handler import Milter
from aiomilter.observe import (
    OPTION_OF,
    ConnectionRefused,
    Lifecycle,
    LifecycleKind,
    Limit,
    LimitReached,
    Misuse,
    Where,
)
from aiomilter.observe.guard import Guard
from aiomilter.observe.log import LogObserver
from aiomilter.options import Options, ServeOptions
from aiomilter.wire.events import Connect
from aiomilter.wire.replies import TEMPFAIL, ConnectionResponse

__all__ = ["Factory", "Server", "serve"]

_MAPPED: Final = 1 << 20
"""Octets; more than an event loop reads at once."""


@documented(options=Options)
def serve(factory: Factory, *sockets: str, **options: Unpack[ServeOptions]) -> "Server":
    """Serve a filter to MTAs: ``async with serve(MyFilter, "inet:8890@127.0.0.1") as server: ...``.

    It works inside any asyncio program.  Leaving the block stops listening and drains: open SMTP sessions go on until the MTA
    sends QUIT, at most for ``drain_timeout``.  Leaving it by an exception or a cancellation closes them at once.  The factory
    is closed last.

    Args:
        factory: See :data:`Factory`.  One filter is made at start, so a filter that cannot be built fails here.  A factory that
            ends while it is in use is logged, and new connections are answered TEMPFAIL until :meth:`Server.reload` enters
            another.  Without a reload, leaving the block raises RuntimeError.
        sockets: Where to listen, at least one, each once; see :mod:`aiomilter.addresses`.
        options: See :class:`aiomilter.options.Options`; ``help(aiomilter.serve)`` lists them below.

    Raises:
        AddressError: A text of ``sockets`` is not an endpoint, or names one twice.
        TypeError: The factory is not callable, a socket is not a text, an option is unknown, or a value is of another type.
        ValueError: ``sockets`` is empty, or a number is out of range.
        OSError: A socket cannot be listened on; on entering the block.
    """
    return Server(factory, sockets, Options.given_to(serve, options))


class Server:
    """A server of one filter, as ``async with serve(...)`` returns it.

    Args:
        factory: As for :func:`serve`.
        sockets: As for :func:`serve`.
        options: As for :func:`serve`.
        connection_factory: Makes the object of a connection.
        on_closed: Awaited when the server closes, after the last connection has ended.

    Raises:
        AddressError, TypeError, ValueError: As for :func:`serve`.
    """

    def __init__(
        self,
        factory: Factory,
        sockets: Sequence[str],
        options: Options,
        *,
        connection_factory: Callable[..., ServedConnection] = MilterProtocol,
        on_closed: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        _check_factory(factory)
        if not sockets:
            raise ValueError("serve: expected at least one socket to listen on, found none")
        wanted = parse_all(sockets)
        self._factory = factory
        self._options = options
        self._connection_factory = connection_factory
        self._on_closed = on_closed
        self.drain_timeout: float = options.drain_timeout
        self.observer: Guard = Guard(LogObserver() if options.observer is None else options.observer)
        self._where = Where(server=options.name)
        self._lifespans = FactoryLifespans(options.cancel_timeout, self._factory_failed, self._factory_broke)
        self._connections: dict[ServedConnection, FactoryLifespan] = {}
        self._refusing = DispatchTables(options)
        self._tables: WeakKeyDictionary[FactoryLifespan, DispatchTables] = WeakKeyDictionary()
        self._count = 0
        # One object for all connections: looking the method up for each would make one for each.
        self._when_ended = self._ended
        # Whether it was started; whether it accepts no more; and the Task that closes it.
        self._begun = False
        self._stopped = False
        self._closing: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._access = Access(options.allowed_networks, options.allowed_users, options.allowed_groups)
        # Where the connection comes from that is being accepted.
        self._newcomer = self._where
        self._memory = MemoryLimit(options.max_memory, options.max_messages, self._report_limit)
        self._limits = ConnectionLimits(
            options.max_connections,
            options.max_connections_per_peer,
            options.max_refused_connections,
            lambda limit, number, what: self._report_limit(limit, number, what, self._newcomer),
        )
        permissions = Permissions(options.socket_mode, options.socket_owner, options.socket_group)
        self._listeners = Listeners(
            wanted, permissions, options.backlog, self._accepted, self.observer.tell, self._where
        )
        self._transports = Transports(options.ssl, self.observer.tell, self._report_limit, self._where)
        self._timeouts = IdleTimeouts(
            self._connections, self._memory, options.packet_timeout, options.idle_timeout, self.observer.tell
        )
        self._unwatch: Callable[[], None] | None = None

    @property
    def broken(self) -> asyncio.Event:
        """Set while the factory in use has ended by itself: new connections are answered TEMPFAIL."""
        return self._lifespans.broken

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens, or has listened, as a client names it: ``inet:8890@127.0.0.1``."""
        return self._listeners.addresses

    async def __aenter__(self) -> Self:
        """Build the filter, then listen.

        Raises:
            RuntimeError: The server was entered before.
        """
        await self.start()
        return self

    async def start(self, *, listen: bool = True) -> None:
        """Build the filter, then listen.

        Args:
            listen: Whether to listen; False where every connection is made by :meth:`accept`.

        Raises:
            RuntimeError: The server was started before, or is closed.
        """
        if self._begun or self._stopped:
            raise RuntimeError("serve: a server starts once; call serve() for another")
        self._begun = True
        self._idle.set()
        options = self._options
        self._transports.start(options.max_memory, self._memory.change, options.packet_timeout)
        # glibc allocates blocks of the size that asyncio reads into by system calls, three a read, until a larger one was
        # freed: 25 calls a message instead of 10.
        bytes(_MAPPED)
        try:
            self._lifespans.current = await self._build(self._factory, "serve")
            if listen:
                await self._listen()
                self._watch_stalls()
        except BaseException:
            self._stop_listening()
            await self.close()
            raise
        self._timeouts.start()

    def _watch_stalls(self) -> None:
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        if self._options.stall_timeout is not None:
            self._unwatch = watch(StallWatch(self._options.stall_timeout, self._claim, self.observer.tell, self._where))

    def _check_open(self, what: str) -> None:
        if self._stopped:
            raise RuntimeError(f"{what}: the server is closed")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Drain; after an exception, or if the drain is cancelled, close at once."""
        try:
            if kind is None:
                await self.drain(self.drain_timeout)
        finally:
            await self.close()

    async def reload(self, factory: Factory | None = None) -> None:
        """Serve new connections by another factory; open ones finish on the old one.

        Args:
            factory: As for :func:`serve`; None to enter the one in use again.

        Raises:
            RuntimeError: The server is closed, or was closed while the factory was entered.
            Exception: The factory raised it, and nothing has changed.
        """
        self._check_open("reload")
        factory = self._factory if factory is None else factory
        lifespan = await self._build(factory, "reload")
        # This fails if the server has not started, or has drained since the other was built.
        await self._lifespans.replace(lifespan)
        self._factory = factory

    def take(self, options: Options) -> None:
        """Serve new connections by other options; open ones keep theirs, and limits on all of them hold at once.

        Where the server listens, TLS, the observers and the name stay.

        Args:
            options: As for :func:`serve`.
        """
        self._options = options
        self._refusing = DispatchTables(options)
        self._tables.clear()
        self.drain_timeout = options.drain_timeout
        self._lifespans.cancel_timeout = options.cancel_timeout
        self._access = Access(options.allowed_networks, options.allowed_users, options.allowed_groups)
        self._memory.limit(options.max_memory, options.max_messages)
        self._transports.limit(options.max_memory, options.packet_timeout)
        self._limits.limit(options.max_connections, options.max_connections_per_peer, options.max_refused_connections)
        if not self._limits.full:
            self._listeners.go_on()
        serves = self._timeouts.active
        self._timeouts.stop()
        self._timeouts = IdleTimeouts(
            self._connections, self._memory, options.packet_timeout, options.idle_timeout, self.observer.tell
        )
        if serves:
            self._timeouts.start()
            if self.addresses:
                self._watch_stalls()

    async def drain(self, timeout: float | None = None) -> None:
        """Stop listening, and wait until every open SMTP session has ended and the factory is closed.

        A drain that is cancelled closes the server: it no longer listens, so it cannot go on.

        Args:
            timeout: Seconds to wait.  After that the remaining sessions end: a waiting command is answered with
                ``on_error``, and the callbacks ``abort`` and ``close`` run.  None waits for as long as sessions take, and
                ``drain_timeout`` for the factory.
        """
        if not self._begun:
            return
        self._stop_listening()
        try:
            await self._drain(timeout)
        except BaseException:
            await self.close()
            raise

    async def _drain(self, timeout: float | None) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._transports.all_made()
                for connection in self._connections:
                    connection.begin_drain()
                await self._idle.wait()
                async with asyncio.timeout(self.drain_timeout):
                    await self._lifespans.let_go()
        except TimeoutError:
            await self._end_connections()

    async def close(self) -> None:
        """Stop listening and end every connection now; ``abort`` and ``close`` run, then the factory is closed.

        Each of these has ``cancel_timeout``; then it is cancelled, and that is logged.  Cancelling this does not interrupt it:
        the cancellation is raised once everything is closed.

        Raises:
            Exception: A factory raised it as it was closed; several are an ExceptionGroup.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
            await finish(self._closing)
        elif self._closing is not asyncio.current_task():
            await settle(self._closing)

    async def _close(self) -> None:
        self._stop_listening()
        self._timeouts.stop()
        await self._end_connections()
        if self._on_closed is not None:
            await self._on_closed()
        if self._unwatch is not None:
            unwatch, self._unwatch = self._unwatch, None
            unwatch()
        await self._lifespans.end()

    # ---------------------------------------------------------------------------------------------------- connections

    async def _end_connections(self) -> None:
        await self._transports.all_made(give_up_handshakes=True)
        for connection in self._connections:
            connection.stop_in_time()
        await self._idle.wait()

    def accept(self, peer: str = "") -> ServedConnection:
        """Return the object of a new connection.

        Args:
            peer: The peer, for ``max_connections_per_peer``; "" to leave the connection out of that count.
        """
        lifespan = self._lifespans.current
        assert lifespan is not None
        self._count += 1
        served = self._limits.enter(self._count, peer)
        if lifespan.broken:
            what = "the factory has ended; answering TEMPFAIL to new connections until a reload"
            self.observer.tell(ConnectionRefused(self._newcomer, "factory", what))
            served = False
        make, tables, kind = lifespan.make, self._tables_of(lifespan), self._connection_factory
        if not served:
            make, tables, kind = _Refusing, self._refusing, MilterProtocol
        loop = asyncio.get_running_loop()
        connection = kind(
            loop,
            make,
            tables,
            self._options,
            self.observer,
            self._count,
            self._when_ended,
            self._memory,
            self._newcomer.peer,
            self._newcomer.listener,
        )
        self._connections[connection] = lifespan
        lifespan.connections += 1
        self._idle.clear()
        if self._limits.full:
            self._listeners.hold()
        return connection

    def _tables_of(self, lifespan: FactoryLifespan) -> DispatchTables:
        tables = self._tables.get(lifespan)
        if tables is None:
            tables = self._tables[lifespan] = DispatchTables(self._options, lifespan.generation)
        return tables

    def _ended(self, connection: ServedConnection) -> None:
        self._connections.pop(connection).leave()
        self._count_connections()
        self._limits.leave(connection.number)
        if not self._limits.full:
            self._listeners.go_on()
        if not self._connections:
            self._idle.set()

    def load(self) -> Load:
        """Return what is open and in work now."""
        current = self._lifespans.current
        filters = () if current is None else (current.make, current.checked)
        none = dict.fromkeys((each.bound.label for each in self._listeners), 0)
        connections = none | Counter(each.listener for each in self._connections)
        in_message = (each.listener for each in self._connections if each.session.transaction.in_message)
        return Load(self._stopped, filters, connections, none | Counter(in_message), self._memory.used)

    def _claim(self, frame: FrameType) -> Where | None:
        """Return where a frame runs a callback of this server; None if it does not."""
        connection = connection_of(frame)
        return connection.peek_where() if connection in self._connections and connection is not None else None

    # ----------------------------------------------------------------------------------------------------- the factory

    async def _build(self, factory: Factory, what: str) -> FactoryLifespan:
        try:
            return await self._lifespans.build(factory)
        except RuntimeError:
            self._check_open(what)
            raise

    def _factory_failed(self, what: str, error: BaseException | None) -> None:
        self.observer.tell(Lifecycle(self._where, LifecycleKind.FACTORY_FAILED, what, error))

    def _factory_broke(self, lifespan: FactoryLifespan) -> None:
        for connection, its in list(self._connections.items()):
            if its is lifespan:
                connection.begin_drain()

    # -------------------------------------------------------------------------------------------------------- sockets

    def share(self, share: AcceptBalancer) -> None:
        """Accept from sockets shared with other processes, from the moment that the balancer begins."""
        self._listeners.share = share

    async def _listen(self) -> None:
        await self._listeners.bind()
        if self._listeners.share is not None:
            self._listeners.share.when_told(self._begin_to_accept)
            return
        self._check_open("serve")
        self._begin_to_accept()

    def _begin_to_accept(self) -> None:
        self._listeners.start()
        if self._listeners.share is None:  # of shared ones, the process that has bound them warns
            warn_of_reach([listener.bound for listener in self._listeners], self._options, self.observer)

    def _accepted(self, sock: socket.socket, name: Any, listener: str) -> None:
        """Have the event loop make a transport of a new connection, unless it is refused."""
        keep_from_children(sock)
        self._newcomer = replace(self._where, peer=peer_address(sock, name), listener=listener)
        try:
            self._let_in(sock)
        finally:
            self._newcomer = self._where

    def _let_in(self, sock: socket.socket) -> None:
        refusal = self._access.refusal(sock)
        if refusal is not None:
            sock.close()
            self.observer.tell(ConnectionRefused(self._newcomer, "access", f"a connection was closed: {refusal}"))
            return
        peer = peer_name(sock) if self._limits.counts_peers else ""
        if self._limits.rejects(peer):
            sock.close()
            return
        connection = self.accept(peer)
        self._count_connections()
        connection.serve(sock, self._transports)

    def _count_connections(self) -> None:
        if self._listeners.share is not None:
            self._listeners.share.count(len(self._connections))

    def _report_limit(self, limit: Limit, number: int, what: str, where: Where | None = None) -> None:
        self.observer.tell(LimitReached(where or self._where, limit, number, OPTION_OF[limit], what))

    def report(self, kind: LifecycleKind, what: str, error: BaseException | None = None) -> None:
        """Report to the observers what has happened to the server.

        Args:
            kind: What happened.
            what: A sentence for the log.
            error: What was raised, if it is more than the sentence says.
        """
        self.observer.tell(Lifecycle(self._where, kind, what, error))

    def _stop_listening(self) -> None:
        self._stopped = True
        self._lifespans.give_up()
        self._listeners.close()


def warn_of_reach(bound: Sequence[Bound], options: Options, observer: Guard) -> None:
    """Warn of sockets that any host may connect to, or only one user, and of options on access that have no effect."""
    known = options.allowed_networks is not None or (
        options.ssl is not None and options.ssl.verify_mode == tls.CERT_REQUIRED
    )
    given = [name for name in COMMANDS if getattr(options, name) is not None]
    for what in reach_warnings(bound, known=known, mode=options.socket_mode, given=given):
        observer.tell(Misuse(Where(server=options.name), what))


def _check_factory(factory: object) -> None:
    if not callable(factory):
        hint = f"; pass {type(factory).__name__} itself" if hasattr(factory, "wants") else ""
        raise TypeError(f"factory: expected a callable, found {type(factory).__name__}{hint}")


class _Refusing(Milter):
    """Answers the connections above the limit."""

    async def connect(self, ctx: object, connect: Connect) -> ConnectionResponse:
        """Have the client try again later."""
        return TEMPFAIL
