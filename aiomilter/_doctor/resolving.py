"""Whether the nameservers of this machine answer."""

from dataclasses import dataclass
from typing import Final

from aiomilter import dns
from aiomilter.dns.resolv_conf import system_servers
from aiomilter.exceptions import ResolverError

__all__ = ["Dns", "resolving"]

_ASKED: Final = "example.com"
"""RFC 2606 reserves it; whether it is there does not matter."""
_PATIENCE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Dns:
    """The nameservers.

    Args:
        servers: Their addresses.
        answers: Whether one has answered.
    """

    servers: tuple[str, ...]
    answers: bool


async def resolving() -> Dns:
    """Ask the nameservers that resolv.conf names a question."""
    try:
        servers = tuple(address for address, _ in system_servers())
    except ResolverError:
        return Dns((), answers=False)
    try:
        await dns.system_resolver(timeout=_PATIENCE).lookup(_ASKED, "A")
    except ResolverError:
        return Dns(servers, answers=False)
    return Dns(servers, answers=True)
