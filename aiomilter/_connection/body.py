"""Sending a new body that comes piece by piece from an async iterator."""

from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any

from aiomilter.exceptions import LocalProtocolError
from aiomilter.wire.constants import BODY_CHUNK_SIZE, ReplyCode
from aiomilter.wire.framing import packet

__all__ = ["close_source", "stream"]


async def stream(
    source: AsyncIterable[bytes],
    send: Callable[[bytes], Awaitable[None]],
    most: int,
    stopped: Callable[[], bool],
) -> bytes | None:
    """Send a body at the pace of the MTA, except its last piece; the source is closed in any case.

    Args:
        source: Brings pieces of any size, CRLF line ends.
        send: Sends a packet, and waits until the MTA has taken enough of it.
        most: Octets in all.
        stopped: Returns whether the answer may have left already, if the source ignored its cancellation.

    Returns:
        The packet of the last piece, which leaves together with the answer; None if it was stopped.

    Raises:
        LocalProtocolError: A piece is not octets, or there are too many.
    """
    pieces = aiter(source)
    pending = bytearray()
    size, sent = 0, False
    try:
        async for piece in pieces:
            if stopped():
                return None
            if not isinstance(piece, bytes | bytearray | memoryview):
                raise LocalProtocolError(f"body: expected pieces of bytes, found {type(piece).__name__}")
            size += len(piece)
            if size > most:
                raise LocalProtocolError(f"body: expected at most {most} octets, found more")
            pending += piece
            while len(pending) >= BODY_CHUNK_SIZE:
                octets = bytes(pending[:BODY_CHUNK_SIZE])
                del pending[:BODY_CHUNK_SIZE]
                sent = True
                await send(packet(ReplyCode.REPLBODY, octets))
    finally:
        await close_source(pieces)
    if stopped():
        return None
    return packet(ReplyCode.REPLBODY, bytes(pending)) if pending or not sent else b""


async def close_source(source: Any) -> None:
    """Close an async iterator, if it can be closed."""
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()
