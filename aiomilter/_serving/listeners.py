"""All sockets that a server listens on."""

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from aiomilter._serving.bind_errors import cannot_look_up
from aiomilter._serving.binding import Bound, Permissions, bind_found, query
from aiomilter._serving.listener import Listener
from aiomilter._serving.sharing import AcceptBalancer
from aiomilter.addresses import Address, Inet
from aiomilter.observe import SERVER, Lifecycle, LifecycleKind, ResourceExhausted, Where

__all__ = ["Accept", "Listeners"]

Accept: TypeAlias = Callable[[socket.socket, Any, str], None]
"""Gets a new connection, the address of its peer, and the name of the listener."""


class Listeners:
    """Binds the sockets of a server, accepts from them, and closes them.

    Args:
        wanted: Where to listen.
        permissions: Of UNIX-domain sockets.
        backlog: Connections that the system may keep waiting.
        accept: See :data:`Accept`.
        report: Hears of each socket, and of what the system lacks.
        where: Of the server.
    """

    def __init__(
        self,
        wanted: Sequence[Address],
        permissions: Permissions,
        backlog: int,
        accept: Accept,
        report: Callable[[Lifecycle | ResourceExhausted], object],
        where: Where = SERVER,
    ) -> None:
        self.addresses: tuple[str, ...] = ()
        """Where they listen, or have listened."""
        self.share: AcceptBalancer | None = None
        """If other processes accept from the same sockets, which are bound already."""
        self._wanted = wanted
        self._permissions = permissions
        self._backlog = backlog
        self._accept = accept
        self._report = report
        self._where = where
        self._listeners: list[Listener] = []

    def __iter__(self) -> Iterator[Listener]:
        return iter(self._listeners)

    def __len__(self) -> int:
        return len(self._listeners)

    async def bind(self) -> None:
        """Bind the sockets, if they are not shared.

        Raises:
            OSError: One cannot be bound.
        """
        if self.share is not None:
            self._listeners += map(self._listener, self.share.bound)
            return
        for address in self._wanted:
            self._listeners += map(self._listener, await self._bind(address))

    async def _bind(self, address: Address) -> list[Bound]:
        if not isinstance(address, Inet):
            return bind_found(address, self._permissions, ())
        args, keywords = query(address)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(*args, **keywords)
        except (OSError, UnicodeError) as error:
            raise cannot_look_up(address, error) from error
        return bind_found(address, self._permissions, found)

    def _listener(self, bound: Bound) -> Listener:
        label = bound.label

        def accepted(sock: socket.socket, peer: Any) -> None:
            self._accept(sock, peer, label)

        return Listener(bound, accepted, self._cannot_accept, self.share)

    def start(self) -> None:
        """Accept from all sockets.

        Raises:
            OSError: One cannot be listened on.
        """
        for listener in self._listeners:
            listener.start(self._backlog)
            label = listener.bound.label
            self.addresses = (*self.addresses, listener.bound.name)
            what = f"listening on {label}{' (all addresses)' if listener.bound.everywhere else ''}"
            self._report_on(label, LifecycleKind.LISTENER_STARTED, what)

    def hold(self) -> None:
        """Accept none for now."""
        for listener in self._listeners:
            listener.hold()

    def go_on(self) -> None:
        """Accept again."""
        for listener in self._listeners:
            listener.go_on()

    def close(self) -> None:
        """Stop listening."""
        labels = [listener.bound.label for listener in self._listeners] if self.addresses else []
        for listener in self._listeners:
            listener.close()
        if self.share is not None:
            self.share.end()
        for label in labels:
            self._report_on(label, LifecycleKind.LISTENER_STOPPED, f"no longer listening on {label}")
        self._listeners.clear()

    def _cannot_accept(self, error: OSError) -> None:
        what = f"cannot accept connections: {error.strerror}; trying again every second"
        self._report(ResourceExhausted(self._where, "descriptors", what))

    def _report_on(self, name: str, kind: LifecycleKind, what: str) -> None:
        self._report(Lifecycle(replace(self._where, listener=name), kind, what))
