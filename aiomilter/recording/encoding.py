"""A session as the octets of a file, made part by part."""

import zlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from aiomilter.recording.capture import Piece, PieceReader
from aiomilter.recording.format import FILTER, MTA, Head, Packet, head_line, head_of, packet_line
from aiomilter.recording.redaction import Redaction
from aiomilter.recording.session import SessionRedactor
from aiomilter.wire.constants import STAGE_OF_COMMAND, ReplyCode

__all__ = ["Encoder"]

_GZIP: Final = 31
"""The ``wbits`` of gzip."""
_LEVEL: Final = 6
_REFUSALS: Final = frozenset({ReplyCode.REJECT, ReplyCode.TEMPFAIL, ReplyCode.REPLYCODE})


class Encoder:
    """Makes the gzipped lines of a session.

    Args:
        head: What is known of the session at its beginning.
        redaction: Makes tokens of what the content may not have in it.
    """

    def __init__(self, head: Head, redaction: Redaction) -> None:
        self.size: int = 0
        """Octets made so far."""
        self.refused: bool = False
        """Whether the filter has refused anything."""
        self.whole: bool = False
        """Whether the MTA has come to any stage; a connection that was only tried has none."""
        self._head: Head | None = head
        self._redactor = SessionRedactor(redaction, head.content)
        self._reader = PieceReader()
        self._gzip = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self._made: list[bytes] = []

    def add(self, pieces: Iterable[Piece]) -> None:
        """Add octets of the session; the first ones have to hold the agreement and the first macros."""
        packets = list(self._reader.packets(pieces))
        if self._head is not None:
            head = head_of(packets, self._head)
            self._put(head_line(replace(head, mta=self._redactor.mta(head.mta))))
            self._head = None
        for packet in packets:
            self.refused = self.refused or (packet.sender == FILTER and packet.code in _REFUSALS)
            self.whole = self.whole or (packet.sender == MTA and packet.code in STAGE_OF_COMMAND)
            self._lines(self._redactor.redacted(packet))

    def _lines(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            self._put(packet_line(packet))

    def _put(self, line: bytes) -> None:
        if octets := self._gzip.compress(line):
            self._made.append(octets)
            self.size += len(octets)

    def finish(self) -> bytes:
        """Return all of the file."""
        self._lines(self._redactor.rest())
        return b"".join([*self._made, self._gzip.flush()])
