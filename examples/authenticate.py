"""Check where mail comes from, write one Authentication-Results field, and reject what DMARC policies reject.

Try it without an MTA, then behind Postfix with ``smtpd_milters = inet:127.0.0.1:8890``::

    aiomilter run examples/authenticate.py --smtp 2525
    aiomilter run examples/authenticate.py --listen inet:8890@127.0.0.1

It needs the extra dkim: ``pip install 'aiomilter[dkim]'``.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiomilter import Connect, Context, EndOfMessageContext, Header, Mail, Milter, Reply, Response, no_reply
from aiomilter.auth import Authenticator, ClientCheck, MessageCheck
from aiomilter.dns import system_resolver

NAME = "mx.example.net"  # yours: fields of this name that others wrote are deleted


class Authenticate(Milter):
    leading_space = True  # signatures may cover the blanks after a colon

    def __init__(self, auth: Authenticator) -> None:
        self.auth = auth

    async def connect(self, ctx: Context, connect: Connect) -> None:
        self.client: ClientCheck = self.auth.client(ctx.client.ip)

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        # Everything is asked in the background; only eom waits.
        self.check: MessageCheck = self.client.message(sender=mail.address, helo=ctx.helo)
        ctx.on_end(self.check.cancel)
        return None

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        self.check.header(header.raw)

    @no_reply
    async def eoh(self, ctx: Context) -> None:
        self.check.end_of_headers()

    @no_reply
    async def body(self, ctx: Context, chunk: bytes) -> None:
        self.check.body(chunk)

    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        found = await self.check.finish()
        for occurrence in found.forged:
            ctx.delete_header("Authentication-Results", occurrence)
        ctx.insert_header("Authentication-Results", str(found.results()))
        # Our own users are not judged: their mail is not signed yet.
        if ctx.auth is None and found.dmarc.disposition == "reject":
            text = f"rejected by the DMARC policy of {found.dmarc.domain}"
            return Reply(550, "5.7.1", text, reason="dmarc_reject")
        return None

    async def close(self, ctx: Context) -> None:
        if hasattr(self, "client"):
            self.client.cancel()


@asynccontextmanager
async def milter() -> AsyncIterator[Callable[[], Authenticate]]:
    async with system_resolver() as resolver:
        auth = Authenticator(resolver, authserv_ids=[NAME])
        yield lambda: Authenticate(auth)
