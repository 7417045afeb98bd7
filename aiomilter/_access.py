"""Who may connect: networks for TCP, users and groups for UNIX-domain sockets; and who is who, to count them."""

import grp
import ipaddress
import pwd
import socket
from collections.abc import Callable, Collection
from struct import Struct
from typing import Final, TypeAlias

__all__ = ["Access", "peer_name"]

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_CREDENTIALS: Final = Struct("3i")
_SO_PEERCRED: Final[int | None] = getattr(socket, "SO_PEERCRED", None)
"""Linux only: process, user and group as they were when the peer connected, told by the kernel."""
_SO_PEERGROUPS: Final = 59
"""The same of its supplementary groups, where ``socket`` has no name for it (asm-generic/socket.h, Linux 4.13)."""
_GROUP: Final = Struct("I")
_MOST_OCTETS: Final = 1024
"""Most that Python lets one ask for: 256 groups."""


class Access:
    """Who may connect.

    Args:
        networks: Such as ``"10.0.0.0/8"`` or ``"2001:db8::1"``; None for everybody.
        users: Names or numbers of users; with ``groups`` None for everybody whom the permissions let in.
        groups: The same of groups: the one that the peer runs as, and its supplementary ones if they are 256 at most.

    Raises:
        TypeError: It is no sequence of texts, or of texts and numbers.
        ValueError: A text is no network, this machine does not know a name, or does not tell who its peers are.
    """

    def __init__(
        self,
        networks: Collection[str] | None,
        users: Collection[str | int] | None,
        groups: Collection[str | int] | None,
    ) -> None:
        self._networks = _networks(networks)
        self._users = _numbers("allowed_users", users, lambda name: pwd.getpwnam(name).pw_uid)
        self._groups = _numbers("allowed_groups", groups, lambda name: grp.getgrnam(name).gr_gid)
        self._by_credentials = users is not None or groups is not None
        if self._by_credentials and _SO_PEERCRED is None:
            raise ValueError("allowed_users, allowed_groups: this system does not tell who connects")

    @property
    def by_network(self) -> bool:
        """Whether only some networks may connect."""
        return self._networks is not None

    def refusal(self, sock: socket.socket) -> str | None:
        """Return why a connection that was accepted may not stay; None if it may."""
        if sock.family == socket.AF_UNIX:
            if not self._by_credentials:
                return None
            user, group = _credentials(sock)
            if user in self._users or group in self._groups:
                return None
            if self._groups and not self._groups.isdisjoint(_supplementary(sock)):
                return None
            return f"user {user} with group {group} is not in allowed_users or allowed_groups"
        if self._networks is None:
            return None
        address = _address(sock)
        if address is not None and any(address in network for network in self._networks):
            return None
        return f"{address} is not in allowed_networks"


def peer_name(sock: socket.socket) -> str:
    """Return who is at the other end: an address, or the user of a UNIX-domain socket; "" if nobody can tell."""
    if sock.family == socket.AF_UNIX:
        return f"user {_credentials(sock)[0]}" if _SO_PEERCRED is not None else ""
    return str(_address(sock) or "")


def _address(sock: socket.socket) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        text = sock.getpeername()[0]
    except OSError:
        return None  # it has left already
    address = ipaddress.ip_address(text.partition("%")[0])
    # A socket that was handed over may take both, and IPv4 then looks like this.
    return getattr(address, "ipv4_mapped", None) or address


def _credentials(sock: socket.socket) -> tuple[int, int]:
    assert _SO_PEERCRED is not None
    _, user, group = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_PEERCRED, _CREDENTIALS.size))
    return user, group


def _supplementary(sock: socket.socket) -> list[int]:
    try:
        octets = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_OCTETS)
    except OSError:
        return []  # there are more, or the kernel does not tell
    return [group for (group,) in _GROUP.iter_unpack(octets[: len(octets) // _GROUP.size * _GROUP.size])]


def _networks(given: object) -> tuple[_Network, ...] | None:
    if given is None:
        return None
    found = []
    for text in _several("allowed_networks", given):
        if not isinstance(text, str):
            raise TypeError(f"allowed_networks: expected texts such as '10.0.0.0/8', found {text!r}")
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise ValueError(f"allowed_networks: {error}") from None
    return tuple(found)


def _numbers(name: str, given: object, look_up: Callable[[str], int]) -> frozenset[int]:
    found = set()
    for one in _several(name, given) if given is not None else ():
        if isinstance(one, bool) or not isinstance(one, str | int):
            raise TypeError(f"{name}: expected names or numbers, found {one!r}")
        try:
            found.add(look_up(one) if isinstance(one, str) else one)
        except KeyError:
            raise ValueError(f"{name}: this machine knows no {one!r}") from None
    return frozenset(found)


def _several(name: str, given: object) -> list[object]:
    if isinstance(given, str | bytes) or not isinstance(given, Collection):
        raise TypeError(f"{name}: expected a sequence, found {given!r}")
    found = list(given)
    if not found:
        raise ValueError(f"{name}: expected at least one, found none; nobody could connect")
    return found
