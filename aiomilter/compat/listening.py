"""Binding a socket as libmilter does, in libmilter's syntax and with its conditions."""

import contextlib
import os
import socket
import stat
from typing import Final

__all__ = ["Listening", "open_socket"]

_MAX_PATH: Final = 107
"""Octets of a path that sockaddr_un can hold on Linux, its NUL not counted."""


class Listening:
    """A socket that listens, and the file it has in the file system, if it has one."""

    def __init__(self, listening: socket.socket, path: str | None = None) -> None:
        self.socket = listening
        self._path = path
        status = os.stat(path) if path is not None else None
        self._identity = None if status is None else (status.st_dev, status.st_ino)

    def close(self) -> None:
        """Close it, and remove its file if it is still the one that was made."""
        self.socket.close()
        path, self._path = self._path, None
        if path is not None:
            with contextlib.suppress(OSError):
                status = os.stat(path)
                if (status.st_dev, status.st_ino) == self._identity:
                    os.unlink(path)


def open_socket(name: str, *, remove: bool, backlog: int) -> Listening:
    """Bind a socket and listen on it.

    Args:
        name: ``unix:PATH``, ``local:PATH``, ``PATH``, ``inet:PORT@HOST`` or ``inet6:PORT@HOST``; the host may be in brackets or
            missing, the port may be the name of a service.
        remove: Whether to remove a socket that is at PATH.
        backlog: Connections the system may keep waiting.

    Raises:
        OSError: It cannot be listened on.
        ValueError: The name means nothing.

    Source: libmilter/docs/smfi_setconn.html, smfi_opensocket.html.
    """
    kind, colon, rest = name.partition(":")
    if not colon:
        kind, rest = "unix", name
    match kind.lower():
        case "unix" | "local" | "":
            return _open_unix(rest, remove, backlog)
        case "inet":
            return Listening(_open_inet(rest, socket.AF_INET, backlog))
        case "inet6":
            return Listening(_open_inet(rest, socket.AF_INET6, backlog))
    raise ValueError(f"{name!r}: expected unix, local, inet or inet6")


def _open_unix(path: str, remove: bool, backlog: int) -> Listening:
    if not path or len(os.fsencode(path)) > _MAX_PATH:
        raise ValueError(f"expected a path of 1 to {_MAX_PATH} octets")
    if remove:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                os.unlink(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(path)
        listening.listen(backlog)
    except BaseException:
        listening.close()
        raise
    return Listening(listening, path)


def _open_inet(rest: str, family: socket.AddressFamily, backlog: int) -> socket.socket:
    port, at, host = rest.partition("@")
    flags = 0
    if host.startswith("[") and host.endswith("]"):
        host, flags = host[1:-1], socket.AI_NUMERICHOST  # what is no address is not asked for as a name
    if at and not host:
        raise ValueError("expected a host after the @")
    number = int(port) if port.isascii() and port.isdigit() else socket.getservbyname(port, "tcp")
    if not number <= 65535:
        raise ValueError("expected a port of at most 65535")
    everywhere = "0.0.0.0" if family == socket.AF_INET else "::"
    where = socket.getaddrinfo(host or everywhere, number, family=family, type=socket.SOCK_STREAM, flags=flags)[0][4]
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(backlog)
    except BaseException:
        listening.close()
        raise
    return listening
