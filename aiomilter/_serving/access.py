"""Access control: networks for TCP, users and groups for UNIX-domain sockets; and the names of peers, to count them."""

import grp
import ipaddress
import os
import pwd
import socket
from collections.abc import Callable, Collection
from struct import Struct
from typing import Any, Final, TypeAlias

from aiomilter._serving.kernel import credentials

__all__ = [
    "Access",
    "group_number",
    "networks_of",
    "numbers_of",
    "peer_address",
    "peer_name",
    "peer_network",
    "user_number",
]

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_SO_PEERCRED: Final[int | None] = getattr(socket, "SO_PEERCRED", None)
"""Linux only: process, user and group of the peer when it connected, as the kernel reports them."""
_SO_PEERGROUPS: Final[int | None] = getattr(
    socket, "SO_PEERGROUPS", None if os.uname().machine.startswith(("sparc", "parisc")) else 59
)
"""The same for its supplementary groups (Linux 4.13); where ``socket`` has no name for it, the number of most machines
(asm-generic/socket.h)."""
_GROUP: Final = Struct("I")
_MOST_OCTETS: Final = 1024
"""The most that Python can request: 256 groups."""
_MAX_NUMBER: Final = 2**32 - 2
"""Of users and groups; the number above it means none."""
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
"""IPv4, written as IPv6."""
_MAPPED_PREFIX: Final = "::ffff:"


class Access:
    """Decides which peers may connect.

    Args:
        networks: Such as ``"10.0.0.0/8"`` or ``"2001:db8::1"``; None for all.
        users: Names or numbers of users; None, with ``groups`` None, for all whom the permissions of the socket let in.
        groups: The same for groups: the primary group of the peer, and its supplementary groups if there are at most 256.

    Raises:
        TypeError: An argument is not a sequence of texts, or of texts and numbers.
        ValueError: A text is not a network, a number is out of range, this machine does not know a name, or it does not report
            the users of peers.
    """

    def __init__(
        self,
        networks: Collection[str] | None,
        users: Collection[str | int] | None,
        groups: Collection[str | int] | None,
    ) -> None:
        self._networks = networks_of("allowed_networks", networks) if networks is not None else None
        self._users = numbers_of("allowed_users", users, user_number) if users is not None else frozenset()
        self._groups = numbers_of("allowed_groups", groups, group_number) if groups is not None else frozenset()
        self._by_credentials = users is not None or groups is not None
        if self._by_credentials and _SO_PEERCRED is None:
            raise ValueError("allowed_users, allowed_groups: this system does not report the users of peers")

    def refusal(self, sock: socket.socket) -> str | None:
        """Return why an accepted connection is refused; None if it is not."""
        if self._networks is None and not self._by_credentials:
            return None
        if sock.family == socket.AF_UNIX:
            if not self._by_credentials:
                return None
            found = credentials(sock)
            if found is None:
                return "the system does not report its user"
            _, user, group = found
            if user in self._users or group in self._groups:
                return None
            if self._groups and not self._groups.isdisjoint(_supplementary(sock)):
                return None
            return f"user {user} with group {group} is not in allowed_users (--allow-user) or allowed_groups (--allow-group)"
        if self._networks is None:
            return None
        address = _address(sock)
        if address is not None and any(address in network for network in self._networks):
            return None
        return f"{address} is not in allowed_networks (--allow-network)"


def user_number(option: str, user: object) -> int:
    """Return the number of a user, given its name or number.

    Args:
        option: The name of the option, for errors.
        user: Name or number.

    Raises:
        TypeError: It is neither.
        ValueError: This machine does not know the name, or the number is out of range.
    """
    return _number(option, user, lambda name: pwd.getpwnam(name).pw_uid)


def group_number(option: str, group: object) -> int:
    """Return the number of a group, as :func:`user_number` does."""
    return _number(option, group, lambda name: grp.getgrnam(name).gr_gid)


def peer_name(sock: socket.socket) -> str:
    """Return the peer of a socket: an address, or the user of a UNIX-domain socket; "" if it is not known."""
    if sock.family == socket.AF_UNIX:
        found = credentials(sock)
        return f"user {found[1]}" if found is not None else ""
    return str(_address(sock) or "")


def peer_network(sock: socket.socket) -> str:
    """Return the network of the peer of a TCP connection: its IPv4 address, or the /64 of an IPv6 one; "" if it has left.

    One machine may use all addresses of a /64 (RFC 4291 section 2.5.4).
    """
    address = _address(sock)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address or "")


def peer_address(sock: socket.socket, name: Any) -> str:
    """Return the peer of a socket in full: address and port, or user and process; "" if it is not known.

    Args:
        sock: The socket.
        name: Its peer, as ``accept`` returned it: the peer may have left by now.
    """
    if sock.family == socket.AF_UNIX:
        found = credentials(sock)
        return f"uid {found[1]} pid {found[0]}" if found is not None else ""
    host = name[0].removeprefix(_MAPPED_PREFIX) if "." in name[0] else name[0]
    return f"[{host}]:{name[1]}" if ":" in host else f"{host}:{name[1]}"


def _address(sock: socket.socket) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        text = sock.getpeername()[0]
    except OSError:
        return None  # it has left already
    address = ipaddress.ip_address(text.partition("%")[0])
    # A socket that was handed over may accept both, and IPv4 addresses then have this form.
    return getattr(address, "ipv4_mapped", None) or address


def _supplementary(sock: socket.socket) -> list[int]:
    if _SO_PEERGROUPS is None:
        return []
    try:
        octets = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_OCTETS)
    except OSError:
        return []  # there are more, or the kernel does not report them
    return [group for (group,) in _GROUP.iter_unpack(octets)]


def networks_of(option: str, given: object) -> tuple[_Network, ...]:
    """Return networks, given as texts.

    Args:
        option: The name of the option, for errors.
        given: Several texts, such as ``("10.0.0.0/8", "2001:db8::25")``.

    Raises:
        TypeError: It is not a sequence of texts.
        ValueError: It is empty, or a text is not a network.
    """
    found = []
    for text in _several(option, given):
        if not isinstance(text, str):
            raise TypeError(f"{option}: expected texts such as '10.0.0.0/8', found {text!r}")
        found.append(_network(option, text))
    return tuple(found)


def _network(option: str, text: str) -> _Network:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None
    address = ipaddress.ip_address(text.partition("/")[0])
    if address != network.network_address:
        what = f"{text} has host bits set; write {network} for the network, {address} for the address"
        raise ValueError(f"{option}: {what}")
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        # As the addresses that it is compared with.
        return ipaddress.IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - _MAPPED.prefixlen))
    return network


def numbers_of(option: str, given: object, number: Callable[[str, object], int]) -> frozenset[int]:
    """Return the numbers of several users or groups, as ``number`` returns each."""
    return frozenset(number(option, one) for one in _several(option, given))


def _number(option: str, given: object, look_up: Callable[[str], int]) -> int:
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise TypeError(f"{option}: expected names or numbers, found {given!r}")
    try:
        number = look_up(given) if isinstance(given, str) else given
    except KeyError:
        raise ValueError(f"{option}: this machine does not know {given!r}") from None
    if not 0 <= number <= _MAX_NUMBER:
        raise ValueError(f"{option}: expected 0 to {_MAX_NUMBER}, found {number}")
    return number


def _several(name: str, given: object) -> list[object]:
    if isinstance(given, str | bytes) or not isinstance(given, Collection):
        raise TypeError(f"{name}: expected a sequence, found {given!r}")
    found = list(given)
    if not found:
        raise ValueError(f"{name}: expected at least one, found none; every connection would be refused")
    return found
