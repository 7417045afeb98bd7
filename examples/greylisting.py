"""Have strangers come back after five minutes; a domain that SPF passed may come back from anywhere.

STORE=sqlite:/var/lib/filter/state.db aiomilter run examples/greylisting.py --listen inet:8890@127.0.0.1
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiomilter import Context, Mail, Milter, Rcpt, Reply, Response
from aiomilter.auth import spf
from aiomilter.dns import Resolver, system_resolver
from aiomilter.policy import Greylist
from aiomilter.policy.greylist import Seen
from aiomilter.policy.stores import open_store


class Greylisting(Milter):
    def __init__(self, resolver: Resolver, greylist: Greylist) -> None:
        self.resolver = resolver
        self.greylist = greylist

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        ctx.notes["domain"] = None
        if ctx.auth is None and ctx.client.ip is not None:
            found = await spf.check_host(ctx.client.ip, mail.address, ctx.helo, resolver=self.resolver)
            ctx.notes["domain"] = found.authenticated_domain

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        if ctx.auth is not None or ctx.sender is None:
            return None
        domain, sender = ctx.notes["domain"], ctx.sender.address
        return answer(await self.greylist.check(ctx.client.ip, sender, rcpt.address, domain=domain))

    async def data(self, ctx: Context) -> Response | None:
        """Bounces have to wait here: a server that only asks whether an address exists goes no further than RCPT."""
        if ctx.auth is not None or ctx.sender is None or ctx.sender.address:
            return None
        found = [
            await self.greylist.check(ctx.client.ip, "", rcpt.address, domain=ctx.notes["domain"], stage="data")
            for rcpt in ctx.recipients
        ]
        return next(filter(None, map(answer, found)), None)


def answer(seen: Seen) -> Reply | None:
    if seen.verdict != "wait":
        return None
    return Reply(451, "4.7.1", f"Greylisted, come back in {seen.wait:.0f} s", reason="greylisted")


@asynccontextmanager
async def milter() -> AsyncIterator[Callable[[], Greylisting]]:
    """Open the store; examples/user_rates.py shows what several machines need that share one."""
    async with (
        system_resolver() as resolver,
        open_store(os.environ.get("STORE", "memory:")) as store,
    ):
        greylist = Greylist(store)
        yield lambda: Greylisting(resolver, greylist)
