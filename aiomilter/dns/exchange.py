"""One query and its answer, over UDP or TCP; each has a socket, and so a port, of its own."""

import asyncio
from typing import Final, cast

from aiomilter.dns.message import belongs

__all__ = ["Server", "ask_tcp", "ask_udp"]

Server = tuple[str, int]
"""Address and port."""

# Datagrams with a wrong id or question: more than this means that ids are being guessed, and we ask over TCP.
_MAX_STRAY: Final = 16


async def ask_udp(server: Server, query: bytes, timeout: float) -> bytes | None:
    """Send a query and wait for the datagram that answers it; datagrams with another source, id or question are ignored.

    Args:
        server: Where to.
        query: The message.
        timeout: Seconds to wait.
    Returns:
        The answer; b"" when the ids of answers are being guessed, so that the question is better asked over TCP; None after
        silence.
    Raises:
        OSError: The server's port is closed, or the network is down.

    Source: RFC 5452 sections 4 and 9.
    """
    loop = asyncio.get_running_loop()
    exchange = _Exchange(query)
    try:
        await loop.create_datagram_endpoint(lambda: exchange, remote_addr=server)
        timer = loop.call_later(timeout, exchange.give_up)
        try:
            return await exchange.answer
        finally:
            timer.cancel()
    finally:
        exchange.close()


async def ask_tcp(server: Server, query: bytes, timeout: float) -> bytes | None:
    """Send a query over a connection and wait for the first message that comes back.

    Returns:
        The message, whatever it is; None after silence.
    Raises:
        OSError: There is no connection.
        EOFError: The server closed it before the end of a message.

    Source: RFC 7766 section 8.
    """
    try:
        async with asyncio.timeout(timeout) as deadline:
            reader, writer = await asyncio.open_connection(*server)
            try:
                writer.write(len(query).to_bytes(2) + query)
                return await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
            finally:
                writer.close()
    except TimeoutError:
        if deadline.expired():
            return None
        raise


class _Exchange(asyncio.DatagramProtocol):
    """One query over UDP: its answer is octets, empty octets to ask over TCP, or None for silence."""

    def __init__(self, query: bytes) -> None:
        self.answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._query = query
        self._stray = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is a DatagramTransport in all but name.
        self._transport = cast(asyncio.DatagramTransport, transport)
        if self.answer.done():
            # The caller was cancelled before there was a socket to close.
            self._transport.close()
            return
        self._transport.sendto(self._query)

    def datagram_received(self, data: bytes, address: object) -> None:
        if self.answer.done():
            return
        if belongs(data, self._query):
            self.answer.set_result(data)
            return
        self._stray += 1
        if self._stray >= _MAX_STRAY:
            self.answer.set_result(b"")

    def error_received(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def give_up(self) -> None:
        if not self.answer.done():
            self.answer.set_result(None)

    def close(self) -> None:
        self.answer.cancel()
        if self._transport is not None:
            self._transport.close()
