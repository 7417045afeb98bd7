"""The MTA's side in octets, over a real socket: what the tests of threads and commands speak."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.peer import codes

__all__ = ["Client", "client"]


class Client:
    """One connection with a filter."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, *packets: bytes) -> None:
        """Send packets, in one write."""
        self.writer.write(b"".join(packets))

    async def read(self) -> bytes:
        """Return the next packet, b"" if the filter has closed."""
        try:
            head = await self.reader.readexactly(4)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return b""
        return head + await self.reader.readexactly(int.from_bytes(head, "big"))

    async def ask(self, *packets: bytes) -> str:
        """Send packets and return the letter of the next answer, "" if the filter has closed."""
        self.write(*packets)
        return codes(await self.read())

    async def rest(self) -> bytes:
        """Return all that comes until the filter closes."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""


@asynccontextmanager
async def client(address: str) -> AsyncIterator[Client]:
    """Connect to ``unix:PATH``."""
    reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with suppress(BrokenPipeError, ConnectionResetError):
            await writer.wait_closed()
