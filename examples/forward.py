"""Forward mail so that receivers can still tell where it came from: a sender of our own (SRS), and a seal (ARC).

    aiomilter dkim keygen fwd.example.org --rsa 2048 --selector arc1
    (umask 077; head -c 24 /dev/urandom | base64 >srs.secrets)
    SRS_SECRETS=srs.secrets ARC_KEY=arc1.pem aiomilter run examples/forward.py --listen inet:8893@127.0.0.1

FORWARDED are the addresses whose aliases lead outside.  A filter cannot know: it sees recipients before they are expanded.
It needs the extra dkim: ``pip install 'aiomilter[dkim]'``.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from aiomilter import Connect, Context, EndOfMessageContext, Header, Mail, Milter, Rcpt, Reply, Response, no_reply
from aiomilter.auth import Authenticator, ClientCheck, arc, dkim
from aiomilter.dns import system_resolver
from aiomilter.mail.srs import Rewriter, SrsError, read_secrets

NAME = "mx.example.org"  # yours: fields of this name that others wrote are deleted
DOMAIN = "fwd.example.org"
OWN_DOMAINS = ["example.org"]
FORWARDED = {"alumni@example.org", "club@example.org"}


class Forward(Milter):
    leading_space = True  # signatures may cover the blanks after a colon

    def __init__(self, auth: Authenticator, sealer: arc.Sealer, rewriter: Rewriter) -> None:
        self.auth = auth
        self.sealer = sealer
        self.rewriter = rewriter

    async def connect(self, ctx: Context, connect: Connect) -> None:
        self.client: ClientCheck = self.auth.client(ctx.client.ip)

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        self.sender = mail.address
        self.forwarded = False
        self.bounces: list[tuple[str, str]] = []
        self.check = self.client.message(sender=mail.address, helo=ctx.helo)
        ctx.on_end(self.check.cancel)
        self.sealing = self.sealer.start()  # what we found is known at the end

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        self.forwarded = self.forwarded or rcpt.address.lower() in FORWARDED
        try:
            original = self.rewriter.reverse(rcpt.address)
        except SrsError as error:
            if error.reason == "not ours":
                return None
            return Reply(550, "5.7.1", f"Not an address for bounces: {error.reason}", reason=f"srs_{error.reason}")
        if self.sender:
            return Reply(550, "5.7.1", "This address takes bounces only", reason="srs_no_bounce")
        self.bounces.append((rcpt.path, original))
        return None

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        self.check.header(header.raw)
        self.sealing.header(header.raw)

    @no_reply
    async def eoh(self, ctx: Context) -> None:
        self.check.end_of_headers()
        self.sealing.end_of_headers()

    @no_reply
    async def body(self, ctx: Context, chunk: bytes) -> None:
        self.check.body(chunk)
        self.sealing.body(chunk)

    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        found = await self.check.finish()
        if self.forwarded and found.arc.temporary:
            # Sealed as failed, the chain would be lost for good.
            return Reply(451, "4.7.0", "The chain of seals cannot be checked now", reason="arc_temporary")
        for occurrence in found.forged:
            ctx.delete_header("Authentication-Results", occurrence)
        for path, original in self.bounces:
            ctx.delete_recipient(path)
            ctx.add_recipient(original)
        if self.forwarded:
            with suppress(SrsError):  # a sender without a domain stays as it is
                ctx.change_sender(self.rewriter.forward(self.sender))
            self.sealing.delete_headers("Authentication-Results", found.forged)
            for name, value in reversed(await self.sealing.finish(found.arc, found.results())):
                ctx.insert_header(name, value)
        ctx.insert_header("Authentication-Results", str(found.results()))
        return None

    async def close(self, ctx: Context) -> None:
        if hasattr(self, "client"):
            self.client.cancel()


@asynccontextmanager
async def milter() -> AsyncIterator[Callable[[], Forward]]:
    """Read secrets and key, again at each reload."""
    rewriter = Rewriter(read_secrets(os.environ["SRS_SECRETS"]), DOMAIN, own_domains=OWN_DOMAINS)
    sealer = arc.Sealer(dkim.Key.load(os.environ["ARC_KEY"], domain=DOMAIN, selector="arc1"))
    async with system_resolver() as resolver:
        auth = Authenticator(resolver, authserv_ids=[NAME])
        yield lambda: Forward(auth, sealer, rewriter)
