"""Send a message to a scanner and read its answer at the same time.

Scanners answer before they have read all: clamd does so if a message is over its limit, and closes the connection.  Whoever
writes on gets an error then, and on an asyncio stream that error throws away what was received and not read.  So sockets are
used as they are: the answer can be read whatever became of the writing.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aiomilter.addresses import Inet, Unix
from aiomilter.scan._trouble import Unavailable

__all__ = ["MAX_ANSWER", "Answer", "Request", "connect", "exchange"]

R = TypeVar("R")

MAX_ANSWER: Final = 65_536
"""Octets of an answer."""
_PIECE: Final = 65_536
"""Octets that are sent before the loop gets its turn."""
_QUEUE_FULL: Final = 0.05
"""Seconds until a listener may have taken a connection from its queue."""


@dataclass(frozen=True, slots=True)
class Request:
    """How a message is wrapped.

    Args:
        opening: Octets before it.
        frame: Makes what is sent of each piece.
        closing: Octets after it.
        half_close: Whether the end is also shown by closing our direction.
    """

    opening: bytes
    frame: Callable[[bytes], bytes] = bytes
    closing: bytes = b""
    half_close: bool = False


class Answer:
    """What a scanner answers, as it comes.

    Each method raises :class:`Unavailable` if the connection ends too early, or the answer has too many octets.

    Args:
        sock: The connection, not blocking.
        most: Octets in all.
    """

    def __init__(self, sock: socket.socket, most: int = MAX_ANSWER) -> None:
        self._sock = sock
        self._most = most
        self._received = 0
        self._buffer = bytearray()

    async def _receive(self) -> bool:
        """Wait for more octets, and return whether there are any."""
        if self._received:
            await asyncio.sleep(0)  # a server that never stops is not to have the loop for itself
        try:
            octets = await asyncio.get_running_loop().sock_recv(self._sock, _PIECE)
        except OSError as error:
            raise Unavailable(_text(error)) from None
        self._received += len(octets)
        if self._received > self._most:
            raise Unavailable(f"answered more than {self._most:,} octets")
        self._buffer += octets
        return bool(octets)

    async def _need(self) -> None:
        if not await self._receive():
            raise Unavailable("closed the connection before its answer was complete")

    async def until(self, end: bytes) -> bytes:
        """Return all octets up to these, which are read, too."""
        start = 0
        while (at := self._buffer.find(end, start)) < 0:
            start = max(0, len(self._buffer) - len(end) + 1)
            await self._need()
        return self._take(at, len(end))

    async def exactly(self, size: int) -> bytes:
        """Return so many octets."""
        if size > self._most:
            raise Unavailable(f"answered more than {self._most:,} octets")
        while len(self._buffer) < size:
            await self._need()
        return self._take(size, 0)

    async def rest(self) -> bytes:
        """Return all octets up to the end of the connection."""
        while await self._receive():
            pass
        return self._take(len(self._buffer), 0)

    def _take(self, size: int, more: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[: size + more]
        return taken


async def connect(where: Inet | Unix, timeout: float) -> socket.socket:
    """Return a connection, not blocking.

    Raises:
        Unavailable: There is none.
    """
    try:
        sock = socket.socket(socket.AF_UNIX if isinstance(where, Unix) else where.family, socket.SOCK_STREAM)
    except OSError as error:
        raise Unavailable(_text(error)) from None
    try:
        sock.setblocking(False)
        async with asyncio.timeout(timeout) as deadline:
            if isinstance(where, Unix):
                await _connect_to_path(sock, where.path)
            else:
                loopback = "::1" if where.family == socket.AF_INET6 else "127.0.0.1"
                await asyncio.get_running_loop().sock_connect(sock, (where.host or loopback, where.port))
    except OSError as error:
        sock.close()
        raise Unavailable(f"no connection in {timeout:g} s" if deadline.expired() else _text(error)) from None
    except UnicodeError:
        sock.close()
        raise Unavailable("expected the name of a host") from None
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect_to_path(sock: socket.socket, path: str) -> None:
    # That never waits: where the queue of the listener is full it fails, and asyncio takes the socket for connected.
    while True:
        try:
            return sock.connect(path)
        except BlockingIOError:
            await asyncio.sleep(_QUEUE_FULL)


async def exchange(
    sock: socket.socket,
    request: Request,
    pieces: AsyncIterator[bytes],
    parse: Callable[[Answer], Coroutine[Any, Any, R]],
    most: int,
) -> R:
    """Send a message, and return what ``parse`` makes of the answer.

    Args:
        sock: The connection; the caller closes it.
        request: How the message is wrapped.
        pieces: The message.
        parse: Reads the answer.
        most: Octets of the answer.

    Raises:
        Trouble: There is no verdict; what ``pieces`` raises passes, too.
    """
    reading = asyncio.get_running_loop().create_task(parse(Answer(sock, most)))
    try:
        whole = await _send_all(sock, request, pieces, reading)
        if whole and request.half_close and not reading.done():
            with contextlib.suppress(OSError):  # it has closed the connection: its answer says more
                sock.shutdown(socket.SHUT_WR)
        result = await reading
        if not whole:
            raise Unavailable("answered before it had the whole message")
        return result
    finally:
        await _end(reading)


async def _send_all(
    sock: socket.socket, request: Request, pieces: AsyncIterator[bytes], reading: asyncio.Task[Any]
) -> bool:
    """Return whether all was sent; nothing more is once there is an answer, or the connection has ended."""
    if not await _send(sock, request.opening, reading):
        return False
    async for piece in pieces:
        for start in range(0, len(piece), _PIECE):
            if not await _send(sock, request.frame(piece[start : start + _PIECE]), reading):
                return False
    return not request.closing or await _send(sock, request.closing, reading)


async def _send(sock: socket.socket, octets: bytes, reading: asyncio.Task[Any]) -> bool:
    if reading.done():
        return False
    loop = asyncio.get_running_loop()
    sending = loop.create_task(loop.sock_sendall(sock, octets))
    try:
        await asyncio.wait((sending, reading), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _end(sending)
    return not sending.cancelled() and sending.exception() is None


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancel a task unless it has ended, and have its exception count as seen."""
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()


def _text(error: OSError) -> str:
    # asyncio's own words for a connection that is refused name the address, which the problem has anyway.
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
