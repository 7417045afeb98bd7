"""Refuse clients that DNS lists name, at RCPT, so that postmaster can still be reached.

The lists are asked when the client connects and have five seconds; a list that fails or is late refuses no client.  Name
yours in the environment variable DNSBL_ZONES::

    DNSBL_ZONES="bl.example.net zen.example.org" aiomilter run examples/dnsbl_milter.py --smtp 2525
"""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from aiomilter import CONTINUE, Connect, ConnectionResponse, Context, Milter, Rcpt, Reply, Response
from aiomilter.dns import Resolver, system_resolver
from aiomilter.policy.dnsbl import DnsList, Listing, check_address


class DnsblMilter(Milter):
    """The filter: one instance for each SMTP connection."""

    def __init__(self, lists: Sequence[DnsList], resolver: Resolver) -> None:
        self.lists = lists
        self.resolver = resolver
        self.listed: Listing | None = None

    async def connect(self, ctx: Context, connect: Connect) -> ConnectionResponse | None:
        if connect.ip is not None:
            found = await check_address(connect.ip, self.lists, resolver=self.resolver, timeout=5.0)
            self.listed = next((listing for listing in found if listing.listed), None)
        return CONTINUE

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        if self.listed is None or ctx.auth is not None or rcpt.local_part.lower() == "postmaster":
            return CONTINUE
        why = f" ({self.listed.text})" if self.listed.text else ""
        return Reply(550, "5.7.1", f"{ctx.client.ip} is listed by {self.listed.zone}{why}")


@asynccontextmanager
async def milter() -> AsyncIterator[Callable[[], DnsblMilter]]:
    """Keep one cache of DNS answers for all connections."""
    lists = [DnsList(zone, text=True) for zone in os.environ.get("DNSBL_ZONES", "").split()]
    if not lists:
        raise ValueError("set DNSBL_ZONES to the DNS lists to ask")
    async with system_resolver() as resolver:
        yield lambda: DnsblMilter(lists, resolver)
