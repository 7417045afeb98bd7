"""``reputation``: how much of what a domain has sent was good, and who is refused or trusted for that."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

from aiomilter import policy
from aiomilter.auth.spf import SpfResult
from aiomilter.compose import known_at
from aiomilter.compose.conditions import Predicate
from aiomilter.context import Context, EndOfMessageContext
from aiomilter.filters.actions import accepted
from aiomilter.filters.authenticate import HeloSpf
from aiomilter.filters.ready import ReadyFilter
from aiomilter.filters.recipients import EXEMPT, Exempt
from aiomilter.filters.site import Site
from aiomilter.filters.units import seconds
from aiomilter.handler import Milter
from aiomilter.mail.envelope import domain as domain_of
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Mail, Rcpt
from aiomilter.wire.replies import Reply, Response

__all__ = ["Judged", "Reputation", "Trust"]


class Judged(NamedTuple):
    """What a filter says of a message, for reputation to count: ``ctx.results.put(Judged(good=False))``."""

    good: bool


class Trust(NamedTuple):
    """What is known of whoever a message is from, for other filters.

    Args:
        good_share: The part of what it has sent that was good.
        evidence: How many messages say so, of which older ones count less.
        is_good: Whether that is enough to trust it.
    """

    good_share: float
    evidence: float
    is_good: bool


@known_at(Stage.RCPT)
def _is_good(ctx: Context) -> bool:
    found = ctx.results.get(Trust)
    return found is not None and found.is_good


@dataclass(frozen=True, kw_only=True)
class Reputation(ReadyFilter):
    """Refuse mail of domains most of whose mail was bad, and give the word good_reputation for others.

    A domain counts together with what SPF says of it: one that begins to pass is counted from the start, and what is forged in
    its name does not count for it.  A message is counted if a check says what it is, which lists ``Judged`` in its ``provides``
    and puts one into ``ctx.results``.

    Args:
        reject_bad_share: The part of a domain's mail that was bad, from which on it is refused for each recipient.
        reject_bad_share_at_mail: The same, at MAIL, whoever the recipients are; 0.934 is a fair value.
        trust_good_share: The part that was good, from which on a domain is trusted.
        min_evidence: Messages that have to be counted before.
        half_life: The time after which a message counts half.
        exempt_recipients: Addresses, or local-parts of our domains, whose mail is not refused.
    """

    name: ClassVar[str] = "reputation"
    only_judges: ClassVar[bool] = False
    unless: ClassVar[tuple[str, ...]] = ("internal", "authenticated", "trusted_relay")
    gives: ClassVar[Mapping[str, Predicate]] = {"good_reputation": _is_good}
    needs: ClassVar[tuple[str, ...]] = ("authenticate",)
    asks: ClassVar[frozenset[str]] = frozenset({"spf_pass"})  # at MAIL
    reasons: ClassVar[Mapping[str, str]] = {"bad_reputation": "too much of what the domain has sent was bad"}
    stores: ClassVar[str] = "two counts of each domain with its result of SPF, for ten times half_life"
    example: ClassVar[str] = '[[filter]]\nuse = "authenticate"\n\n[[filter]]\nuse = "reputation"\n'

    reject_bad_share: float = 0.775
    reject_bad_share_at_mail: float | None = None
    trust_good_share: float = 0.712
    min_evidence: float = 30
    half_life: float | str = "30 d"
    exempt_recipients: Collection[str] = EXEMPT

    def __post_init__(self) -> None:
        for name in ("reject_bad_share", "reject_bad_share_at_mail", "trust_good_share"):
            share = getattr(self, name)
            if share is not None and not 0 < share <= 1:
                raise ValueError(f"{name}: expected a part above 0 and up to 1, found {share}")
        if not 1 <= self.min_evidence <= 1_000_000:
            raise ValueError(f"min_evidence: expected 1 to 1000000, found {self.min_evidence}")
        if not 1 <= seconds("half_life", self.half_life) <= 366 * 86_400:
            raise ValueError(f"half_life: expected 1 s to a year, found {self.half_life}")
        Exempt(self.exempt_recipients, Site())

    @property
    def first_stage(self) -> Stage:
        """It begins with MAIL."""
        return Stage.MAIL

    @asynccontextmanager
    async def start(self, site: Site, asked: frozenset[str]) -> AsyncIterator[Callable[[], Milter]]:
        """Open the store."""
        async with site.open_store() as store:
            counts = policy.Reputation(store, half_life=seconds("half_life", self.half_life))
            yield partial(_Reputation, self, Exempt(self.exempt_recipients, site), counts)


class _Reputation(Milter):
    reads = (SpfResult, HeloSpf, Judged)
    provides = (Trust,)

    def __init__(self, settings: Reputation, exempt: Exempt, counts: policy.Reputation) -> None:
        self.settings = settings
        self.exempt = exempt
        self.counts = counts
        self.who: tuple[str, str] | None = None
        self.bad_share = 0.0

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        self.who, self.bad_share = _who(ctx), 0.0
        if self.who is None:
            return None
        found = await self.counts.standing(*self.who)
        evidence = found.good + found.bad
        if evidence < self.settings.min_evidence:
            return None
        self.bad_share = found.bad / evidence
        good_share = 1 - self.bad_share
        ctx.results.put(Trust(good_share, evidence, good_share >= self.settings.trust_good_share))
        at_mail = self.settings.reject_bad_share_at_mail
        refuses = at_mail is not None and self.bad_share >= at_mail and not accepted(ctx)
        return self._refusal() if refuses else None

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        if self.bad_share < self.settings.reject_bad_share or rcpt.address in self.exempt or accepted(ctx):
            return None
        return self._refusal()

    def _refusal(self) -> Reply:
        assert self.who is not None
        text = f"Most of what we have seen of {self.who[1]} was unwanted"
        return Reply(550, "5.7.1", text, reason="bad_reputation")

    async def eom(self, ctx: EndOfMessageContext) -> None:
        judged = ctx.results.all(Judged)
        if judged and self.who is not None:
            await self.counts.record(*self.who, all(each.good for each in judged))


def _who(ctx: Context) -> tuple[str, str] | None:
    """Return who a message counts for: a kind, and a domain; None if SPF has not said."""
    spf, helo = ctx.results.get(SpfResult), ctx.results.get(HeloSpf)
    if spf is None:
        return None
    if spf.authenticated_domain:
        return "domain", spf.authenticated_domain
    if helo is not None and helo.found.authenticated_domain:
        return "helo", helo.found.authenticated_domain
    domain = domain_of(ctx.sender.address) if ctx.sender is not None else ""
    return (f"domain_{spf.result}", domain) if domain else None
