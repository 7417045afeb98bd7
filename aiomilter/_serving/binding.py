"""Sockets to listen on: bound or inherited, with their permissions."""

import errno
import ipaddress
import os
import socket
from collections.abc import Iterable
from typing import Any

from aiomilter._serving import socket_file
from aiomilter._serving.access import group_number, user_number
from aiomilter._serving.bind_errors import cannot_listen, cannot_look_up
from aiomilter._serving.socket_file import SocketFile
from aiomilter.addresses import Address, Inet, Inherited, Unix

__all__ = ["Bound", "Permissions", "bind", "bind_found", "query"]


class Permissions:
    """The permissions of UNIX-domain sockets.

    Args:
        mode: Such as ``0o660``; None leaves it to the umask.
        owner: Name or number; None for the user of this process.
        group: The same for a group.

    Raises:
        TypeError: A user or group is neither name nor number.
        ValueError: This machine does not know the user or group.
    """

    def __init__(self, mode: int | None, owner: str | int | None, group: str | int | None) -> None:
        self.mode = mode
        self.owner: int | None = user_number("socket_owner", owner) if owner is not None else None
        self.group: int | None = group_number("socket_group", group) if group is not None else None


class Bound:
    """A socket that is bound, whether it listens yet or not.

    Args:
        sock: The socket.
        file: Of a UNIX-domain socket that we have made, and will remove.
    """

    def __init__(self, sock: socket.socket, file: SocketFile | None = None) -> None:
        self.socket = sock
        self._file = file

    @property
    def name(self) -> str:
        """The address that clients connect to."""
        return str(self._address)

    @property
    def _address(self) -> Unix | Inet:
        name = self.socket.getsockname()
        if self.socket.family == socket.AF_UNIX:
            return Unix(os.fsdecode(name))
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name[0], name[0])
        return Inet(host, name[1], self.socket.family)

    @property
    def label(self) -> str:
        """The address as the log has it: without a host where it is all addresses of the machine."""
        address = self._address
        return str(
            Inet(None, address.port, address.family) if self.everywhere and isinstance(address, Inet) else address
        )

    @property
    def local(self) -> bool:
        """Whether it is a UNIX-domain socket."""
        return self.socket.family == socket.AF_UNIX

    @property
    def path(self) -> str | None:
        """The path of a UNIX-domain socket whose file we have made; None for other sockets."""
        return None if self._file is None else os.fsdecode(self.socket.getsockname())

    @property
    def everywhere(self) -> bool:
        """Whether it listens on all addresses of the machine."""
        return self.socket.family != socket.AF_UNIX and self.socket.getsockname()[0] in ("0.0.0.0", "::")

    @property
    def exposed(self) -> bool:
        """Whether other hosts may reach it."""
        if self.socket.family == socket.AF_UNIX:
            return False
        return not ipaddress.ip_address(self.socket.getsockname()[0].partition("%")[0]).is_loopback

    def listen(self, backlog: int) -> None:
        """Listen; a socket that was handed over and listens already keeps its backlog.

        Raises:
            OSError: It cannot listen, or its path no longer leads to it: until now it looked stale, and another process may
                have replaced it.
        """
        if self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return
        try:
            self.socket.listen(backlog)
        except OSError as error:
            raise cannot_listen(self._address, error, self.socket.getsockname()[0]) from error
        if self._file is not None and not self._file.in_place:
            raise cannot_listen(self._address, socket_file.replaced())

    def close(self) -> None:
        """Close the socket, and remove its file, unless another process has replaced that."""
        if self._file is not None:
            self._file.remove()  # while the socket keeps its inode from being another's
        self.socket.close()


def query(address: Inet) -> tuple[tuple[str, int], dict[str, Any]]:
    """Return the arguments for ``getaddrinfo`` on an address to listen on."""
    everywhere = "::" if address.family == socket.AF_INET6 else "0.0.0.0"
    return (address.host or everywhere, address.port), {"family": address.family, "type": socket.SOCK_STREAM}


def bind(address: Address, permissions: Permissions) -> list[Bound]:
    """Bind the sockets of an address; a host name may be looked up, which blocks.

    Raises:
        OSError: One cannot be bound.
    """
    found: Iterable[Any] = ()
    if isinstance(address, Inet):
        args, keywords = query(address)
        try:
            found = socket.getaddrinfo(*args, **keywords)
        except (OSError, UnicodeError) as error:
            raise cannot_look_up(address, error) from error
    return bind_found(address, permissions, found)


def bind_found(address: Address, permissions: Permissions, found: Iterable[Any]) -> list[Bound]:
    """Bind the sockets of an address, given the result of ``getaddrinfo`` on it."""
    match address:
        case Inherited(int(fd)):
            return [Bound(_inherit(fd))]
        case Inherited():
            raise OSError(
                errno.EBADF, f"cannot listen on {address}: only a daemon knows sockets by name, see aiomilter.run"
            )
        case Unix(path):
            return [_bind_unix(path, permissions)]
        case Inet():
            return _bind_inet(address, found)


def _inherit(fd: int) -> socket.socket:
    address = Inherited(fd)
    try:
        listening = socket.socket(fileno=fd)
    except OSError as error:
        raise cannot_listen(address, error) from error
    if listening.type != socket.SOCK_STREAM:
        listening.close()
        what = "expected a stream socket; a socket unit needs ListenStream=, see systemd.socket(5)"
        raise cannot_listen(address, OSError(errno.EPROTOTYPE, what))
    if _is_connected(listening):
        listening.close()
        what = (
            "expected a socket to listen on, found a connection; a socket unit needs Accept=no, see systemd.socket(5)"
        )
        raise cannot_listen(address, OSError(errno.EISCONN, what))
    return listening


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _bind_unix(path: str, permissions: Permissions) -> Bound:
    """Bind a UNIX-domain socket, in place of a stale one: a socket that no process serves (P-132)."""
    listening: socket.socket | None = None
    try:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        socket_file.make_way(path)
        file = socket_file.bind(
            listening, path, mode=permissions.mode, owner=permissions.owner, group=permissions.group
        )
    except OSError as error:
        if listening is not None:
            listening.close()
        raise cannot_listen(Unix(path), error) from error
    return Bound(listening, file)


def _bind_inet(address: Inet, found: Iterable[Any]) -> list[Bound]:
    """Bind a TCP socket for every address of a host; port 0 is the same port for all."""
    family = address.family
    sockets: list[socket.socket] = []
    at = ""
    try:
        for where in dict.fromkeys(entry[4] for entry in found):
            at = where[0]
            # With its protocol named: only then asyncio turns Nagle's algorithm off on accepted connections.
            listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            sockets.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            first = sockets[0].getsockname()[1] if address.port == 0 and len(sockets) > 1 else address.port
            listening.bind((at, first, *where[2:]))
    except OSError as error:
        for listening in sockets:
            listening.close()
        raise cannot_listen(address, error, at) from error
    return [Bound(listening) for listening in sockets]
