"""Filters inside a service that has other things to do: two of them and a web endpoint, in one event loop.

Port 8890 serves mail from outside, port 8891 mail of our own people; http://127.0.0.1:8892/ tells how much there was.
"""

import asyncio
import contextlib
import json
from collections import Counter
from dataclasses import dataclass, field

import aiomilter
from aiomilter import Context, EndOfMessageContext, Mail, Milter, Response


@dataclass
class Service:
    """What the parts share; plain objects do, as everything runs in one loop."""

    blocked: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)


class Incoming(Milter):
    """Refuse whom the service has blocked; count the rest."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        if mail.address in self.service.blocked:
            self.service.counts["refused"] += 1
            return aiomilter.REJECT
        return None

    async def eom(self, ctx: EndOfMessageContext) -> None:
        self.service.counts["incoming"] += 1


class Outgoing(Milter):
    """Count what our own people send."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def eom(self, ctx: EndOfMessageContext) -> None:
        self.service.counts["outgoing"] += 1
        ctx.add_header("X-Sent-By", "our people")


async def web(service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one HTTP request: GET tells the counts, POST /block/ADDRESS blocks a sender."""
    try:
        request = await reader.readline()
        while (await reader.readline()).strip():
            pass
        method, _, rest = request.decode("ascii", "replace").partition(" ")
        path = rest.partition(" ")[0]
        if method == "POST" and path.startswith("/block/"):
            service.blocked.add(path.removeprefix("/block/"))
        body = json.dumps(service.counts).encode()
        head = f"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
    finally:
        writer.close()


async def main(
    incoming: str = "inet:8890@127.0.0.1",
    outgoing: str = "inet:8891@127.0.0.1",
    port: int = 8892,
    ready: "asyncio.Future[tuple[str, str, int]] | None" = None,
) -> None:
    """Run until cancelled; ``ready`` learns where everything listens."""
    service = Service()
    async with (
        aiomilter.serve(lambda: Incoming(service), incoming) as front,
        aiomilter.serve(lambda: Outgoing(service), outgoing) as back,
        await asyncio.start_server(lambda r, w: web(service, r, w), "127.0.0.1", port) as http,
    ):
        if ready is not None:
            ready.set_result((front.addresses[0], back.addresses[0], http.sockets[0].getsockname()[1]))
        await http.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
