"""Socket addresses of milters, in the syntax of libmilter and of Postfix.

========================================  ================================================
``inet:8890@127.0.0.1`` ``inet:8890``     libmilter and Sendmail; without host all addresses
``inet6:8890@::1`` ``inet6:8890``         the same for IPv6; brackets around the host are taken
``inet:127.0.0.1:8890``                   Postfix
``unix:/path`` ``local:/path`` ``/path``  a UNIX-domain socket
``fd:3``                                  a listening socket that was inherited
``fd:NAME``                               one that systemd handed over, by its name; for a daemon only
========================================  ================================================

Anything else is an error that suggests what was meant, if possible: for ``127.0.0.1:8890`` it is ``inet:8890@127.0.0.1``.

Source: libmilter/docs/smfi_setconn.html; postconf(5), smtpd_milters.
"""

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from aiomilter._address_hints import MAX_UNIX_PATH, is_ipv6, meant
from aiomilter.exceptions import AddressError

__all__ = ["Address", "Inet", "Inherited", "Unix", "parse", "parse_all"]

_HOST_PORT: Final = re.compile(r"(?:\[(?P<literal>[^\]]+)\]|(?P<host>[^:\[\]@]+)):(?P<port>[^:@\[\]]+)")
_NO_HOST: Final = re.compile(r"[\s\x00-\x20\x7f\[\]@/,;*\"'{}<>\\]")
"""Characters that are in no host name or address."""
_MAX_FD: Final = 2**31 - 1
_SHOWN: Final = 200
"""Characters of a text in errors, about."""
_FORMS: Final = "inet:PORT@HOST, inet:HOST:PORT, inet6:PORT@HOST, unix:/PATH or fd:NUMBER"
_ABSOLUTE: Final = "the absolute path of a socket, as in unix:/run/filter.sock"
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
"""What :func:`parse` returns."""


class _Unclear(Exception):
    """A text is not an endpoint; the message says what was expected.

    Args:
        expected: What.
        of_tcp: Whether that is a part of a TCP endpoint.
    """

    def __init__(self, expected: str, *, of_tcp: bool = False) -> None:
        super().__init__(expected)
        self.of_tcp = of_tcp


def parse(text: str) -> Address:
    """Return the endpoint a text names.

    Raises:
        AddressError: It is not an endpoint; the message says what was expected.
        TypeError: It is not a str.
    """
    if not isinstance(cast(object, text), str):
        raise TypeError(f"socket: expected a text such as 'inet:8890@127.0.0.1', found {text!r:.{_SHOWN}}")
    try:
        return _parsed(text)
    except _Unclear as unclear:
        right = next(filter(_is_right, meant(text)), None)
        expected = str(unclear)
        if right is not None:
            expected = f"{_FORMS if expected == _ABSOLUTE and '/' not in text else expected}; write {right}"
        elif unclear.of_tcp:
            expected += ", as in inet:8890@127.0.0.1"
        raise AddressError(f"{text!r:.{_SHOWN}}: expected {expected}") from None


def _is_right(text: str) -> bool:
    """Return whether a text names an endpoint, and can be shown."""
    try:
        _parsed(text.replace(":PORT", ":0"))
    except _Unclear:
        return False
    return text.isprintable()


def _parsed(text: str) -> Address:
    kind, colon, rest = text.partition(":")
    match kind.lower() if colon else "":
        case "inet":
            return _inet(rest, socket.AF_INET)
        case "inet6":
            return _inet(rest, socket.AF_INET6)
        case "unix" | "local" | "":
            return _unix(rest if colon else text)
        case "fd" if rest.isascii() and rest.isdigit():
            return Inherited(_number(rest, _MAX_FD, "a descriptor"))
        case "fd" if _FD_NAME.fullmatch(rest):
            return Inherited(rest)
        case "fd":
            raise _Unclear("a descriptor or the name of a socket that systemd hands over, as in fd:3 or fd:milter")
    raise _Unclear(_FORMS)


def parse_all(texts: Iterable[str]) -> list[Address]:
    """Return the endpoints that texts name, to listen on all of them.

    Raises:
        AddressError: A text is not an endpoint, or is a duplicate; only port 0 may be repeated.
    """
    found: list[Address] = []
    for text in texts:
        address = parse(text)
        if address in found and not (isinstance(address, Inet) and address.port == 0):
            raise AddressError(f"{text!r}: expected each socket once")
        found.append(address)
    return found


def _unix(path: str) -> Unix:
    if path.startswith(("@", "\0")):
        raise _Unclear(f"{_ABSOLUTE}: no mail server finds an abstract one")
    if not path.startswith("/") or "\0" in path:
        raise _Unclear(_ABSOLUTE)
    if len(path.encode("utf-8", "surrogateescape")) > MAX_UNIX_PATH:
        raise _Unclear(f"a path of at most {MAX_UNIX_PATH} octets")
    return Unix(path)


def _inet(rest: str, family: socket.AddressFamily) -> Inet:
    if match := _HOST_PORT.fullmatch(rest):
        if match["literal"] and ":" in match["literal"]:
            family = socket.AF_INET6
        return Inet(_host(match["literal"] or match["host"], family), _port(match["port"]), family)
    port, at, host = rest.partition("@")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if at and not host:
        raise _Unclear("a host after the @", of_tcp=True)
    number = _port(port)
    return Inet(_host(host, family) if host else None, number, family)


def _host(host: str, family: socket.AddressFamily) -> str:
    if _NO_HOST.search(host) or (":" in host and not is_ipv6(host)):
        raise _Unclear(f"a host name or an IP address, found {host!r:.{_SHOWN}}", of_tcp=True)
    if ":" in host and family == socket.AF_INET:
        raise _Unclear(f"inet6: before an IPv6 address, found {host!r}")
    return host


def _port(port: str) -> int:
    if port.removeprefix("-").isdigit() and port.isascii():
        return _number(port, 65535, "a port")
    try:
        return socket.getservbyname(port, "tcp")
    except (OSError, ValueError) as error:  # a UnicodeError is one
        what = f"a port number or the name of a TCP service, found {port!r:.{_SHOWN}}"
        raise _Unclear(what, of_tcp=True) from error


def _number(digits: str, most: int, what: str) -> int:
    # Not before its length is known: Python takes no more than 4300 digits, zeros in front included.
    digits = digits.lstrip("0") or "0"
    number = int(digits) if len(digits) <= len(str(most)) else -1
    if not 0 <= number <= most:
        raise _Unclear(f"{what} of 0 to {most}, found {digits:.{_SHOWN}}")
    return number
