"""``rates``: how many recipients a login, a client or a sender's domain may have in a time."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final

from aiomilter.context import Context
from aiomilter.filters.ready import ReadyFilter
from aiomilter.filters.recipients import defers, is_full
from aiomilter.filters.site import Site
from aiomilter.filters.units import rate
from aiomilter.handler import Milter
from aiomilter.mail.envelope import domain as domain_of
from aiomilter.policy import Rate, RateLimit
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Rcpt
from aiomilter.wire.replies import Reply, Response

__all__ = ["Rates"]

_NAMES: Final = ("user", "client", "sender_domain")


@dataclass(frozen=True, kw_only=True)
class Rates(ReadyFilter):
    """Have those come back later who send to more recipients in a time than they may.

    A rate is ``200/h``, ``30/min, burst 10`` or ``5/10 min``, or a list of rates, all of which hold; each recipient counts.

    Args:
        user: Of each login.
        client: Of each client, an IPv6 /64 as one; not of those in our networks, our relays, or that have logged in.
        sender_domain: Of each domain of senders, whoever the client is, but not those in our networks.
    """

    name: ClassVar[str] = "rates"
    reasons: ClassVar[Mapping[str, str]] = {
        "rate_user": "the login has sent too much",
        "rate_client": "the client has sent too much",
        "rate_sender_domain": "the sender's domain has sent too much",
    }
    stores: ClassVar[str] = "a time for each login, client and domain, until what was counted is worked off"
    example: ClassVar[str] = '[[filter]]\nuse = "rates"\nuser = "200/h, burst 50"\nclient = "30/min"\n'

    user: str | Sequence[str] = ()
    client: str | Sequence[str] = ()
    sender_domain: str | Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.rates():
            raise ValueError(f"expected at least one of {', '.join(_NAMES)}")

    @property
    def first_stage(self) -> Stage:
        """It decides on each recipient."""
        return Stage.RCPT

    def rates(self) -> dict[str, list[Rate]]:
        """Return those that are set, by their names.

        Raises:
            ValueError: One is not a rate.
        """
        found: dict[str, list[Rate]] = {}
        for name in _NAMES:
            given: str | Sequence[str] = getattr(self, name)
            if texts := [given] if isinstance(given, str) else list(given):
                found[name] = [rate(name, text) for text in texts]
        return found

    @asynccontextmanager
    async def start(self, site: Site, asked: frozenset[str]) -> AsyncIterator[Callable[[], Milter]]:
        """Open the store."""
        rates = self.rates()
        async with site.open_store() as store:
            yield partial(_Rates, site, tuple(rates), RateLimit(store, rates))


class _Rates(Milter):
    def __init__(self, site: Site, names: Sequence[str], limit: RateLimit) -> None:
        self.site = site
        self.names = names
        self.limit = limit

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        for name, key in self._counted(ctx):
            state = await self.limit.hit(name, key)
            if state.exceeded:
                text = f"Too many recipients, try again in {state.wait:.0f} s"
                reply = ctx.notes["reply"] = Reply(450, "4.7.1", text, reason=f"rate_{name}")
                return defers(ctx, reply)
        return None

    def _counted(self, ctx: Context) -> list[tuple[str, str]]:
        """Return what this recipient counts for: names of rates, each with its key."""
        auth, ip, internal = ctx.auth, ctx.client.ip, self.site.is_internal(ctx)
        found = []
        if "user" in self.names and auth is not None:
            found.append(("user", auth.login))
        ours = internal or self.site.is_trusted_relay(ctx)
        if "client" in self.names and ip is not None and auth is None and not ours:
            found.append(("client", str(ip)))
        domain = domain_of(ctx.sender.address) if ctx.sender is not None else ""
        if "sender_domain" in self.names and domain and not internal:
            found.append(("sender_domain", domain))
        return found

    async def data(self, ctx: Context) -> Response | None:
        if not is_full(ctx):
            return None
        refused: Reply = ctx.notes["reply"]
        return Reply(451, "4.7.1", *refused.lines, reason=refused.reason)
