"""A filter that goes wrong on demand: ``FAULT=raise@eom aiomilter run tests/faults/faulty.py --listen SOCKET``.

It knows a message by the number in its sender, ``n17@client.test``.  Every third is struck: the fault happens in the
callback after the ``@``.  Every fifth of the others is held.  All that passes gets a field ``X-Filter``, so that a
message which came past the filter can be told.
"""

import asyncio
import os
import tempfile
import time
from typing import Any, Final

from aiomilter import Context, EndOfMessageContext, Header, Mail, Milter, Rcpt, TemporaryFailure

FAULT, _, WHERE = os.environ.get("FAULT", "").partition("@")
MARK: Final = os.environ.get("MARK", "yes")
SPOOL: Final = os.environ.get("SPOOL", "/dev/full")
"""What stands for a file system without room."""
BLOCKED_TIME: Final = 0.1
"""Seconds that the loop stands still."""
KEPT_SIZE: Final = 60_000
"""Octets of a new body."""
KEPT_TIME: Final = 0.2
"""Seconds that it is kept for, before it leaves."""


def number_of(sender: str) -> int:
    """Return the number of a message."""
    return int(sender.partition("@")[0][1:])


def struck(number: int) -> bool:
    """Whether the fault happens to this message."""
    return number % 3 == 0


def to_be_held(number: int) -> bool:
    """Whether the filter asks for this message to be held, if it comes to its end."""
    return number % 5 == 1


class Faulty(Milter):
    """See above."""

    async def envfrom(self, ctx: Context, mail: Mail) -> Any:
        ctx.notes["number"] = number_of(mail.address)
        return await self.happen(ctx, "envfrom")

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Any:
        return await self.happen(ctx, "envrcpt")

    async def header(self, ctx: Context, header: Header) -> Any:
        return await self.happen(ctx, "header") if header.name == "Subject" else None

    async def body(self, ctx: Context, chunk: bytes) -> Any:
        return await self.happen(ctx, "body")

    async def eom(self, ctx: EndOfMessageContext) -> Any:
        ctx.add_header("X-Filter", MARK)
        if to_be_held(ctx.notes["number"]):
            ctx.quarantine("fifth")
        return await self.happen(ctx, "eom")

    async def happen(self, ctx: Context, where: str) -> Any:
        """Go wrong, if this is the message and the place."""
        if where != WHERE or not struck(ctx.notes["number"]):
            return None
        match FAULT:
            case "raise":
                raise ValueError("a bug in the filter")
            case "unavailable":
                raise TemporaryFailure("the database is away")
            case "exit":
                raise SystemExit(1)
            case "nonsense":
                return True
            case "hang":
                await asyncio.Event().wait()
            case "stubborn":
                while True:
                    try:
                        await asyncio.Event().wait()
                    except asyncio.CancelledError:
                        continue
            case "block":
                time.sleep(BLOCKED_TIME)
            case "keep":
                assert isinstance(ctx, EndOfMessageContext)
                ctx.replace_body(bytes(KEPT_SIZE))
                await asyncio.sleep(KEPT_TIME)
            case "spool":
                with tempfile.NamedTemporaryFile(dir=SPOOL) if os.path.isdir(SPOOL) else open(SPOOL, "wb") as spool:
                    spool.write(bytes(1 << 20))
            case _:
                raise SystemExit(f"FAULT={FAULT} is none")
        return None
