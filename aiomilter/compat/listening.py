"""Binding a socket as libmilter does, in libmilter's syntax and with its conditions."""

import os
import socket

from aiomilter._address_hints import MAX_UNIX_PATH
from aiomilter._serving.bind_errors import cannot_listen, cannot_look_up
from aiomilter._serving.socket_file import SocketFile, bind, remove_socket
from aiomilter.addresses import Inet, Unix, parse
from aiomilter.exceptions import AddressError

__all__ = ["Listening", "open_socket"]


class Listening:
    """A socket that listens, and the file it has in the file system, if it has one."""

    def __init__(self, listening: socket.socket, file: SocketFile | None = None) -> None:
        self.socket = listening
        self._file = file

    def close(self) -> None:
        """Close it, and remove its file unless another has taken its place."""
        file, self._file = self._file, None
        if file is not None:
            file.remove()  # while the socket keeps its inode from being another's
        self.socket.close()


def open_socket(name: str, *, remove: bool, backlog: int) -> Listening:
    """Bind a socket and listen on it.

    Args:
        name: ``unix:PATH``, ``local:PATH``, ``PATH``, ``inet:PORT@HOST`` or ``inet6:PORT@HOST``; the host may be in brackets or
            missing, the port may be the name of a service.
        remove: Whether to remove a socket that is at PATH.
        backlog: Connections the system may keep waiting.

    Raises:
        OSError: It cannot be listened on.
        ValueError: The name is not in one of these forms.

    Source: libmilter/docs/smfi_setconn.html, smfi_opensocket.html.
    """
    kind, colon, rest = name.partition(":")
    if not colon:
        kind, rest = "unix", name
    match kind.lower():
        case "unix" | "local" | "":
            return _open_unix(rest, remove, backlog)
        case "inet":
            return Listening(_open_inet(name, rest, socket.AF_INET, backlog))
        case "inet6":
            return Listening(_open_inet(name, rest, socket.AF_INET6, backlog))
    raise _no_name(name)


def _no_name(name: str) -> ValueError:
    """Return an error that shows libmilter's form of a name, which may be written as Postfix writes it."""
    try:
        return ValueError(f"{name!r}: expected libmilter's form; write {parse(name)}")
    except AddressError as error:
        return ValueError(str(error))


def _open_unix(path: str, remove: bool, backlog: int) -> Listening:
    if not path or len(os.fsencode(path)) > MAX_UNIX_PATH:
        raise ValueError(f"expected a path of 1 to {MAX_UNIX_PATH} octets")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if remove:
            remove_socket(path)
        # As libmilter does: permissions follow the program's umask.
        file = bind(listening, path)
        listening.listen(backlog)
    except BaseException as error:
        listening.close()
        if isinstance(error, OSError):
            raise cannot_listen(Unix(path), error) from error
        raise
    return Listening(listening, file)


def _open_inet(name: str, rest: str, family: socket.AddressFamily, backlog: int) -> socket.socket:
    port, at, host = rest.partition("@")
    flags = 0
    if host.startswith("[") and host.endswith("]"):
        host, flags = host[1:-1], socket.AI_NUMERICHOST  # brackets hold an address, so do not look it up as a name
    if at and not host:
        raise _no_name(name)
    try:
        number = int(port) if port.isascii() and port.isdigit() else socket.getservbyname(port, "tcp")
    except (OSError, ValueError) as error:  # Python makes a number of 4300 digits at most
        raise _no_name(name) from error
    if not number <= 65535:
        raise _no_name(name)
    address = Inet(host or None, number, family)
    everywhere = "0.0.0.0" if family == socket.AF_INET else "::"
    try:
        found = socket.getaddrinfo(host or everywhere, number, family=family, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError) as error:
        raise cannot_look_up(address, error) from error
    where = found[0][4]
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(backlog)
    except BaseException as error:
        listening.close()
        if isinstance(error, OSError):
            raise cannot_listen(address, error, str(where[0])) from error
        raise
    return listening
