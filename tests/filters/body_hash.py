"""Hash the body in a thread while the rest of it still comes, and refuse what is known to be bad."""

import asyncio
import hashlib

from aiomilter import Context, EndOfMessageContext, Milter, Reply, Response


async def sha256(pieces: asyncio.Queue[bytes]) -> str:
    """Return the digest of all pieces up to the empty one."""
    digest = hashlib.sha256()
    while piece := await pieces.get():
        await asyncio.to_thread(digest.update, piece)
    return digest.hexdigest()


class BodyHash(Milter):
    """Refuse bodies by their digest, and write it into the others."""

    def __init__(self, known_bad: frozenset[str]) -> None:
        self.known_bad = known_bad

    async def eoh(self, ctx: Context) -> None:
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue(maxsize=8)
        self.hashing = asyncio.create_task(sha256(self.pieces))
        ctx.on_end(self.hashing.cancel)  # however the message ends; of no effect once it is done

    async def body(self, ctx: Context, chunk: bytes) -> None:
        await self.pieces.put(chunk)

    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        await self.pieces.put(b"")
        digest = await self.hashing
        if digest in self.known_bad:
            return Reply(554, "5.7.1", f"Known to be bad: {digest}")
        ctx.add_header("X-Body-SHA256", digest)
        return None
