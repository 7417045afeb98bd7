"""The nameservers of the system, read as the C library reads them."""

import re
import socket
import warnings
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from aiomilter.exceptions import ResolverFailure

__all__ = ["read_nameservers", "system_servers"]

_PATH: Final = Path("/etc/resolv.conf")
# glibc's MAXNS.
_MAX_SERVERS: Final = 3
_MAX_SIZE: Final = 64 * 1024
_LINE: Final = re.compile(r"nameserver[ \t]+([^ \t]+)")
_IPV4: Final = re.compile(r"[0-9A-Fa-fXx.]+")
_SCOPE: Final = re.compile(r"[A-Za-z0-9_.-]{1,15}")
# Lines that are meant to name a server, whether or not the C library reads them as such.
_MEANT: Final = re.compile(r"\s*name-?server", re.IGNORECASE)


def system_servers() -> list[tuple[str, int]]:
    """Return address and port of the nameservers that ``/etc/resolv.conf`` names, in its order.

    Lines that name no server are passed over, as the C library does; one RuntimeWarning names them.  The C library asks
    127.0.0.1 if the file names no server or is missing; here that is a failure, reported at the start.
    Its other settings (``search``, ``options``) are not used: names are asked as they are, and how long and how often is
    the caller's.

    Raises:
        ResolverFailure: The file cannot be read or names no server.

    Source: resolv.conf(5).
    """
    try:
        with _PATH.open("rb") as file:
            text = file.read(_MAX_SIZE).decode("utf-8", "backslashreplace")
    except OSError as error:
        raise ResolverFailure(f"cannot read {str(_PATH)!r}: {error.strerror}") from error
    servers, passed_over = read_nameservers(text)
    named = ", ".join(f"{line!r} (line {number})" for number, line in passed_over[:_MAX_SERVERS])
    if len(passed_over) > _MAX_SERVERS:
        named += f" and {len(passed_over) - _MAX_SERVERS} more"
    if not servers:
        problem = f"; expected 'nameserver' and an IP address, found {named}" if named else ""
        raise ResolverFailure(f"{str(_PATH)!r} names no nameserver{problem}")
    if named:
        message = f"{str(_PATH)!r}: expected 'nameserver' and an IP address, passed over {named}"
        warnings.warn(message, RuntimeWarning, stacklevel=1)
    return [(server, 53) for server in servers]


def read_nameservers(text: str) -> tuple[list[str], list[tuple[int, str]]]:
    """Read the text of a resolv.conf.

    Returns:
        The addresses of the first three servers that can be read; and number and text of each line that names a server
        in a way that the C library does not take.

    Source: resolv.conf(5); glibc 2.36 for what it leaves open: the keyword starts the line, a blank follows, the
    address ends at the next blank, and the rest of the line does not matter.
    """
    servers: list[str] = []
    passed_over: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not _MEANT.match(line):
            continue
        found = _LINE.match(line)
        address = _address(found[1]) if found else None
        if address is None:
            passed_over.append((number, line[:100]))
        else:
            servers.append(address)
    return servers[:_MAX_SERVERS], passed_over


def _address(text: str) -> str | None:
    """Return an address as the rest of the package takes it; None if it is not one.

    IPv4 may have any form that inet_aton takes.  The scope of an IPv6 address counts where it is link-local.
    """
    if _IPV4.fullmatch(text):
        try:
            return str(IPv4Address(socket.inet_aton(text)))
        except OSError:
            return None
    bare, _, scope = text.partition("%")
    try:
        address = IPv6Address(bare)
    except ValueError:
        return None
    return f"{address}%{scope}" if address.is_link_local and _SCOPE.fullmatch(scope) else str(address)
