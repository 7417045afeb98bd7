"""Listening for MTAs: ``serve`` and ``Server``.  Nothing global is touched: no signals, no logging set-up, no loop policy."""

import asyncio
import contextlib
import socket
import ssl as tls
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from types import FrameType, TracebackType
from typing import Any, Final, Self, Unpack
from weakref import WeakKeyDictionary

from aiomilter._connection.dispatch import DispatchTables
from aiomilter._connection.stack import connection_of
from aiomilter._connection.transport import MilterProtocol
from aiomilter._option_text import documented
from aiomilter._serving.access import Access, peer_address, peer_name, peer_network
from aiomilter._serving.admission import ConnectionLimits
from aiomilter._serving.bind_errors import cannot_look_up
from aiomilter._serving.binding import Bound, Permissions, bind_found, query
from aiomilter._serving.factory import Factory, FactoryLifespan
from aiomilter._serving.forked import keep_from_children
from aiomilter._serving.handshakes import Handshakes
from aiomilter._serving.listener import Listener
from aiomilter._serving.memory import MemoryLimit
from aiomilter._serving.sharing import AcceptBalancer
from aiomilter._serving.shielded import finish, settle
from aiomilter._serving.stall import Watch, watch
from aiomilter.addresses import Address, Inet, parse_all
from aiomilter.exceptions import RemoteProtocolError
from aiomilter.handler import Milter
from aiomilter.observe import (
    OPTION_OF,
    ConnectionRefused,
    InternalError,
    Lifecycle,
    LifecycleKind,
    Limit,
    LimitReached,
    Misuse,
    PeerError,
    PeerErrorKind,
    ResourceExhausted,
    Where,
)
from aiomilter.observe.guard import Guard
from aiomilter.observe.log import LogObserver
from aiomilter.options import Options, ServeOptions
from aiomilter.wire.events import Connect
from aiomilter.wire.foreign import NEEDED, protocol_of
from aiomilter.wire.replies import TEMPFAIL, ConnectionResponse

__all__ = ["Factory", "Server", "serve"]

_MAPPED: Final = 1 << 20
"""Octets, more than an event loop reads at once."""
_TLS_BEGINS: Final = 10.0
_TLS_ENDS: Final = 5.0
"""Seconds that a peer has to do its part where TLS begins and ends."""
_TLS_WAITS: Final = 30.0
"""Seconds that a handshake waits for its turn; Postfix waits as long for a milter that does not answer a connection."""
_SWEEPS: Final = 8
"""How often within ``idle_timeout`` connections are looked at; one timer for all of them, none per packet."""


@documented(options=Options)
def serve(factory: Factory, *sockets: str, **options: Unpack[ServeOptions]) -> "Server":
    """Serve a filter to MTAs: ``async with serve(MyFilter, "inet:8890@127.0.0.1") as server: ...``.

    It embeds anywhere.  Leaving the block stops listening and drains: open SMTP sessions go on until the MTA says QUIT, at most
    for ``drain_timeout``.  Leaving it by an exception or a cancellation closes them at once.  Either way the factory is left
    then.

    Args:
        factory: See :data:`Factory`.  One filter is made at start, so what cannot be built fails here.  If one ends while it
            is in use, that is logged, new connections are answered TEMPFAIL until :meth:`Server.reload` has brought another,
            and without that, leaving the block raises RuntimeError.
        sockets: Where to listen, at least one, each once; see :mod:`aiomilter.addresses`.
        options: See :class:`aiomilter.options.Options`; ``help(aiomilter.serve)`` lists them below.

    Raises:
        AddressError: A text of ``sockets`` names no endpoint, or one that is there already.
        TypeError: The factory is none, a socket is not a text, there is no such option, or a value is not of its type.
        ValueError: There is no socket, or a number is out of range.
        OSError: A socket cannot be listened on; on entering the block.
    """
    return Server(factory, sockets, Options.given_to(serve, options))


class Server:
    """What ``async with serve(...)`` gives.

    Args:
        factory: As for :func:`serve`.
        sockets: As for :func:`serve`.
        options: Those of :func:`serve`.
        connection_factory: Makes what serves a connection.
        on_closed: Awaited when the server closes, once no connection is left.

    Raises:
        AddressError, TypeError, ValueError: As of :func:`serve`.
    """

    def __init__(
        self,
        factory: Factory,
        sockets: Sequence[str],
        options: Options,
        *,
        connection_factory: Callable[..., MilterProtocol] = MilterProtocol,
        on_closed: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        _check_factory(factory)
        if not sockets:
            raise ValueError("serve: expected at least one socket to listen on, found none")
        self.addresses: tuple[str, ...] = ()
        self._factory = factory
        self._wanted = parse_all(sockets)
        self._options = options
        self._connection_factory = connection_factory
        self._on_closed = on_closed
        self._permissions = Permissions(options.socket_mode, options.socket_owner, options.socket_group)
        self.drain_timeout: float = options.drain_timeout
        self.observer: Guard = Guard(LogObserver() if options.observer is None else options.observer)
        self._where = Where(server=options.name)
        self.broken: asyncio.Event = asyncio.Event()
        """Set while the factory in use has ended before it was to: new connections are asked to come back."""
        self._lifespan: FactoryLifespan | None = None
        self._lifespans: set[FactoryLifespan] = set()
        # Those that are about to start.
        self._building: set[FactoryLifespan] = set()
        self._connections: dict[MilterProtocol, FactoryLifespan] = {}
        self._refusing = DispatchTables(options)
        self._tables: WeakKeyDictionary[FactoryLifespan, DispatchTables] = WeakKeyDictionary()
        self._count = 0
        # One for all: a method looked up for each connection would be an object for each.
        self._when_ended = self._ended
        self._listeners: list[Listener] = []
        self._accepting: dict[asyncio.Task[Any], MilterProtocol] = {}
        self._share: AcceptBalancer | None = None
        # Whether it was started, and takes nobody any more; and what closes it.
        self._begun = False
        self._stopped = False
        self._closing: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._sweep: asyncio.TimerHandle | None = None
        self._access = Access(options.allowed_networks, options.allowed_users, options.allowed_groups)
        # Who is being let in.
        self._newcomer = self._where
        self._interval = 0.0
        # For how many sweeps too much memory is kept.
        self._pressed = 0
        self._memory = MemoryLimit(options.max_memory, options.max_messages, self._tell_limit)
        self._limits = ConnectionLimits(
            options.max_connections,
            options.max_connections_per_peer,
            options.max_refused_connections,
            lambda limit, number, what: self._tell_limit(limit, number, what, self._newcomer),
        )
        self._handshakes: Handshakes | None = None
        self._unwatch: Callable[[], None] | None = None

    async def __aenter__(self) -> Self:
        """Build the filter, then listen.

        Raises:
            RuntimeError: It was entered before.
        """
        await self.start()
        return self

    async def start(self, *, listen: bool = True) -> None:
        """Build the filter, then listen, unless connections are brought by :meth:`accept` only.

        Raises:
            RuntimeError: It was started before, or is closed.
        """
        if self._begun or self._stopped:
            raise RuntimeError("serve: a server starts once; call serve() for another")
        self._begun = True
        self._idle.set()
        options, loop = self._options, asyncio.get_running_loop()
        patience = min(_TLS_WAITS, options.packet_timeout)
        self._handshakes = Handshakes(loop, options.max_memory, self._memory.change, patience)
        # glibc gives blocks of the size that asyncio reads into by system calls of their own, three a read, until it has seen
        # a larger one freed: 25 calls a message instead of 10.
        bytes(_MAPPED)
        try:
            self._lifespan = await self._build(self._factory, "serve")
            if listen:
                await self._listen()
                if self._options.stall_timeout is not None:
                    self._unwatch = watch(
                        Watch(self._options.stall_timeout, self._claim, self.observer.tell, self._where)
                    )
        except BaseException:
            self._stop_listening()
            await self.close()
            raise
        self._begin_sweep()

    def _check_open(self, what: str) -> None:
        if self._stopped:
            raise RuntimeError(f"{what}: the server is closed")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Drain; after an exception, or if it is cancelled meanwhile, close at once."""
        try:
            if kind is None:
                await self.drain(self.drain_timeout)
        finally:
            await self.close()

    async def reload(self, factory: Factory) -> None:
        """Have new connections served by another factory; open ones finish on the old one.

        Raises:
            RuntimeError: The server was closed meanwhile.
            Exception: Whatever the factory raises; then nothing has changed.
        """
        self._check_open("reload")
        lifespan = await self._build(factory, "reload")
        if self._lifespan is None:
            # It has not started, or has let go since the other was built.
            await finish(self._end_lifespan(lifespan))
            raise RuntimeError("reload: the server does not serve")
        # Not before: another reload may have been quicker.
        old, self._lifespan = self._lifespan, lifespan
        if old.broken:
            self._lifespans.discard(old)
            self.broken.clear()
        old.retire()

    async def drain(self, timeout: float | None = None) -> None:
        """Stop listening, and wait until every open SMTP session has ended and the factory has let go of what it holds.

        Args:
            timeout: Seconds to wait; then the rest is ended: a command that waits is answered ``on_error``, and the
                callbacks ``abort`` and ``close`` run.  None waits for as long as sessions take, and ``drain_timeout`` for
                the factory.

        Cancelled meanwhile it closes: the MTAs were not told to come back to what does not listen any more.
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
                await self._all_made()
                for connection in self._connections:
                    connection.drain_off()
                await self._idle.wait()
                async with asyncio.timeout(self.drain_timeout):
                    await self._let_go()
        except TimeoutError:
            await self._end_connections()

    async def close(self) -> None:
        """Stop listening and end every connection now; ``abort`` and ``close`` run, then what the factory holds is freed.

        Each of these has ``cancel_timeout``; then it is cancelled, and the log says so.  Cancelled itself it goes on to its
        end, and passes that on then.

        Raises:
            Exception: What a factory raised as it was left; several as an ExceptionGroup.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
            await finish(self._closing)
        elif self._closing is not asyncio.current_task():
            await settle(self._closing)

    async def _close(self) -> None:
        self._stop_listening()
        if self._sweep is not None:
            self._sweep.cancel()
        await self._end_connections()
        if self._on_closed is not None:
            await self._on_closed()
        if self._unwatch is not None:
            unwatch, self._unwatch = self._unwatch, None
            unwatch()
        self._lifespan = None
        # Whoever builds one hears of it.
        await asyncio.gather(*map(self._end_lifespan, self._building))
        ended = await asyncio.gather(*map(self._end_lifespan, self._lifespans))
        errors = [error for error in ended if error is not None]
        self._lifespans.clear()
        if errors:
            raise errors[0] if len(errors) == 1 else ExceptionGroup("factories failed to end", errors)

    # ---------------------------------------------------------------------------------------------------- connections

    async def _all_made(self) -> None:
        """Wait for the transports of all that were accepted."""
        while self._accepting:
            await asyncio.wait(list(self._accepting))

    async def _end_connections(self) -> None:
        if self._options.ssl is not None:
            for task in self._accepting:
                task.cancel()  # who has not even finished its handshake is not waited for
        await self._all_made()
        for connection in self._connections:
            connection.stop_in_time()
        await self._idle.wait()

    def accept(self, peer: str = "") -> MilterProtocol:
        """Return what is to serve a new connection.

        Args:
            peer: Who has made it, for the limit of connections of each; "" for nobody in particular.
        """
        lifespan = self._lifespan
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
            for listener in self._listeners:
                listener.hold()
        return connection

    def _tables_of(self, lifespan: FactoryLifespan) -> DispatchTables:
        tables = self._tables.get(lifespan)
        if tables is None:
            tables = self._tables[lifespan] = DispatchTables(self._options)
        return tables

    def _ended(self, connection: MilterProtocol) -> None:
        self._connections.pop(connection).leave()
        self._count_connections()
        self._limits.leave(connection.number)
        if not self._limits.full:
            for listener in self._listeners:
                listener.go_on()
        if not self._connections:
            self._idle.set()

    def _claim(self, frame: FrameType) -> Where | None:
        """Return where a frame runs a callback, if it is on a connection of this server."""
        connection = connection_of(frame)
        return connection.at_work() if connection in self._connections and connection is not None else None

    def _begin_sweep(self) -> None:
        options = self._options
        self._interval = min(options.packet_timeout, options.idle_timeout or options.packet_timeout) / _SWEEPS
        self._sweep = asyncio.get_running_loop().call_later(self._interval, self._sweep_connections)

    def _sweep_connections(self) -> None:
        self._close_idle()
        self._begin_sweep()

    def _close_idle(self) -> None:
        """Close the connections that have said nothing, or nothing whole, for longer than they may."""
        options = self._options
        idle = float("inf") if options.idle_timeout is None else options.idle_timeout / self._interval
        unfinished = options.packet_timeout / self._interval
        self._pressed = self._pressed + 1 if self._memory.full else 0
        for connection in list(self._connections):
            if connection.waiting:
                continue
            connection.idle += 1
            patient = connection.begun and self._pressed <= unfinished
            if connection.dribbled() > (idle if patient else unfinished):
                seconds = options.idle_timeout if patient else options.packet_timeout
                what = f"a connection brought no whole packet within {seconds:g} s; closing"
                if connection.silent:
                    why = "as a mail client that waits for a greeting would"
                    what = f"a connection said nothing within {seconds:g} s, {why}; closing"
                kind = PeerErrorKind.SILENT if connection.silent else PeerErrorKind.UNFINISHED
                self.observer.tell(PeerError(connection.where(), kind, what))
                connection.stop()
            elif min(self._pressed, connection.idle) > unfinished and connection.keeps_much:
                what = f"a connection that keeps much brought no packet for {options.packet_timeout:g} s; closing"
                self.observer.tell(PeerError(connection.where(), PeerErrorKind.UNFINISHED, what))
                connection.stop()
            elif connection.idle > idle:
                what = f"a connection brought no packet for {options.idle_timeout:g} s; closing"
                self.observer.tell(PeerError(connection.where(), PeerErrorKind.IDLE, what))
                connection.stop()

    # ----------------------------------------------------------------------------------------------------- the factory

    async def _build(self, factory: Factory, what: str) -> "FactoryLifespan":
        lifespan = FactoryLifespan(factory, self._forget)
        self._building.add(lifespan)
        try:
            await lifespan.start()
        except asyncio.CancelledError:
            lifespan.give_up()
            await finish(self._end_lifespan(lifespan))
            raise
        except RuntimeError:
            self._check_open(what)
            raise
        finally:
            self._building.discard(lifespan)
        self._lifespans.add(lifespan)
        return lifespan

    async def _let_go(self) -> None:
        """Have the factories let go, and wait until they have; what they raise is raised by :meth:`close`."""
        self._lifespan = None
        for lifespan in self._lifespans:
            lifespan.release()
        for lifespan in self._lifespans:
            await lifespan.ended()

    async def _end_lifespan(self, lifespan: "FactoryLifespan") -> Exception | None:
        return await lifespan.end(self._options.cancel_timeout, self._factory_failed)

    def _factory_failed(self, what: str, error: BaseException | None = None) -> None:
        self.observer.tell(Lifecycle(self._where, LifecycleKind.FACTORY_FAILED, what, error))

    def _forget(self, lifespan: "FactoryLifespan", error: BaseException | None) -> None:
        """Forget a factory that has let go, and log what it raised where :meth:`close` does not raise it.

        One that was not to, such as a TaskGroup of which a task has failed, serves no new SMTP session, and if it is the one in
        use, nobody is served by another until a reload.
        """
        if self._lifespan is None or lifespan not in self._lifespans:
            return
        if lifespan.broken:
            self._factory_failed(f"the factory {lifespan.name} ended while it was in use", error)
            for connection, its in list(self._connections.items()):
                if its is lifespan:
                    connection.drain_off()
        elif error is not None:
            self._factory_failed("the factory raised as it ended", error)
        if lifespan is self._lifespan:
            self.broken.set()
        else:
            self._lifespans.discard(lifespan)

    # -------------------------------------------------------------------------------------------------------- sockets

    def share(self, share: AcceptBalancer) -> None:
        """Have the server accept from sockets that other processes accept from, too, once it is told to begin."""
        self._share = share

    async def _listen(self) -> None:
        if self._share is not None:
            self._listeners += [self._listener(bound, self._share) for bound in self._share.bound]
            self._share.when_told(self._begin_to_accept)
            return
        for address in self._wanted:
            for bound in await self._bind(address):
                self._listeners.append(self._listener(bound))
        self._check_open("serve")
        self._begin_to_accept()

    def _listener(self, bound: Bound, share: AcceptBalancer | None = None) -> Listener:
        def accepted(sock: socket.socket, name: Any) -> None:
            self._accepted(sock, name, bound.name)

        return Listener(bound, accepted, self._cannot_accept, share)

    def _begin_to_accept(self) -> None:
        for listener in self._listeners:
            listener.start(self._options.backlog)
            name = listener.bound.name
            self.addresses = (*self.addresses, name)
            what = f"listening on {name}{' (all addresses)' if listener.bound.everywhere else ''}"
            self._tell_listener(LifecycleKind.LISTENER_STARTED, name, what)
            self._warn(listener.bound)
        self._warn_of_no_effect()

    def _warn(self, bound: Bound) -> None:
        """Say that anybody may connect, where that is so: whoever does may say that mail comes from anywhere."""
        options = self._options
        known = self._access.by_network or (options.ssl is not None and options.ssl.verify_mode == tls.CERT_REQUIRED)
        if bound.exposed and not known:
            what = "other machines may connect, and nothing says which: see allowed_networks and ssl"
            self.observer.tell(Misuse(self._where, f"{bound.name}: {what}"))

    def _warn_of_no_effect(self) -> None:
        """Say which options keep nobody out, since there is no socket that they are about."""
        options = self._options
        local = [listener.bound.socket.family == socket.AF_UNIX for listener in self._listeners]
        for name, given, kind, there in (
            ("allowed_networks", options.allowed_networks, "TCP", not all(local)),
            ("allowed_users", options.allowed_users, "UNIX-domain", any(local)),
            ("allowed_groups", options.allowed_groups, "UNIX-domain", any(local)),
            ("ssl", options.ssl, "TCP", not all(local)),
        ):
            if given is not None and not there:
                self.observer.tell(Misuse(self._where, f"{name} has no effect: there is no {kind} socket"))

    async def _bind(self, address: Address) -> list[Bound]:
        if not isinstance(address, Inet):
            return bind_found(address, self._permissions, ())
        args, keywords = query(address)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(*args, **keywords)
        except (OSError, UnicodeError) as error:
            raise cannot_look_up(address, error) from error
        return bind_found(address, self._permissions, found)

    def _accepted(self, sock: socket.socket, name: Any, listener: str) -> None:
        """Have the event loop make a transport of a new connection, if it may stay."""
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
        loop = asyncio.get_running_loop()
        connection = self.accept(peer)
        self._count_connections()
        if connection.owns_socket:
            connection.take(sock)
            return
        context = self._options.ssl
        if context is not None and sock.family == socket.AF_UNIX:
            context = None
        if context is None:
            making = loop.connect_accepted_socket(lambda: connection, sock)
        else:
            making = self._make_tls(connection, sock, context)
        task = loop.create_task(making)
        self._accepting[task] = connection
        task.add_done_callback(self._transport_made)

    async def _make_tls(self, connection: MilterProtocol, sock: socket.socket, context: tls.SSLContext) -> Any:
        """Make a transport that speaks TLS, once it is its turn, unless the peer is seen to speak something else.

        Raises:
            RemoteProtocolError: It does.
            OSError: It has left, it does not do its part in time, or its turn has not come.
        """
        assert self._handshakes is not None
        with contextlib.ExitStack() as ours:
            ours.callback(sock.close)
            name = protocol_of(await _first_octets(sock))
            if name not in ("TLS", None):
                raise RemoteProtocolError(f"speaks {name}, not TLS")
            where = connection.where()
            say = partial(self._tell_limit, where=where)
            async with self._handshakes.turn(peer_network(sock), say):
                ours.pop_all()
                return await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: connection,
                    sock,
                    ssl=context,
                    ssl_handshake_timeout=_TLS_BEGINS,
                    ssl_shutdown_timeout=_TLS_ENDS,
                )

    def _count_connections(self) -> None:
        if self._share is not None:
            self._share.count(len(self._connections))

    def _transport_made(self, task: "asyncio.Task[Any]") -> None:
        connection = self._accepting.pop(task)
        error = None if task.cancelled() else task.exception()
        if error is None and not task.cancelled():
            return
        connection.never_made()
        where = connection.where()
        if isinstance(error, RemoteProtocolError):
            self.observer.tell(PeerError(where, PeerErrorKind.PROTOCOL, str(error)))
        elif isinstance(error, OSError):  # whatever goes wrong with TLS is one
            what = f"a new connection is lost: {type(error).__name__}: {error}"
            self.observer.tell(PeerError(where, PeerErrorKind.LOST, what))
        elif error is not None:
            self.observer.tell(InternalError(self._where, "a new connection is lost", error))

    def _cannot_accept(self, error: OSError) -> None:
        what = f"cannot accept connections: {error.strerror}; trying again every second"
        self.observer.tell(ResourceExhausted(self._where, "descriptors", what))

    def _tell_limit(self, limit: Limit, number: int, what: str, where: Where | None = None) -> None:
        self.observer.tell(LimitReached(where or self._where, limit, number, OPTION_OF[limit], what))

    def tell_reload(self, kind: LifecycleKind, what: str, error: BaseException | None = None) -> None:
        """Tell the observers how a reload goes."""
        self.observer.tell(Lifecycle(self._where, kind, what, error))

    def _tell_listener(self, kind: LifecycleKind, name: str, what: str) -> None:
        self.observer.tell(Lifecycle(replace(self._where, listener=name), kind, what))

    def _stop_listening(self) -> None:
        self._stopped = True
        for lifespan in self._building:
            lifespan.give_up()
        for listener in self._listeners:
            listener.close()
        if self._share is not None:
            self._share.end()
        for name in self.addresses if self._listeners else ():
            self._tell_listener(LifecycleKind.LISTENER_STOPPED, name, f"no longer listening on {name}")
        self._listeners.clear()


def _check_factory(factory: object) -> None:
    if not callable(factory):
        hint = f"; pass {type(factory).__name__} itself" if hasattr(factory, "wants") else ""
        raise TypeError(f"factory: expected a callable, found {type(factory).__name__}{hint}")


async def _first_octets(sock: socket.socket) -> bytes:
    """Return what a peer says first, once it does, and leave it to be read."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(sock.fileno(), readable.set)
    try:
        async with asyncio.timeout(_TLS_BEGINS):
            await readable.wait()
    except TimeoutError:
        raise TimeoutError(f"said nothing within {_TLS_BEGINS:g} s, expected TLS") from None
    finally:
        loop.remove_reader(sock.fileno())
    return sock.recv(NEEDED, socket.MSG_PEEK)


class _Refusing(Milter):
    """Serves the connections above the limit."""

    async def connect(self, ctx: object, connect: Connect) -> ConnectionResponse:
        """Ask the client to come back."""
        return TEMPFAIL
