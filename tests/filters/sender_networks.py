"""Ask the sender's domain which networks may send its mail, as SPF does, over a pool that all connections share."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from aiomilter import ACCEPT, TEMPFAIL, Context, EndOfMessageContext, Factory, Mail, Milter, Reply, Response


class Resolver(Protocol):
    """What knows the networks of a domain."""

    async def networks(self, domain: str) -> list[str]:
        """Return the networks that may send for a domain, none if it does not say; OSError if nobody answers."""


class SenderNetworks(Milter):
    """Refuse senders that come from elsewhere than their domain says."""

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        ip = ctx.client.ip
        if ip is None or ctx.auth is not None:
            return ACCEPT
        domain = mail.domain or ctx.helo
        try:
            async with asyncio.timeout(5):
                networks = await self.resolver.networks(domain.lower())
        except (OSError, TimeoutError):
            return TEMPFAIL
        if networks and not any(ip in ipaddress.ip_network(network) for network in networks):
            return Reply(550, "5.7.23", f"{domain} does not send from {ip}")
        ctx.notes["result"] = "pass" if networks else "none"
        return None

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.insert_header("X-Sender-Networks", ctx.notes["result"])


def sharing(open_resolver: Callable[[], AbstractAsyncContextManager[Resolver]]) -> Factory:
    """Return a factory that opens the resolver at start, and closes it after the last connection."""

    @asynccontextmanager
    async def milter() -> AsyncIterator[Callable[[], SenderNetworks]]:
        async with open_resolver() as resolver:
            yield lambda: SenderNetworks(resolver)

    return milter
