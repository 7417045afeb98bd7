"""Await something slow in ``envfrom``: a reputation service that is asked over the network, one line a question.

A thousand SMTP clients may wait for their answers at once, in this one process.  The connections to the service are opened
when the filter starts and shared by all; a service that is slow or gone must not stop the mail.

The service answers ``good``, ``bad`` or ``unknown`` to a line with an address, on 127.0.0.1:4040 unless told otherwise.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiomilter import Context, EndOfMessageContext, Mail, Milter, Reply, Response, run

SERVICE = os.environ.get("REPUTATION_SERVICE", "127.0.0.1:4040")
PATIENCE = 5.0  # seconds; below the 10 s that Sendmail waits for an answer


class Reputation:
    """A client of the service with a few connections, each used by one question at a time."""

    def __init__(self, address: str, size: int = 4) -> None:
        self.host, _, self.port = address.rpartition(":")
        self.idle: asyncio.LifoQueue[tuple[asyncio.StreamReader, asyncio.StreamWriter] | None] = asyncio.LifoQueue()
        for _slot in range(size):
            self.idle.put_nowait(None)

    async def ask(self, address: str) -> str:
        """Return what the service says of an address; OSError or TimeoutError where it says nothing."""
        connection = await self.idle.get()
        try:
            if connection is None:
                connection = await asyncio.open_connection(self.host, int(self.port))
            reader, writer = connection
            writer.write(address.encode("utf-8", "replace") + b"\n")
            answer = await reader.readline()
            if not answer:
                raise ConnectionResetError("the reputation service has hung up")
        except BaseException:
            # Cancelled or broken in the middle of a question: the next answer on it would be the one to this question.
            if connection is not None:
                connection[1].close()
            connection = None
            raise
        finally:
            self.idle.put_nowait(connection)
        return answer.decode("ascii", "replace").strip()

    def close(self) -> None:
        """Close every connection."""
        while not self.idle.empty():
            connection = self.idle.get_nowait()
            if connection is not None:
                connection[1].close()


class AskFirst(Milter):
    """Refuse senders of bad reputation, and note that of the others in the message."""

    def __init__(self, reputation: Reputation) -> None:
        self.reputation = reputation

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        try:
            async with asyncio.timeout(PATIENCE):
                said = await self.reputation.ask(mail.address)
        except (OSError, TimeoutError):
            said = "unknown"
        if said == "bad":
            return Reply(550, "5.7.1", f"Mail from {mail.address} is not welcome here")
        ctx.notes["reputation"] = said
        return None

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Reputation", ctx.notes["reputation"])


@asynccontextmanager
async def milter() -> AsyncIterator[Callable[[], AskFirst]]:
    """Share one client of the service between all connections, and close it after the last of them."""
    reputation = Reputation(SERVICE)
    try:
        yield lambda: AskFirst(reputation)
    finally:
        reputation.close()


if __name__ == "__main__":
    run(milter, "inet:8890@127.0.0.1")
