"""Forward with a sender of our own (SRS), so that SPF passes; and send bounces back to where they belong.

    (umask 077; head -c 24 /dev/urandom | base64 >srs.secrets)
    SRS_SECRETS=srs.secrets aiomilter run examples/srs_forwarder.py --listen inet:8890@127.0.0.1

FORWARDED are the addresses whose aliases lead outside.  A filter cannot know: it sees recipients before they are expanded.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from aiomilter import Context, EndOfMessageContext, Mail, Milter, Rcpt, Reply, Response
from aiomilter.mail.srs import Rewriter, SrsError, read_secrets

DOMAIN = "fwd.example.org"
OWN_DOMAINS = ["example.org"]
FORWARDED = {"alumni@example.org", "club@example.org"}


class Forwarder(Milter):
    def __init__(self, rewriter: Rewriter) -> None:
        self.rewriter = rewriter

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        ctx.notes["sender"] = mail.address
        ctx.notes["forwarded"] = False
        ctx.notes["bounces"] = []

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        if rcpt.address.lower() in FORWARDED:
            ctx.notes["forwarded"] = True
        try:
            original = self.rewriter.reverse(rcpt.address)
        except SrsError as error:
            if error.reason == "not ours":
                return None
            return Reply(550, "5.7.1", f"Not an address for bounces: {error.reason}", reason=f"srs_{error.reason}")
        if ctx.notes["sender"]:
            return Reply(550, "5.7.1", "This address takes bounces only", reason="srs_no_bounce")
        ctx.notes["bounces"].append((rcpt.path, original))
        return None

    async def eom(self, ctx: EndOfMessageContext) -> None:
        for path, original in ctx.notes["bounces"]:
            ctx.delete_recipient(path)
            ctx.add_recipient(original)
        if ctx.notes["forwarded"]:
            with suppress(SrsError):  # a sender without a domain stays as it is
                ctx.change_sender(self.rewriter.forward(ctx.notes["sender"]))


@asynccontextmanager
async def milter() -> AsyncIterator[Callable[[], Forwarder]]:
    """Read the secrets, again at each reload."""
    rewriter = Rewriter(read_secrets(os.environ["SRS_SECRETS"]), DOMAIN, own_domains=OWN_DOMAINS)
    yield lambda: Forwarder(rewriter)
