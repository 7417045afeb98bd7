"""The same, arrived: a filter of aiomilter's own, whose recipients are counted by the framework.

aiomilter run examples/from_pymilter/native.py --listen inet:8890@127.0.0.1
"""

import asyncio
import os

from aiomilter import Context, EndOfMessageContext, Mail, Milter, Reply, Response

SERVICE = ("127.0.0.1", int(os.environ.get("REPUTATION_PORT", "7777")))


async def is_listed(domain: str) -> bool:
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(*SERVICE)
        writer.write(domain.encode("utf-8", "surrogateescape") + b"\n")
        answer = await reader.readline()
        writer.close()
        return answer == b"listed\n"


class Reputation(Milter):
    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        if mail.domain and await is_listed(mail.domain):
            return Reply(550, "5.7.1", "Your domain is listed")
        return None

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Recipients", str(len(ctx.recipients)))
