"""Socketmaps: tables that an MTA looks up over a socket, as netstrings.

Postfix asks them as ``socketmap:inet:127.0.0.1:10003:forward``, Sendmail by the map class ``socket``.

Source: socketmap_table(5); Sendmail's cf/README, "socket map"; aiomilter/help/srs.rst.
"""

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

__all__ = ["Lookup", "Socketmap"]

Lookup: TypeAlias = Callable[[str], str | None]
"""Returns what a table has for a key; None if nothing."""

_MAX_REQUEST: Final = 4096
"""Octets of a table's name and a key; an address has 254."""
_MAX_REPLY: Final = 4096
_BURST: Final = 100
"""Requests that are answered without delay after a pause."""
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
_DIGITS: Final = re.compile(rb"0|[1-9][0-9]{0,4}")


class _Malformed(Exception):
    """The octets are not a netstring, or a larger one than we take."""


class Socketmap:
    """Serves tables to an MTA: ``await asyncio.start_server(Socketmap(maps).serve, "127.0.0.1", 10003)``.

    One connection may ask as often as it likes.  A client that breaks the rules is hung up on, which MTAs take for a temporary
    failure.

    Args:
        maps: The tables by their names.  An exception of one ends the connection it was asked over.
        max_connections: More than so many are closed at once.
        max_rate: Requests a second, of all connections; more are answered later, not refused.
        idle_timeout: Seconds between two requests of a connection.
        request_timeout: Seconds that a request may take to arrive, or its answer to be read.

    Raises:
        ValueError: An argument is not above 0.
    """

    def __init__(
        self,
        maps: Mapping[str, Lookup],
        *,
        max_connections: int = 100,
        max_rate: float = 1000.0,
        idle_timeout: float = 300.0,
        request_timeout: float = 10.0,
    ) -> None:
        if not min(max_connections, max_rate, idle_timeout, request_timeout) > 0:
            raise ValueError("expected numbers above 0")
        self._maps = {name.encode("utf-8", "surrogateescape"): lookup for name, lookup in maps.items()}
        self._max_connections = max_connections
        self._interval = 1 / max_rate
        self._idle_timeout = idle_timeout
        self._request_timeout = request_timeout
        self._open: set[asyncio.Task[None]] = set()
        self._due = 0.0

    async def listen(self, sock: socket.socket) -> asyncio.Server:
        """Serve on a socket that is bound, TCP or UNIX-domain; closing the server leaves open connections to :meth:`close`."""
        start = asyncio.start_unix_server if sock.family == socket.AF_UNIX else asyncio.start_server
        return await start(self.serve, sock=sock, limit=2 * _MAX_REQUEST)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until it ends."""
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= self._max_connections:
            writer.close()
            return
        self._open.add(task)
        try:
            with contextlib.suppress(TimeoutError, OSError, EOFError, _Malformed):
                while await self._answer_one(reader, writer):
                    pass
            # The last answers may still be read, but nobody keeps a connection open by not reading them.
            writer.close()
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(self._request_timeout):
                    await writer.wait_closed()
        except asyncio.CancelledError:
            # By close() it is no error; asyncio's streams log one for a task that ends cancelled.
            if task in self._open:
                raise
        finally:
            self._open.discard(task)
            writer.transport.abort()

    async def close(self) -> None:
        """End all connections."""
        ended, self._open = self._open, set()
        for task in ended:
            task.cancel()
        if ended:
            await asyncio.wait(ended)

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer a request; return False if there is none any more."""
        async with asyncio.timeout(self._idle_timeout):
            first = await reader.read(1)
        if not first:
            return False
        async with asyncio.timeout(self._request_timeout):
            request = await _netstring(first, reader)
        await self._turn()
        reply = self._reply(request)
        writer.write(b"%d:%b," % (len(reply), reply))
        async with asyncio.timeout(self._request_timeout):
            await writer.drain()
        return True

    async def _turn(self) -> None:
        """Wait for the turn of a request: requests that come faster than the rate are spread out, and others get theirs."""
        now = asyncio.get_running_loop().time()
        self._due = max(self._due, now - _BURST * self._interval) + self._interval
        await asyncio.sleep(max(0.0, self._due - now))

    def _reply(self, request: bytes) -> bytes:
        name, blank, key = request.partition(b" ")
        lookup = self._maps.get(name)
        if not blank or lookup is None:
            return b"PERM no such map"
        if _CONTROL.search(key):
            return b"NOTFOUND "
        found = lookup(key.decode("utf-8", "surrogateescape"))
        if found is None:
            return b"NOTFOUND "
        value = found.encode("utf-8", "surrogateescape")
        if len(value) > _MAX_REPLY or _CONTROL.search(value):
            return b"PERM what the map has for it cannot be sent"
        return b"OK " + value


async def _netstring(first: bytes, reader: asyncio.StreamReader) -> bytes:
    """Return the octets of a netstring whose first octet has been read; nothing is kept of one that is too long."""
    digits = first
    while (octet := await reader.readexactly(1)) != b":":
        digits += octet
        if len(digits) > 5:
            raise _Malformed
    if not _DIGITS.fullmatch(digits) or int(digits) > _MAX_REQUEST:
        raise _Malformed
    octets = await reader.readexactly(int(digits) + 1)
    if octets[-1:] != b",":
        raise _Malformed
    return octets[:-1]
