"""``dnsbl``: clients and senders' domains that DNS lists list."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, NamedTuple

from aiomilter.context import Context
from aiomilter.dns import Resolver
from aiomilter.filters.domains import domain_name
from aiomilter.filters.ready import ReadyFilter
from aiomilter.filters.recipients import EXEMPT, Exempt
from aiomilter.filters.site import Site
from aiomilter.handler import Milter
from aiomilter.mail.envelope import domain as domain_of
from aiomilter.policy.dnsbl import Listing, check_address, check_domain
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Rcpt
from aiomilter.wire.replies import Reply, Response

__all__ = ["Dnsbl", "Listed"]


class Listed(NamedTuple):
    """What DNS lists say of a message, for other filters.

    Args:
        score: The sum of the weights of those that list its client or its sender's domain.
        listings: Those.
    """

    score: float
    listings: tuple[Listing, ...]


@dataclass(frozen=True, kw_only=True)
class Dnsbl(ReadyFilter):
    """Refuse mail whose client or sender's domain DNS lists list, each with a weight.

    All lists are asked at once; one that does not answer, or answers that it is not for you, lists nothing.

    Args:
        client: Lists of addresses, with the weight of each: zen.spamhaus.org = 2.
        domain: The same of domains: the sender's is looked up.
        reject_at: The sum of weights from which on mail is refused.
        exempt_recipients: Addresses, or local-parts of our domains, whose mail is not refused.
    """

    name: ClassVar[str] = "dnsbl"
    unless: ClassVar[tuple[str, ...]] = ("internal", "authenticated", "trusted_relay")
    reasons: ClassVar[Mapping[str, str]] = {"dnsbl": "lists of enough weight list the client, or the sender's domain"}
    example: ClassVar[str] = (
        '[[filter]]\nuse = "dnsbl"\nreject_at = 2\n[filter.client]\n"bl.example.org" = 2\n"other.example.net" = 1\n'
    )

    client: Mapping[str, float] = field(default_factory=dict)
    domain: Mapping[str, float] = field(default_factory=dict)
    reject_at: float = 1
    exempt_recipients: Collection[str] = EXEMPT

    def __post_init__(self) -> None:
        if not self.client and not self.domain:
            raise ValueError("expected at least one of client, domain")
        for name, lists in (("client", self.client), ("domain", self.domain)):
            for zone, weight in lists.items():
                if domain_name(zone) is None:
                    raise ValueError(f"{name}: expected the domain names of lists, found {zone!r:.80}")
                if not 0 < weight <= 1000:
                    raise ValueError(f"{name}: expected weights above 0, found {weight} for {zone}")
        if not 0 < self.reject_at <= 1000:
            raise ValueError(f"reject_at: expected a number above 0, found {self.reject_at}")
        Exempt(self.exempt_recipients, Site())

    @property
    def first_stage(self) -> Stage:
        """It decides on each recipient."""
        return Stage.RCPT

    @asynccontextmanager
    async def start(self, site: Site, asked: frozenset[str]) -> AsyncIterator[Callable[[], Milter]]:
        """Open the resolver."""
        async with site.open_resolver() as resolver:
            yield partial(_Dnsbl, self, Exempt(self.exempt_recipients, site), resolver)


class _Dnsbl(Milter):
    provides = (Listed,)

    def __init__(self, settings: Dnsbl, exempt: Exempt, resolver: Resolver) -> None:
        self.settings = settings
        self.exempt = exempt
        self.resolver = resolver

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        if rcpt.address in self.exempt:
            return None
        found: Listed | None = ctx.notes.get("found")
        if found is None:
            found = ctx.notes["found"] = await self._ask(ctx)
            ctx.results.put(found)
        if found.score < self.settings.reject_at:
            return None
        names = ", ".join(each.zone for each in found.listings)
        return Reply(550, "5.7.1", f"The client or the sender's domain is listed by {names}", reason="dnsbl")

    async def _ask(self, ctx: Context) -> Listed:
        settings, ip = self.settings, ctx.client.ip
        domain = domain_of(ctx.sender.address) if ctx.sender is not None else ""
        clients, domains = await asyncio.gather(
            check_address(ip, settings.client, resolver=self.resolver) if ip is not None else _nothing(),
            check_domain(domain, settings.domain if domain else (), resolver=self.resolver),
        )
        listed = [(each, settings.client[each.zone]) for each in clients if each.listed]
        listed += [(each, settings.domain[each.zone]) for each in domains if each.listed]
        return Listed(sum(weight for _, weight in listed), tuple(each for each, _ in listed))


async def _nothing() -> tuple[Listing, ...]:
    """Return what lists say of mail that has no client."""
    return ()
