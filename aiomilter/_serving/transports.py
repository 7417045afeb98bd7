"""Making the transport of an accepted connection, with TLS or without."""

import asyncio
import contextlib
import socket
import ssl as tls
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, cast

from aiomilter._serving.access import peer_network
from aiomilter._serving.handshakes import Handshakes
from aiomilter.exceptions import RemoteProtocolError
from aiomilter.observe import SERVER, InternalError, Limit, PeerError, PeerErrorKind, Where
from aiomilter.wire.foreign import NEEDED, protocol_of

__all__ = ["Accepted", "Transports"]

_TLS_BEGINS: Final = 10.0
_TLS_ENDS: Final = 5.0
"""Seconds that a peer has to do its part where TLS begins and ends."""
_TLS_WAITS: Final = 30.0
"""Seconds that a handshake waits for its turn; Postfix waits as long for a milter that does not answer a connection."""


_TLS_CAUSES: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it has no certificate, and clients need one here",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it finds that our certificate has expired",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refuses our certificate",
    "UNSUPPORTED_PROTOCOL": "it speaks an old version of TLS",
    "NO_SHARED_CIPHER": "we have no cipher in common",
}


class Accepted(Protocol):
    """A connection that gets a transport; an :class:`asyncio.BaseProtocol`, too."""

    def where(self) -> Where:
        """Return where it is, for the observer."""

    def transport_failed(self) -> None:
        """Note that there will be no transport."""


class Transports:
    """Makes the transports of accepted connections, and knows those that are not made yet.

    Args:
        context: TLS of TCP connections; None for none.
        report: Hears why a connection was lost.
        report_limit: Hears which limit was reached, its value, a line for the log, and where.
        where: Of the server.
    """

    def __init__(
        self,
        context: tls.SSLContext | None,
        report: Callable[[PeerError | InternalError], object],
        report_limit: Callable[[Limit, int, str, Where], object],
        where: Where = SERVER,
    ) -> None:
        self.pending: dict[asyncio.Task[Any], Accepted] = {}
        self.handshakes: Handshakes | None = None
        self._context = context
        self._report = report
        self._report_limit = report_limit
        self._where = where

    def start(self, max_memory: int, change: Callable[[int], None], packet_timeout: float) -> None:
        """Begin, in the event loop that runs.

        Args:
            max_memory: As for :class:`Handshakes`.
            change: As for :class:`Handshakes`.
            packet_timeout: Seconds after which a connection without a whole packet is closed.
        """
        loop = asyncio.get_running_loop()
        self.handshakes = Handshakes(loop, max_memory, change, min(_TLS_WAITS, packet_timeout))

    def limit(self, max_memory: int, packet_timeout: float) -> None:
        """Have other limits on handshakes from now on; see :meth:`start`."""
        if self.handshakes is not None:
            self.handshakes.limit(max_memory, min(_TLS_WAITS, packet_timeout))

    def make(self, connection: Accepted, sock: socket.socket) -> None:
        """Make the transport of a connection; over a UNIX-domain socket it has no TLS."""
        protocol = cast(asyncio.BaseProtocol, connection)
        loop = asyncio.get_running_loop()
        if self._context is None or sock.family == socket.AF_UNIX:
            making = loop.connect_accepted_socket(lambda: protocol, sock)
        else:
            making = self._make_tls(connection, protocol, sock, self._context)
        task = loop.create_task(making)
        self.pending[task] = connection
        task.add_done_callback(self._made)

    async def all_made(self, *, give_up_handshakes: bool = False) -> None:
        """Wait until there is a transport of every accepted connection, or until there will be none.

        Args:
            give_up_handshakes: Whether to wait for no peer that has not finished its handshake.
        """
        if give_up_handshakes and self._context is not None:
            for task in self.pending:
                task.cancel()
        while self.pending:
            await asyncio.wait(list(self.pending))

    async def _make_tls(
        self, connection: Accepted, protocol: asyncio.BaseProtocol, sock: socket.socket, context: tls.SSLContext
    ) -> Any:
        """Make a transport that speaks TLS, once it is its turn, unless the peer is seen to speak something else.

        Raises:
            RemoteProtocolError: It does.
            OSError: It has left, it does not do its part in time, or its turn has not come.
        """
        assert self.handshakes is not None
        with contextlib.ExitStack() as ours:
            ours.callback(sock.close)
            name = protocol_of(await _first_octets(sock))
            if name not in ("TLS", None):
                raise RemoteProtocolError(f"speaks {name}, not TLS")
            report_limit = partial(self._report_limit_at, connection.where())
            async with self.handshakes.turn(peer_network(sock), report_limit):
                ours.pop_all()
                return await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: protocol,
                    sock,
                    ssl=context,
                    ssl_handshake_timeout=_TLS_BEGINS,
                    ssl_shutdown_timeout=_TLS_ENDS,
                )

    def _report_limit_at(self, where: Where, limit: Limit, number: int, what: str) -> None:
        self._report_limit(limit, number, what, where)

    def _made(self, task: "asyncio.Task[Any]") -> None:
        connection = self.pending.pop(task)
        error = None if task.cancelled() else task.exception()
        if error is None and not task.cancelled():
            return
        connection.transport_failed()
        where = connection.where()
        if isinstance(error, RemoteProtocolError):
            self._report(PeerError(where, PeerErrorKind.PROTOCOL, str(error)))
        elif isinstance(error, OSError):  # every failure of TLS is one
            what = f"a new connection is lost: {_cause(error)}"
            self._report(PeerError(where, PeerErrorKind.LOST, what))
        elif error is not None:
            self._report(InternalError(self._where, "a new connection is lost", error))


def _cause(error: OSError) -> str:
    """Return why a connection is lost; of TLS without the names and line numbers of OpenSSL."""
    if isinstance(error, tls.SSLCertVerificationError):
        return f"TLS failed: its certificate is not trusted: {error.verify_message}"
    if isinstance(error, tls.SSLError) and error.reason is not None:
        return f"TLS failed: {_TLS_CAUSES.get(error.reason) or error.reason.lower().replace('_', ' ')}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


async def _first_octets(sock: socket.socket) -> bytes:
    """Return the first octets of a peer, once they arrive, and leave them to be read."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(sock.fileno(), readable.set)
    try:
        async with asyncio.timeout(_TLS_BEGINS):
            await readable.wait()
    except TimeoutError:
        raise TimeoutError(f"sent nothing within {_TLS_BEGINS:g} s, expected TLS") from None
    finally:
        loop.remove_reader(sock.fileno())
    return sock.recv(NEEDED, socket.MSG_PEEK)
