"""The filter of the page's tests: several in a composition, of which each does something that can be seen."""

import asyncio
import logging

from aiomilter import CONTINUE, DISCARD, Context, EndOfMessageContext, Header, Mail, Milter, Rcpt, Reply, Response
from aiomilter.compose import check, compose

RESULTS = (
    "mx.example.org;\n\tspf=softfail smtp.mailfrom=alice@example.org;\n\t"
    'dkim=fail reason="the body was changed" header.d=example.org;\n\tdmarc=pass header.from=example.org'
)


class Authentication(Milter):
    """Waits a moment, and adds what it has found."""

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        await asyncio.sleep(0.02)

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.insert_header("Authentication-Results", RESULTS)


class Recipients(Milter):
    """Knows no mailbox of the name ``nobody``."""

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response:
        if rcpt.local_part == "nobody":
            return Reply(550, "5.1.1", "no such mailbox", reason="unknown_mailbox")
        return CONTINUE


class Content(Milter):
    """Does what the subject asks for."""

    def __init__(self) -> None:
        self.subject = ""

    async def header(self, ctx: Context, header: Header) -> None:
        if header.name == "Subject":
            self.subject = header.value

    async def body(self, ctx: Context, chunk: bytes) -> None:
        pass

    async def eom(self, ctx: EndOfMessageContext) -> Response:
        subject = self.subject.lower()
        logging.getLogger("gateway").warning("looked at %r", self.subject)
        if "broken" in subject:
            raise LookupError("the table of rules is gone")
        await asyncio.sleep(0.05)
        if "later" in subject:
            return Reply(451, "4.7.1", "come back in 5 minutes", reason="greylisted")
        if "pills" in subject:
            return Reply(554, "5.7.1", "looks like spam", reason="spam")
        if "nothing" in subject:
            return DISCARD
        if "held" in subject:
            ctx.quarantine("a person should look at it")
        ctx.change_header("Subject", 1, f"[EXTERNAL] {self.subject}")
        ctx.add_header("X-Checked", "yes")
        return CONTINUE


gateway = compose(
    check(Authentication, name="authentication"),
    check(Recipients, name="recipients"),
    check(Content, name="content", after="authentication"),
)
