"""Sign the mail of users who have logged in, while it comes: header octets as they are, no body kept."""

from aiomilter import Context, EndOfMessageContext, Header, Mail, Milter, no_reply
from aiomilter.auth.dkim import Signer


class SignOurMail(Milter):
    """Signs with keys that all sessions share."""

    leading_space = True

    def __init__(self, signer: Signer) -> None:
        self.signer = signer

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        self.signing = self.signer.start() if ctx.auth is not None else None

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        if self.signing is not None:
            self.signing.header(header.raw)

    @no_reply
    async def eoh(self, ctx: Context) -> None:
        if self.signing is not None:
            self.signing.end_of_headers()

    @no_reply
    async def body(self, ctx: Context, chunk: bytes) -> None:
        if self.signing is not None:
            self.signing.body(chunk)

    async def eom(self, ctx: EndOfMessageContext) -> None:
        if self.signing is not None:
            for value in await self.signing.finish():
                ctx.insert_header("DKIM-Signature", value)
