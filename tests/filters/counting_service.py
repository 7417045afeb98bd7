"""A service on asyncio with a filter inside: it refuses what its users have blocked, and tells on the web what it saw.

GET / shows the counts as JSON.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiomilter
from aiomilter import Context, EndOfMessageContext, Mail, Milter, Reply, Response


@dataclass
class State:
    """What both sides share; one event loop, so no locks."""

    blocked: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)


class Counting(Milter):
    """Refuse blocked senders, and count."""

    def __init__(self, state: State) -> None:
        self.state = state

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        if mail.address.lower() in self.state.blocked:
            self.state.counts["refused"] += 1
            return Reply(550, "5.7.1", "Blocked by its recipient")
        return None

    async def eom(self, ctx: EndOfMessageContext) -> None:
        self.state.counts["passed"] += 1

    async def abort(self, ctx: Context) -> None:
        self.state.counts["broken off"] += 1


@asynccontextmanager
async def service(state: State, milter: str, host: str, port: int) -> AsyncIterator[tuple[str, int]]:
    """Serve mail and web until the block is left; gives the milter's socket and the port of the web."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + json.dumps(state.counts).encode())
        writer.close()
        await writer.wait_closed()

    async with (
        aiomilter.serve(lambda: Counting(state), milter) as server,
        await asyncio.start_server(answer, host, port) as web,
    ):
        yield server.addresses[0], web.sockets[0].getsockname()[1]
