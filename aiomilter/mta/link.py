"""The octets between an MTA and a filter: written as Postfix or as Sendmail writes them, read packet by packet.

Source: aiomilter/help/protocol.rst, "Packets".
"""

import asyncio
import contextlib
from typing import Final, Protocol

from aiomilter.exceptions import LocalProtocolError, RemoteProtocolError
from aiomilter.wire.constants import Command
from aiomilter.wire.framing import FrameBuffer, packet

__all__ = ["Link", "Writer"]

_READ_SIZE: Final = 65536


class Writer(Protocol):
    """Where a session writes; an :class:`asyncio.StreamWriter` is one."""

    def write(self, data: bytes, /) -> None:
        """Take octets."""

    async def drain(self) -> None:
        """Wait until more may be written."""

    def close(self) -> None:
        """Begin to close."""

    async def wait_closed(self) -> None:
        """Wait until closed."""


class Link:
    """A connection to a filter.

    Args:
        reader: Octets from the filter.
        writer: Octets for the filter.
        timeout: Seconds to wait for a packet, or for the filter to read.
        max_size: Most octets of payload in a packet of the filter.
        buffer_size: Octets that are collected before they are written without need; before waiting for an answer all
            is written.  1 writes each packet by itself.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: Writer, *, timeout: float, max_size: int, buffer_size: int
    ) -> None:
        self.closed: bool = False
        self._reader = reader
        self._writer = writer
        self._timeout = timeout
        self._frames = FrameBuffer(max_size)
        self._out = bytearray()
        self._buffer_size = buffer_size
        self._undrained = False

    def send(self, code: Command, payload: bytes = b"") -> None:
        """Write a packet.

        Raises:
            LocalProtocolError: It is too large, or the connection is closed.
        """
        self.write(packet(code, payload))

    def write(self, octets: bytes) -> None:
        """Collect octets, and write full buffers."""
        if self.closed:
            raise LocalProtocolError("session: expected an open connection, found it closed")
        out = self._out
        out += octets
        if len(out) >= self._buffer_size:
            full = len(out) - len(out) % self._buffer_size
            self._write(bytes(out[:full]))
            del out[:full]

    def _write(self, octets: bytes) -> None:
        self._undrained = True
        self._writer.write(octets)

    async def drain(self, stage: str) -> None:
        """Wait until the filter has read enough of the written octets; the collected ones stay."""
        if not self._undrained:
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self._writer.drain()
            self._undrained = False
        except TimeoutError:
            raise TimeoutError(f"{stage}: the filter has not read for {self._timeout:g} seconds") from None
        except OSError as error:
            raise RemoteProtocolError(f"{stage}: expected an open connection, found: {error}") from error

    async def flush(self, stage: str) -> None:
        """Write the collected octets."""
        self._write_out()
        await self.drain(stage)

    def _write_out(self) -> None:
        if self._out:
            self._write(bytes(self._out))
            self._out.clear()

    async def receive(self, stage: str) -> tuple[int, bytes]:
        """Return code and payload of the filter's next packet, after all that was collected is written.

        Raises:
            RemoteProtocolError: The packet cannot be, or the filter closed the connection.
            TimeoutError: None came in time.
        """
        frame = self._frames.next_frame()
        if frame is not None:
            return frame
        self._write_out()
        try:
            async with asyncio.timeout(self._timeout):
                await self._writer.drain()
                self._undrained = False
                while frame is None:
                    octets = await self._reader.read(_READ_SIZE)
                    if not octets:
                        raise RemoteProtocolError(f"{stage}: expected an answer, found the connection closed")
                    self._frames.feed(octets)
                    frame = self._frames.next_frame()
        except TimeoutError:
            raise TimeoutError(f"{stage}: no answer within {self._timeout:g} seconds") from None
        except OSError as error:
            raise RemoteProtocolError(f"{stage}: expected an answer, found: {error}") from error
        return frame

    def expect_silence(self, stage: str) -> None:
        """Check, before a stage, that nothing came that was not asked for (P-147).

        Octets that are here already are taken without waiting: ``read`` is started by hand, and given up where it would
        wait for more.
        """
        read = self._reader.read(_READ_SIZE)
        try:
            read.send(None)
        except StopIteration as found:
            if found.value:
                self._frames.feed(found.value)
        except OSError as error:
            raise RemoteProtocolError(f"before {stage}: expected an open connection, found: {error}") from error
        else:
            read.close()
        if self._frames:
            raise RemoteProtocolError(f"before {stage}: expected nothing, found octets from the filter")

    def expect_nothing_more(self, stage: str) -> None:
        """Check, after an answer, that it came alone (P-147)."""
        if self._frames:
            raise RemoteProtocolError(f"{stage}: expected one answer, found more octets after it")

    async def close(self) -> None:
        """Close; collected octets are lost."""
        if self.closed:
            return
        self.closed = True
        self._out.clear()
        self._writer.close()
        with contextlib.suppress(OSError):
            async with asyncio.timeout(self._timeout):
                await self._writer.wait_closed()
