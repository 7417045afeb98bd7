"""The octets of both sides of a connection as packets."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from aiomilter.exceptions import RemoteProtocolError
from aiomilter.recording.format import CLOSED, FILTER, MAX_PAYLOAD_SIZE, MTA, Packet
from aiomilter.wire.framing import FrameBuffer

__all__ = ["Piece", "PieceReader"]


class Piece(NamedTuple):
    """Octets as they came or went.

    Args:
        time: Seconds from the beginning of the session.
        sender: :data:`aiomilter.recording.MTA` or :data:`aiomilter.recording.FILTER`.
        octets: Some of them; none for the end of the connection.
    """

    time: float
    sender: str
    octets: bytes


class PieceReader:
    """Reads packets from the octets of both sides."""

    def __init__(self) -> None:
        self._frames: dict[str, FrameBuffer | None] = {
            MTA: FrameBuffer(MAX_PAYLOAD_SIZE),
            FILTER: FrameBuffer(MAX_PAYLOAD_SIZE),
        }

    def packets(self, pieces: Iterable[Piece]) -> Iterator[Packet]:
        """Yield the packets that are whole after some more pieces; the time of each is that of its last octet.

        After octets that are not a packet, that side is not read any further.
        """
        for seconds, sender, octets in pieces:
            frames = self._frames[sender]
            if not octets:
                yield Packet(seconds, sender, CLOSED)
            elif frames is not None:
                try:
                    frames.feed(octets)
                    while (frame := frames.next_frame()) is not None:
                        yield Packet(seconds, sender, *frame)
                except RemoteProtocolError:
                    self._frames[sender] = None
