"""What stands between MTA and filter and cuts their connection after so many octets."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Cut", "Proxy", "proxy"]

_EDGE: Final = 1 << 16


class Cut(NamedTuple):
    """Where a connection ends.

    Args:
        to_filter: Octets of the MTA that still pass.
        to_mta: Octets of the filter that still pass.
        reset: Whether both ends are told by a reset instead of an end of file.
    """

    to_filter: int = _EDGE
    to_mta: int = _EDGE
    reset: bool = False


class Proxy:
    """Each connection takes the next cut; when there is none left it passes whole.

    Args:
        filter_path: Where the filter listens.
    """

    def __init__(self, filter_path: str) -> None:
        self.cuts: deque[Cut] = deque()
        self._ended: asyncio.Queue[Cut] = asyncio.Queue()
        self._path = filter_path

    def add(self, cuts: Iterable[Cut]) -> None:
        """Have connections that come end there."""
        self.cuts.extend(cuts)

    async def ended(self) -> Cut:
        """Wait for the next connection to end, and return how many octets have passed each way."""
        return await self._ended.get()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection of the MTA."""
        cut = self.cuts.popleft() if self.cuts else Cut()
        far_reader, far_writer = await asyncio.open_unix_connection(self._path)
        ends = (
            asyncio.create_task(_pass(reader, far_writer, cut.to_filter)),
            asyncio.create_task(_pass(far_reader, writer, cut.to_mta)),
        )
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            there, back = [await end for end in ends]
            self._ended.put_nowait(Cut(there, back))
            for side in (writer, far_writer):
                if cut.reset:
                    side.transport.abort()
                side.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int) -> int:
    """Pass octets on until one side goes or the limit is reached, and return how many there were."""
    passed = 0
    try:
        while passed < limit and (octets := await reader.read(limit - passed)):
            passed += len(octets)
            writer.write(octets)
            await writer.drain()
    except (ConnectionError, asyncio.CancelledError):
        pass
    return passed


@asynccontextmanager
async def proxy(socket: str, filter_path: str) -> AsyncIterator[Proxy]:
    """Listen where the MTA looks for the filter."""
    made = Proxy(filter_path)
    kind, _, rest = socket.partition(":")
    async with AsyncExitStack() as stack:
        if kind == "unix":
            server = await asyncio.start_unix_server(made.connected, rest)
            Path(rest).chmod(0o666)
            stack.callback(Path(rest).unlink, missing_ok=True)
        else:
            server = await asyncio.start_server(made.connected, "127.0.0.1", int(rest.partition("@")[0]))
        await stack.enter_async_context(server)
        yield made
