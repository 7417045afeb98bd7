"""``known_senders``: whom our users have written to is known to them."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final, Literal

from aiomilter import policy
from aiomilter.auth import Authentication
from aiomilter.auth.spf import SpfResult
from aiomilter.compose import known_at
from aiomilter.compose.conditions import Predicate
from aiomilter.context import Context, EndOfMessageContext
from aiomilter.filters.ready import ReadyFilter
from aiomilter.filters.site import Site
from aiomilter.filters.units import seconds
from aiomilter.handler import Milter, no_reply
from aiomilter.mail.envelope import domain as domain_of
from aiomilter.policy import Authenticated, Known
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Header, Mail, Rcpt

__all__ = ["KnownSenders"]

_BULK: Final = frozenset({"bulk", "junk", "list"})


@known_at(Stage.RCPT)
def _is_known(ctx: Context) -> bool:
    return any(each.known for each in ctx.results.all(Known))


@dataclass(frozen=True, kw_only=True)
class KnownSenders(ReadyFilter):
    """Remember whom our users write to, and give the word known_sender for what these answer.

    A sender counts as known only if SPF, or at the end of the message DKIM, passes for its domain.  At RCPT the first recipient
    says whether it is.  Automatic answers and bulk mail of our users are not learnt from.

    Args:
        learn_when: Whose mail is learnt from: of clients that have logged in, of those in our networks, or both; if own_domains
            is set, only what they send from these.
        keep: The time for which a pair is remembered, after the last message.
    """

    name: ClassVar[str] = "known_senders"
    only_judges: ClassVar[bool] = False
    gives: ClassVar[Mapping[str, Predicate]] = {"known_sender": _is_known}
    needs: ClassVar[tuple[str, ...]] = ("authenticate",)
    asks: ClassVar[frozenset[str]] = frozenset({"spf"})
    stores: ClassVar[str] = "pairs of one of our users and an address that they have written to, for keep"
    example: ClassVar[str] = '[[filter]]\nuse = "authenticate"\n\n[[filter]]\nuse = "known_senders"\n'

    learn_when: Collection[Literal["authenticated", "internal"]] = ("authenticated", "internal")
    keep: float | str = "60 d"

    def __post_init__(self) -> None:
        seconds("keep", self.keep)

    @property
    def first_stage(self) -> Stage:
        """It begins with MAIL."""
        return Stage.MAIL

    @asynccontextmanager
    async def start(self, site: Site, asked: frozenset[str]) -> AsyncIterator[Callable[[], Milter]]:
        """Open the store."""
        async with site.open_store() as store:
            pairs = policy.KnownSenders(store, keep=seconds("keep", self.keep))
            yield partial(_KnownSenders, frozenset(self.learn_when), site, pairs)


class _KnownSenders(Milter):
    reads = (SpfResult, Authentication)
    provides = (Known,)

    def __init__(self, learn_when: frozenset[str], site: Site, pairs: policy.KnownSenders) -> None:
        self.learn_when = learn_when
        self.site = site
        self.pairs = pairs
        self.is_ours = self.is_automatic = False

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        self.is_ours = ctx.auth is not None or self.site.is_internal(ctx)
        self.is_automatic = False

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> None:
        spf = ctx.results.get(SpfResult)
        if self.is_ours or spf is None or not spf.authenticated_domain or ctx.results.get(Known) is not None:
            return
        proof = Authenticated(spf.authenticated_domain, "spf")
        ctx.results.put(await self.pairs.knows(_sender(ctx), rcpt.address, proof))

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        name, value = header.name.lower(), header.value.strip().lower()
        if name == "auto-submitted":
            self.is_automatic = self.is_automatic or value.partition(";")[0].strip() != "no"
        elif name == "precedence":
            self.is_automatic = self.is_automatic or value in _BULK

    async def eom(self, ctx: EndOfMessageContext) -> None:
        if self.is_ours:
            if self._learns(ctx):
                await self.pairs.note(_sender(ctx), [each.address for each in ctx.recipients])
            return
        found = ctx.results.get(Authentication)
        if found is None or not ctx.recipients or _is_known(ctx):
            return
        for each in found.dkim:
            proof = Authenticated(each.domain, "dkim")
            if each.result == "pass" and proof.covers(_sender(ctx)):
                ctx.results.put(await self.pairs.knows(_sender(ctx), ctx.recipients[0].address, proof))
                return

    def _learns(self, ctx: Context) -> bool:
        """Return whether one of our users has written this."""
        allowed = (ctx.auth is not None and "authenticated" in self.learn_when) or (
            "internal" in self.learn_when and self.site.is_internal(ctx)
        )
        domain = domain_of(_sender(ctx))
        is_own = bool(domain) and (not self.site.own_domains or self.site.is_own(domain))
        return allowed and is_own and not self.is_automatic


def _sender(ctx: Context) -> str:
    return ctx.sender.address if ctx.sender is not None else ""
