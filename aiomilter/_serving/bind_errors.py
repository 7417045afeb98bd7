"""Errors of sockets that cannot be listened on: the cause, and the remedy, in one line."""

import errno
import ipaddress
import os
import socket
from collections.abc import Mapping
from typing import Final

from aiomilter._serving.kernel import listener_on, user_name
from aiomilter._serving.socket_file import holder
from aiomilter.addresses import Address, Inet, Inherited, Unix

__all__ = ["cannot_listen", "cannot_look_up"]

_UNIX: Final[Mapping[int, str]] = {
    errno.ENOENT: "make the directory first",
    errno.ENOTDIR: "a part of the path is not a directory",
    errno.ELOOP: "the path goes through symbolic links in a circle",
    errno.EROFS: "choose a path on another file system, such as below /run",
    errno.ENOSPC: "make room there, or choose another path",
    errno.EDQUOT: "make room there, or choose another path",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.EADDRINUSE: "another process has just created a file there; choose another path",
    errno.EAFNOSUPPORT: "a sandbox forbids UNIX-domain sockets (RestrictAddressFamilies= of systemd?)",
}
_INHERITED: Final[Mapping[int, str]] = {
    errno.EBADF: "no socket was handed over there, see systemd.socket(5)",
    errno.ENOTSOCK: "no socket was handed over there, see systemd.socket(5)",
}
_ANYWHERE: Final[Mapping[int, str]] = {
    errno.EMFILE: "this process has as many files open as it may (LimitNOFILE= of systemd, ulimit -n)",
    errno.ENFILE: "the system has as many files open as it may (fs.file-max)",
}
_LOOKED_UP: Final[Mapping[int, str]] = {
    socket.EAI_NONAME: "check the spelling, or write an IP address",
    socket.EAI_AGAIN: "the DNS does not answer now; write an IP address, or try again later",
    socket.EAI_FAIL: "the DNS fails; write an IP address, or try again later",
}
_NO_SUCH_FAMILY: Final = (getattr(socket, "EAI_ADDRFAMILY", None), getattr(socket, "EAI_NODATA", None))
_FIRST_FREE_PORT: Final = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
_IPV6_OFF: Final = "/proc/sys/net/ipv6/conf/all/disable_ipv6"


def cannot_listen(address: Address, error: OSError, at: str = "") -> OSError:
    """Return an error with the address that cannot be listened on, the cause, and the remedy.

    Args:
        address: The address.
        error: The error of the system, or one whose text has the remedy already.
        at: The IP address that was tried, one of those of the host.
    """
    cause = error.strerror or str(error)
    if error.errno is not None and cause == os.strerror(error.errno):
        mend = _ANYWHERE.get(error.errno) or _mend(address, error.errno, at)
        cause = f"{cause}; {mend}" if mend else cause
    return OSError(error.errno, f"cannot listen on {address}: {cause}")


def _mend(address: Address, number: int, at: str) -> str | None:
    match address:
        case Inherited():
            return _INHERITED.get(number)
        case Unix(path):
            return _unix_mend(path, number)
        case Inet():
            return _inet_mend(address, number, at)


def _unix_mend(path: str, number: int) -> str | None:
    if number != errno.EACCES:
        return _UNIX.get(number)
    parent = os.path.dirname(path)
    me = user_name(os.geteuid())
    if os.access(parent, os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return f"user {me} may not write to {parent}; choose another directory, or let that user write to it"
    return f"user {me} may not pass to {parent}; choose another directory, or let that user into it"


def _inet_mend(address: Inet, number: int, at: str) -> str | None:
    match number:
        case errno.EADDRINUSE:
            found = listener_on(address.family, at, address.port)
            who = holder(*found) if found is not None else ""
            return f"another process listens there{who}; stop it, or choose another"
        case errno.EACCES:
            first = _first_free_port()
            if address.port >= first:
                return "a sandbox or security module forbids it (SELinux? SocketBindDeny= of systemd?)"
            return (
                f"ports below {first} are for root; choose {first} or above, or give the process CAP_NET_BIND_SERVICE"
            )
        case errno.EADDRNOTAVAIL if address.family == socket.AF_INET6 and _ipv6_is_off():
            return "IPv6 is switched off on this machine (net.ipv6.conf.all.disable_ipv6); write inet: with an IPv4 address"
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address"
        case errno.EAFNOSUPPORT if address.family == socket.AF_INET6:
            return "this machine has no IPv6; write inet: with an IPv4 address"
        case errno.EINVAL if address.family == socket.AF_INET6 and "%" not in (address.host or ""):
            return "a link-local address needs its interface, as in fe80::1%eth0"
    return None


def _first_free_port() -> int:
    try:
        return int(_setting(_FIRST_FREE_PORT))
    except (OSError, ValueError):
        return 1024


def _ipv6_is_off() -> bool:
    try:
        return _setting(_IPV6_OFF) == "1"
    except OSError:
        return False


def _setting(path: str) -> str:
    """Return a setting of the kernel."""
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def cannot_look_up(address: Inet, error: Exception) -> OSError:
    """Return an error with the cause why the host of an address to listen on could not be found.

    Args:
        address: With a host.
        error: As ``getaddrinfo`` raised it: an OSError; a UnicodeError for a text that is not a name.
    """
    if not isinstance(error, OSError):
        return OSError(errno.EINVAL, f"cannot listen on {address}: {address.host!r} is not a host name")
    cause = error.strerror or str(error)
    mend = _other_family(address, error.errno) or _LOOKED_UP.get(error.errno or 0)
    return OSError(error.errno, f"cannot listen on {address}: {cause}{f'; {mend}' if mend else ''}")


def _other_family(address: Inet, number: int | None) -> str | None:
    """Return what to write where the host is an address of the other family, or has only addresses of it."""
    other = socket.AF_INET if address.family == socket.AF_INET6 else socket.AF_INET6
    name = "IPv4" if other == socket.AF_INET else "IPv6"
    right = Inet(address.host, address.port, other)
    try:
        ipaddress.ip_address((address.host or "").partition("%")[0])
    except ValueError:
        return f"if it has an {name} address, write {right}" if number in _NO_SUCH_FAMILY else None
    return f"that is an {name} address: write {right}"
