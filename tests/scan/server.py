"""A scanner that does as a test says, on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from aiomilter.scan import Clamd, Result, Rspamd, Scanner, Spamd
from tests.patience import PATIENCE

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
Serve = Callable[[Reader, Writer], Awaitable[object]]

KINDS: Final[dict[str, Callable[..., Scanner[Result]]]] = {"clamd": Clamd, "spamd": Spamd, "rspamd": Rspamd}
CLEAN: Final[dict[str, bytes]] = {
    "clamd": b"stream: OK\0",
    "spamd": b"SPAMD/1.1 0 EX_OK\r\nContent-length: 4\r\nSpam: False ; 0.0 / 5.0\r\n\r\nA,B\n",
    "rspamd": b'HTTP/1.1 200 OK\r\nContent-Length: 55\r\n\r\n{"action": "no action","score": 0,"required_score": 15}',
}
"""An answer of each about a message that nothing was found in."""


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    """Give the address of a server; each connection is closed when ``serve`` has ended."""
    tasks: set[asyncio.Task[Any]] = set()

    async def one(reader: Reader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the client has gone, or the test is over
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            tasks.discard(task)

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield f"inet:{server.sockets[0].getsockname()[1]}@127.0.0.1"
    finally:
        server.close()
        for _ in range(5):  # until a connection that was just accepted has its task
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait([*tasks], timeout=PATIENCE)


async def whole_request(kind: str, reader: Reader) -> bytes:
    """Read all that a scanner's client sends, and return it without its frames."""
    match kind:
        case "clamd":
            opening = await reader.readuntil(b"\0")
            pieces = []
            while size := int.from_bytes(await reader.readexactly(4)):
                pieces.append(await reader.readexactly(size))
            return opening + b"".join(pieces)
        case "spamd":
            return await reader.read()
    opening = await reader.readuntil(b"\r\n\r\n")
    pieces = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        pieces.append((await reader.readexactly(size + 2))[:-2])
    assert await reader.readexactly(2) == b"\r\n"
    return opening + b"".join(pieces)


def answering(kind: str, answer: bytes, requests: list[bytes] | None = None) -> Serve:
    """Return what reads a whole request, keeps it, and gives one answer to all."""

    async def serve(reader: Reader, writer: Writer) -> None:
        request = await whole_request(kind, reader)
        if requests is not None:
            requests.append(request)
        writer.write(answer)
        await writer.drain()

    return serve
