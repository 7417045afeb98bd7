"""Drop NUL octets from bodies of any size: what comes is kept in a file, what goes is read from it piece by piece."""

import asyncio
from collections.abc import AsyncIterator
from tempfile import SpooledTemporaryFile

from aiomilter import Context, EndOfMessageContext, Mail, Milter

MEMORY = 1_000_000  # octets; a larger body goes to the disk
PIECE = 65_536  # octets


class DropNuls(Milter):
    """Replace a body that holds NUL, which no message may (RFC 5322)."""

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        self.kept = SpooledTemporaryFile(MEMORY)  # noqa: SIM115 - the next line closes it
        ctx.on_end(self.kept.close)  # however the message ends
        self.nuls = 0

    async def body(self, ctx: Context, chunk: bytes) -> None:
        self.nuls += chunk.count(b"\0")
        await asyncio.to_thread(self.kept.write, chunk)

    async def eom(self, ctx: EndOfMessageContext) -> None:
        if self.nuls:
            ctx.add_header("X-Dropped-NULs", str(self.nuls))
            ctx.replace_body(self.without_nuls())

    async def without_nuls(self) -> AsyncIterator[bytes]:
        self.kept.seek(0)
        while piece := await asyncio.to_thread(self.kept.read, PIECE):
            yield piece.replace(b"\0", b"")
