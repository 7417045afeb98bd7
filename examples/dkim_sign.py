"""Sign mail that your users send, with every key that the domain in From has.

Make keys, publish what is printed, and name the files in ``keys.toml``::

    aiomilter dkim keygen example.com --both
    aiomilter run examples/dkim_sign.py --listen inet:8892@127.0.0.1

Sign last: what another filter changes afterwards breaks the signature.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import parseaddr

from aiomilter import ACCEPT, Context, EndOfMessageContext, Header, Mail, Milter, Response, no_reply
from aiomilter.auth import dkim


class DkimSign(Milter):
    leading_space = True  # the fields' exact octets

    def __init__(self, keys: dkim.KeyRing) -> None:
        self.keys = keys

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        ctx.notes["fields"] = []
        return None if ctx.auth is not None else ACCEPT  # not from our users

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        ctx.notes["fields"].append(header)

    async def eoh(self, ctx: Context) -> Response | None:
        author = next((header.text for header in ctx.notes["fields"] if header.name.lower() == "from"), "")
        keys = await self.keys.keys(parseaddr(author)[1], "", ctx.auth.login if ctx.auth else None)
        if not keys:
            return ACCEPT
        signing = ctx.notes["signing"] = dkim.Signer(keys).start()
        for header in ctx.notes["fields"]:
            signing.header(header.raw)
        signing.end_of_headers()
        return None

    @no_reply
    async def body(self, ctx: Context, chunk: bytes) -> None:
        ctx.notes["signing"].body(chunk)

    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        for value in await ctx.notes["signing"].finish():
            ctx.insert_header("DKIM-Signature", value)
        return None


@asynccontextmanager
async def milter() -> AsyncIterator[Callable[[], DkimSign]]:
    keys = dkim.load_keys(os.environ.get("DKIM_KEYS", "keys.toml"))
    yield lambda: DkimSign(keys)
