"""Where a milter listens or is found: libmilter's way of writing it, and Postfix's.

========================================  ================================================
``inet:8890@127.0.0.1`` ``inet:8890``     libmilter and Sendmail; without host all addresses
``inet6:8890@::1`` ``inet6:8890``         the same for IPv6; brackets around the host are taken
``inet:127.0.0.1:8890``                   Postfix
``unix:/path`` ``local:/path`` ``/path``  a UNIX-domain socket
``fd:3``                                  a listening socket that was inherited
``fd:NAME``                               one that systemd handed over, by its name; for a daemon only
========================================  ================================================

Source: libmilter/docs/smfi_setconn.html; postconf(5), smtpd_milters.
"""

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiomilter.exceptions import AddressError

__all__ = ["Address", "Inet", "Inherited", "Unix", "parse", "parse_all"]

_MAX_PATH: Final = 107
"""Octets of a path that sockaddr_un can hold on Linux, its NUL not counted."""
_HOST_PORT: Final = re.compile(r"(?:\[(?P<literal>[^\]]+)\]|(?P<host>[^:\[\]@]+)):(?P<port>[^:@\[\]]+)")
_FD_NAME: Final = re.compile(r"[A-Za-z_][!-9;-~]{0,254}")
"""What systemd takes for FileDescriptorName=, printable ASCII without colon, as far as it does not look like a number."""


@dataclass(frozen=True, slots=True)
class Inet:
    """A TCP endpoint.

    Args:
        host: Name or address; None for all addresses.
        port: 0 to 65535; 0 lets the system choose.
        family: ``socket.AF_INET`` or ``socket.AF_INET6``.
    """

    host: str | None
    port: int
    family: socket.AddressFamily = socket.AF_INET

    def __str__(self) -> str:
        """Return libmilter's spelling."""
        kind = "inet6" if self.family == socket.AF_INET6 else "inet"
        if self.host is None:
            return f"{kind}:{self.port}"
        return f"{kind}:{self.port}@[{self.host}]" if ":" in self.host else f"{kind}:{self.port}@{self.host}"


@dataclass(frozen=True, slots=True)
class Unix:
    """A UNIX-domain socket, by its path."""

    path: str

    def __str__(self) -> str:
        """Return libmilter's spelling."""
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class Inherited:
    """A listening socket that this process was started with, by its descriptor or by the name that systemd gave it."""

    fd: int | str

    def __str__(self) -> str:
        """Return Debian's spelling."""
        return f"fd:{self.fd}"


Address: TypeAlias = Inet | Unix | Inherited


def parse(text: str) -> Address:
    """Return the endpoint a text names.

    Raises:
        AddressError: It names none; the message says what was expected.
    """
    kind, colon, rest = text.partition(":")
    match kind.lower() if colon else "":
        case "inet":
            return _inet(text, rest, socket.AF_INET)
        case "inet6":
            return _inet(text, rest, socket.AF_INET6)
        case "unix" | "local" | "":
            return _unix(text, rest if colon else text)
        case "fd" if rest.isascii() and rest.isdigit():
            return Inherited(int(rest))
        case "fd" if _FD_NAME.fullmatch(rest):
            return Inherited(rest)
    raise AddressError(f"{text!r}: expected inet:PORT@HOST, inet:HOST:PORT, inet6:PORT@HOST, unix:/PATH or fd:NUMBER")


def parse_all(texts: Iterable[str]) -> list[Address]:
    """Return the endpoints that texts name, to listen on all of them.

    Raises:
        AddressError: A text names none, or one that is there already; only a port of the system's choice may be.
    """
    found: list[Address] = []
    for text in texts:
        address = parse(text)
        if address in found and not (isinstance(address, Inet) and address.port == 0):
            raise AddressError(f"{text!r}: expected each socket once")
        found.append(address)
    return found


def _unix(text: str, path: str) -> Unix:
    if not path.startswith("/") or "\0" in path:
        raise AddressError(f"{text!r}: expected the absolute path of a socket, as in unix:/run/filter.sock")
    if len(path.encode("utf-8", "surrogateescape")) > _MAX_PATH:
        raise AddressError(f"{text!r}: expected a path of at most {_MAX_PATH} octets")
    return Unix(path)


def _inet(text: str, rest: str, family: socket.AddressFamily) -> Inet:
    if match := _HOST_PORT.fullmatch(rest):
        if match["literal"] and ":" in match["literal"]:
            family = socket.AF_INET6
        return Inet(match["literal"] or match["host"], _port(text, match["port"]), family)
    port, at, host = rest.partition("@")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if at and not host:
        raise AddressError(f"{text!r}: expected a host after the @")
    return Inet(host or None, _port(text, port), family)


def _port(text: str, port: str) -> int:
    if port.isascii() and port.isdigit():
        if int(port) > 65535:
            raise AddressError(f"{text!r}: expected a port of 0 to 65535, found {port}")
        return int(port)
    try:
        return socket.getservbyname(port, "tcp")
    except (OSError, UnicodeError) as error:
        raise AddressError(f"{text!r}: expected a port number or the name of a TCP service, found {port!r}") from error
