"""Whether the nameservers of this machine answer, and where the first of them is."""

import asyncio
import os
from dataclasses import dataclass
from typing import Final

from aiomilter import dns
from aiomilter._doctor.processes import is_of_this_machine
from aiomilter.addresses import Inet
from aiomilter.dns.exchange import Server, ask_udp
from aiomilter.dns.message import Question, Useless, read_answer
from aiomilter.dns.resolv_conf import system_servers
from aiomilter.exceptions import ResolverError
from aiomilter.policy.dnsbl import check_address, check_domain

__all__ = ["Dns", "DnsLists", "resolving"]

_ASKED: Final = "example.com"
"""RFC 2606 reserves it; whether it is there does not matter."""
_SIGNED: Final = Question.of("com", "NS")
"""Its answer is signed, and the key is found from the root."""
_LISTED: Final = "127.0.0.2"
"""All lists of addresses list it.

Source: RFC 5782 section 5.
"""
_UNLISTED: Final = "invalid"
"""No list of domains lists it.

Source: RFC 5782 section 5.
"""
_AD: Final = 0x20
_PATIENCE: Final = 5.0
_ATTEMPT: Final = 2.0


@dataclass(frozen=True, slots=True)
class DnsLists:
    """DNS lists that the filter asks.

    Args:
        addresses: Those of addresses.
        domains: Those of domains.
    """

    addresses: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dns:
    """The nameservers.

    Args:
        servers: Their addresses.
        answers: Whether one has answered.
        is_local: Whether the first one runs on this machine; None if that is not known.
        validates: Whether the first one says that it has validated a signed answer (AD); None if it has not answered.
        seconds: How long it takes to answer a question once more.
        lists: Lists that do not serve us, and why.
    """

    servers: tuple[str, ...]
    answers: bool
    is_local: bool | None = None
    validates: bool | None = None
    seconds: float = 0.0
    lists: tuple[tuple[str, str], ...] = ()


async def resolving(lists: DnsLists) -> Dns:
    """Ask the nameservers that resolv.conf names a question, and lists about what all of them list.

    Args:
        lists: Those that are to be asked.
    """
    try:
        servers = system_servers()
    except ResolverError:
        return Dns((), answers=False)
    names = tuple(address for address, _ in servers)
    async with dns.system_resolver(timeout=_PATIENCE) as resolver:
        try:
            await resolver.lookup(_ASKED, "A")
        except ResolverError:
            return Dns(names, answers=False)
        refusing = await _refusing(lists, resolver)
    validates, seconds = await _first(servers[0])
    return Dns(names, True, is_of_this_machine(Inet(names[0], 53)), validates, seconds, refusing)


async def _first(server: Server) -> tuple[bool | None, float]:
    """Return what a nameserver says of a signed answer, and how long it takes to repeat it."""
    query = bytearray(_SIGNED.query(int.from_bytes(os.urandom(2)), edns=True))
    query[3] |= _AD  # the client understands it: RFC 6840 section 5.7
    loop = asyncio.get_running_loop()
    octets: bytes | None = None
    seconds = 0.0
    for _ in range(2):
        began = loop.time()
        try:
            octets = await ask_udp(server, bytes(query), _ATTEMPT)
        except OSError:
            return None, 0.0
        seconds = loop.time() - began
    if not octets or not octets[3] & _AD:
        failed = not octets or isinstance(read_answer(octets, _SIGNED), Useless)
        return None if failed else False, seconds if octets else 0.0
    return True, seconds


async def _refusing(lists: DnsLists, resolver: dns.Resolver) -> tuple[tuple[str, str], ...]:
    """Return the lists that do not serve us: those that refuse, fail, or do not list what all lists do."""
    found = [
        (each.zone, each.problem or f"it does not list {_LISTED}, as each list does")
        for each in await check_address(_LISTED, lists.addresses, resolver=resolver, timeout=_PATIENCE)
        if not each.listed
    ]
    domains = await check_domain(_UNLISTED, lists.domains, resolver=resolver, timeout=_PATIENCE)
    found += [
        (each.zone, each.problem or f"it lists {_UNLISTED}, and so all names")
        for each in domains
        if each.problem or each.listed
    ]
    return tuple(found)
