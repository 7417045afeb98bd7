"""One node of a cluster: greylisting and limits for logins, whose state all nodes share.

STORE='redis://10.0.0.21,10.0.0.22,10.0.0.23/0?sentinel=mail' STORE_KEYS=/etc/filter/state.keys NODE=a \\
    aiomilter run examples/cluster/gate.py --listen inet:8890@10.0.0.11 --allow-network 10.0.0.0/24
"""

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiomilter import Context, EndOfMessageContext, Mail, Milter, Rcpt, Reply, Response
from aiomilter.auth import spf
from aiomilter.dns import Resolver, resolver
from aiomilter.policy import Greylist, Rate, RateLimit
from aiomilter.policy.stores import open_store, read_keys

log = logging.getLogger("gate")


class Gate(Milter):
    def __init__(self, dns: Resolver, greylist: Greylist, rates: RateLimit) -> None:
        self.dns, self.greylist, self.rates = dns, greylist, rates

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        ctx.notes["domain"] = None
        if ctx.auth is None and ctx.client.ip is not None:
            found = await spf.check_host(ctx.client.ip, mail.address, ctx.helo, resolver=self.dns)
            ctx.notes["domain"] = found.authenticated_domain

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        if ctx.auth is not None:
            state = await self.rates.hit("user", ctx.auth.login)
            if state.problem:
                log.warning("counted by this node alone: %s", state.problem)
            again = f"Too many recipients, try again in {state.wait:.0f} s"
            return Reply(450, "4.7.1", again, reason="rate_user") if state.exceeded else None
        sender = ctx.sender.address if ctx.sender else ""
        seen = await self.greylist.check(ctx.client.ip, sender, rcpt.address, domain=ctx.notes["domain"])
        again = f"Greylisted, come back in {seen.wait:.0f} s"
        return Reply(451, "4.7.1", again, reason="greylisted") if seen.verdict == "wait" else None

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Node", os.environ.get("NODE", "-"))


@asynccontextmanager
async def milter() -> AsyncIterator[Callable[[], Gate]]:
    """Open the store; a node starts without it, too, and finds it when it is there."""
    keys = read_keys(os.environ["STORE_KEYS"])  # the same file on all nodes
    async with (
        resolver(os.environ.get("NAMESERVER", "127.0.0.1")) as dns,
        open_store(os.environ["STORE"], prefix="gate:", keys=keys, on_change=log.warning) as store,
    ):
        if problem := await store.ready():
            log.warning("no store yet: %s", problem)
        greylist = Greylist(store, delay=float(os.environ.get("DELAY", "300")))
        rates = RateLimit(store, {"user": Rate(200, per=3600, burst=50)})
        yield lambda: Gate(dns, greylist, rates)
