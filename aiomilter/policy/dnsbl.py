"""DNS lists: asks several about an address or a domain at once, with a deadline, and reports errors apart from listings."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from aiomilter.dns import IPAddress, Resolver, client_address, question_name, reverse_name
from aiomilter.exceptions import ResolverError
from aiomilter.mail.display import visible

__all__ = ["DnsList", "Listing", "check_address", "check_domain"]

_LISTINGS = IPv4Network("127.0.0.0/8")
# Lists report with these that they do not answer us: Spamhaus and others (127.255.255.0/24); URIBL, and RFC 5782 section 5
# forbids it as a listing (127.0.0.1).
_ERRORS = (IPv4Network("127.255.255.0/24"), IPv4Network("127.0.0.1/32"))
_MAX_CODES = 32


@dataclass(frozen=True, slots=True)
class DnsList:
    """One DNS list.

    Args:
        zone: The name it is published under: ``"zen.example.org"``.
        codes: The answers that count as a listing; None for any that a list may give.
        text: Whether to ask for the reason of a listing, too.
    """

    zone: str
    codes: frozenset[IPv4Address] | None = None
    text: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """The answer of one list.

    Args:
        zone: The list's zone.
        listed: Whether the address or domain is listed there.
        codes: The answers that mean a listing, in numeric order.
        text: The reason that the list gives; "" if not asked for, or none.  Printable ASCII on one line.
        problem: Why the list gave no usable answer; "" if it did.  A list with a problem lists nothing.
    """

    zone: str
    listed: bool = False
    codes: tuple[IPv4Address, ...] = ()
    text: str = ""
    problem: str = ""


async def check_address(
    ip: IPAddress | str, lists: Iterable[DnsList | str], *, resolver: Resolver, timeout: float = 5.0
) -> tuple[Listing, ...]:
    """Ask DNS lists about a client's address, all at once.

    Whatever DNS does is in the result, never an exception: a list that fails or is late has a problem and lists
    nothing.

    Args:
        ip: The client's address; IPv4-mapped IPv6 counts as IPv4.
        lists: The lists, or just their zones.
        resolver: Answers the DNS questions.
        timeout: Seconds for all of them; answers up to then count.
    Returns:
        One listing for each list, in their order.
    Raises:
        AddressError: ``ip`` is a text and not an address.

    Source: RFC 5782 sections 2.1 and 2.4.
    """
    address = client_address(ip)
    return await _ask([(reverse_name(address, entry.zone), entry) for entry in _lists(lists)], resolver, timeout)


async def check_domain(
    domain: str, lists: Iterable[DnsList | str], *, resolver: Resolver, timeout: float = 5.0
) -> tuple[Listing, ...]:
    """Ask DNS lists of domains about a domain, all at once.

    Args:
        domain: The domain, in any form; a text that is not a domain is not listed.
        lists: The lists, or just their zones.
        resolver: Answers the DNS questions.
        timeout: Seconds for all of them; answers up to then count.
    Returns:
        One listing for each list, in their order.

    Source: RFC 5782 section 3.
    """
    name = question_name(domain)
    entries = _lists(lists)
    if name is None:
        return tuple(Listing(entry.zone) for entry in entries)
    return await _ask([(f"{name}.{entry.zone}", entry) for entry in entries], resolver, timeout)


def _lists(lists: Iterable[DnsList | str]) -> list[DnsList]:
    return [DnsList(entry) if isinstance(entry, str) else entry for entry in lists]


async def _ask(questions: list[tuple[str, DnsList]], resolver: Resolver, timeout: float) -> tuple[Listing, ...]:
    if not questions:
        return ()
    tasks = [asyncio.ensure_future(_ask_one(name, entry, resolver)) for name, entry in questions]
    try:
        await asyncio.wait(tasks, timeout=timeout)
    finally:
        late = [task for task in tasks if not task.done()]
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
    # A bug in the resolver: said once, and no exception is left unread.
    errors = [error for task in tasks if not task.cancelled() and (error := task.exception())]
    if errors:
        raise errors[0]
    return tuple(
        Listing(entry.zone, problem=f"no answer in {timeout:g} s") if task.cancelled() else task.result()
        for task, (_, entry) in zip(tasks, questions, strict=True)
    )


async def _ask_one(name: str, entry: DnsList, resolver: Resolver) -> Listing:
    try:
        answer = await resolver.lookup(name, "A")
    except ResolverError as error:
        return Listing(entry.zone, problem=visible(str(error)))
    codes = sorted({code for code in answer.addresses if isinstance(code, IPv4Address)}, key=int)[:_MAX_CODES]
    for code in codes:
        if any(code in network for network in _ERRORS) or code not in _LISTINGS:
            return Listing(entry.zone, problem=f"answered {code}, which is not a listing")
    if entry.codes is not None:
        codes = [code for code in codes if code in entry.codes]
    if not codes:
        return Listing(entry.zone)
    text = ""
    if entry.text:
        try:
            texts = (await resolver.lookup(name, "TXT")).texts
        except ResolverError:
            texts = ()
        text = visible(texts[0].decode("latin-1")) if texts else ""
    return Listing(entry.zone, True, tuple(codes), text)
