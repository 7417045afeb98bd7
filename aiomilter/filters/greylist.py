"""``greylist``: whoever is seen for the first time has to come back."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final, Literal

from aiomilter import policy
from aiomilter.auth import Authentication
from aiomilter.auth.spf import SpfResult
from aiomilter.context import Context, EndOfMessageContext
from aiomilter.filters.ready import ReadyFilter
from aiomilter.filters.recipients import EXEMPT, Exempt, defers, is_full
from aiomilter.filters.site import Site
from aiomilter.filters.units import seconds
from aiomilter.handler import Milter
from aiomilter.policy import Seen
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Rcpt
from aiomilter.wire.replies import Reply, Response

__all__ = ["Greylist"]

_REPLY: Final = "reply"


@dataclass(frozen=True, kw_only=True)
class Greylist(ReadyFilter):
    """Have those come back later who are seen for the first time, as mail servers do.

    A message passes by its client's network, sender and recipient; or by its recipient and the domain that SPF passes for, so
    that large senders may come back from another address.  A client that has passed three times with its domain is not held up
    any more.  Bounces wait at DATA.  ``aiomilter help greylist`` has more.

    Args:
        delay: The time to wait.
        window: The time within which it has to come back; after that it is new.
        keep: The time for which what has passed is remembered.
        at: Where it is decided: for each recipient; or, at the end of the message, for all of them, then also by the
            domain of a DKIM signature.
        exempt_recipients: Addresses, or local-parts of our domains, whose mail does not wait.
        on_failure: What is done while the store is away: pass or tempfail.
    """

    name: ClassVar[str] = "greylist"
    unless: ClassVar[tuple[str, ...]] = (
        "known_sender",
        "internal",
        "authenticated",
        "good_reputation",
        "trusted_relay",
    )
    asks: ClassVar[frozenset[str]] = frozenset({"spf"})
    reasons: ClassVar[Mapping[str, str]] = {"greylisted": "it is new, and has to come back"}
    stores: ClassVar[str] = "times of each network, sender and recipient, and of each domain and recipient, for keep"
    example: ClassVar[str] = '[[filter]]\nuse = "greylist"\ndelay = "5 min"\n'

    delay: float | str = "5 min"
    window: float | str = "48 h"
    keep: float | str = "36 d"
    at: Literal["rcpt", "eom"] = "rcpt"
    exempt_recipients: Collection[str] = EXEMPT
    on_failure: Literal["pass", "tempfail"] = "pass"

    def __post_init__(self) -> None:
        delay, window, keep = self.times()
        if not delay < window <= keep:
            raise ValueError("window: expected more than delay, and keep of as much or more")
        Exempt(self.exempt_recipients, Site())

    def times(self) -> tuple[float, float, float]:
        """Return delay, window and keep in seconds.

        Raises:
            ValueError: One is not a time.
        """
        return seconds("delay", self.delay), seconds("window", self.window), seconds("keep", self.keep)

    @property
    def first_stage(self) -> Stage:
        """It decides on each recipient, or at the end of the message."""
        return Stage.RCPT if self.at == "rcpt" else Stage.EOM

    @asynccontextmanager
    async def start(self, site: Site, asked: frozenset[str]) -> AsyncIterator[Callable[[], Milter]]:
        """Open the store."""
        delay, window, keep = self.times()
        async with site.open_store() as store:
            lists = policy.Greylist(store, delay=delay, window=window, keep=keep, on_failure=self.on_failure)
            kind = _AtRcpt if self.at == "rcpt" else _AtEnd
            yield partial(kind, Exempt(self.exempt_recipients, site), lists)


class _Greylist(Milter):
    reads = (SpfResult, Authentication)
    provides = (Seen,)

    def __init__(self, exempt: Exempt, lists: policy.Greylist) -> None:
        self.exempt = exempt
        self.lists = lists

    async def _refused(self, ctx: Context, recipient: str, stage: Literal["rcpt", "data"]) -> Reply | None:
        """Note an attempt, and return the refusal if it has to wait."""
        if recipient in self.exempt:
            return None
        sender = ctx.sender.address if ctx.sender is not None else ""
        seen = await self.lists.check(ctx.client.ip, sender, recipient, domain=_proven(ctx), stage=stage)
        ctx.results.put(seen)
        if seen.verdict != "wait":
            return None
        return Reply(451, "4.7.1", f"Greylisted, come back in {seen.wait:.0f} s", reason="greylisted")

    async def _all(self, ctx: Context) -> Reply | None:
        """Note an attempt for each recipient, and return the refusal of the first that has to wait."""
        refused = [await self._refused(ctx, each.address, "data") for each in ctx.recipients]
        return next(filter(None, refused), None)


class _AtRcpt(_Greylist):
    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        reply = await self._refused(ctx, rcpt.address, "rcpt")
        if reply is None:
            return None
        ctx.notes[_REPLY] = reply
        return defers(ctx, reply)

    async def data(self, ctx: Context) -> Response | None:
        if is_full(ctx):
            reply: Reply = ctx.notes[_REPLY]
            return reply
        if ctx.sender is not None and not ctx.sender.address:
            return await self._all(ctx)  # at RCPT, others' checks of our addresses would fail
        return None


class _AtEnd(_Greylist):
    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        return await self._all(ctx)


def _proven(ctx: Context) -> str | None:
    """Return the domain that SPF passes for, or, once it is known, DKIM: the author's, before that of others."""
    found = ctx.results.get(Authentication)
    spf = ctx.results.get(SpfResult)
    if spf is not None and spf.authenticated_domain:
        return spf.authenticated_domain
    if found is None:
        return None
    places = (*found.dmarc.aligned_signatures, *range(len(found.dkim)))
    return next((found.dkim[place].domain for place in places if found.dkim[place].result == "pass"), None)
