"""A server without sockets: the real protocol and session on a transport that is a pair of buffers."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self, cast

from aiomilter._connection.served import ServedConnection
from aiomilter._connection.transport import MilterProtocol
from aiomilter.options import Options
from aiomilter.server import Factory, Server
from aiomilter.testing._failures import Failures

__all__ = ["MemoryServer"]


class MemoryServer:
    """Serves a filter to connections made by :meth:`connect`.

    Args:
        factory: As for :func:`aiomilter.serve`.
        options: Those of :func:`aiomilter.serve`.
        connection_factory: Makes the object of a connection.
    """

    def __init__(
        self,
        factory: Factory,
        options: Options,
        connection_factory: Callable[..., ServedConnection] = MilterProtocol,
    ) -> None:
        # The address is never listened on: start() builds the filter only.
        self._server: Server = Server(factory, ("inet:0@127.0.0.1",), options, connection_factory=connection_factory)
        self.failures: Failures = Failures()
        self._server.observer.add(self.failures)

    async def __aenter__(self) -> Self:
        """Build the filter."""
        await self._server.start(listen=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End every connection, callbacks included."""
        await self._server.close()

    def connect(self) -> tuple[asyncio.StreamReader, "MemoryWriter"]:
        """Return both directions of a new connection."""
        reader = asyncio.StreamReader()
        protocol = cast(MilterProtocol, self._server.accept())
        transport = _MemoryTransport(protocol, reader)
        transport.loop.call_soon(protocol.connection_made, transport)
        return reader, MemoryWriter(transport)


class _MemoryTransport(asyncio.Transport):
    """The filter's end; what it writes is in the reader at once, what it gets comes by the event loop."""

    def __init__(self, protocol: MilterProtocol, reader: asyncio.StreamReader) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.closed = self.loop.create_future()
        self._protocol = protocol
        self._reader = reader
        self._closing = False
        self._paused = False
        self._waiting: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing:
            self._reader.feed_data(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._reader.feed_eof()
            self.loop.call_soon(self._lost)

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self.loop.call_soon(self._deliver)

    def receive(self, data: bytes) -> None:
        """Take what the MTA writes."""
        self._waiting.append(data)
        self.loop.call_soon(self._deliver)

    def hang_up(self) -> None:
        """Handle that the MTA has closed."""
        self.loop.call_soon(self.close)

    def _deliver(self) -> None:
        if self._waiting and not self._paused and not self._closing:
            data = b"".join(self._waiting)
            self._waiting.clear()
            self._protocol.data_received(data)

    def _lost(self) -> None:
        self._protocol.connection_lost(None)
        if not self.closed.done():
            self.closed.set_result(None)


class MemoryWriter:
    """The MTA's end, for writing.

    Args:
        transport: The filter's end.
    """

    def __init__(self, transport: _MemoryTransport) -> None:
        self._transport = transport

    def write(self, data: bytes, /) -> None:
        """Send octets to the filter."""
        self._transport.receive(bytes(data))

    async def drain(self) -> None:
        """Return: nothing here is slow."""

    def close(self) -> None:
        """Hang up."""
        self._transport.hang_up()

    async def wait_closed(self) -> None:
        """Wait until the filter's end is closed."""
        await asyncio.shield(self._transport.closed)
