"""Packets in recorded octets, and what the first of them tell of an SMTP client."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from aiomilter.wire.framing import HEAD

__all__ = ["Frame", "Head", "frames"]

_OF_CONNECTION: Final = frozenset(b"OCHDUAK")
"""Packets that may come before those of a message."""
_MACRO: Final = ord("D")
_OF_MESSAGE: Final = re.compile(rb"(?:\x00{3}\x01A)*.{4}(?:D[^OCH]|[^OCHDUAK])", re.DOTALL)
"""How octets begin that do not tell of the client: as those of nearly all messages, behind the ABORT after the last one."""
_KEPT: Final = frozenset(b"OCH")
_NOTHING: Final[Mapping[int, bytes]] = MappingProxyType({})
_MOST_FRAMES: Final = 64
"""Packets that are looked at: an MTA sends six before the first message."""
_LONGEST: Final = 4096
"""Octets of a packet that is kept."""


class Frame(NamedTuple):
    """A packet.

    Args:
        time: When its last octet came or left.
        code: Its code.
        payload: What follows it.
    """

    time: float
    code: int
    payload: bytes


def frames(entries: Iterable[tuple[float, int, Any]], kind: int) -> Iterator[Frame]:
    """Yield the packets of one direction; octets of an unfinished one are left out.

    Args:
        entries: As they were recorded.
        kind: The direction.
    """
    buffer = bytearray()
    for when, direction, octets in entries:
        if direction != kind:
            continue
        buffer += octets
        position = 0
        while len(buffer) - position >= HEAD.size:
            length, code = HEAD.unpack_from(buffer, position)
            if length < 1 or len(buffer) - position < 4 + length:
                break
            yield Frame(when, code, bytes(buffer[position + HEAD.size : position + 4 + length]))
            position += 4 + length
        del buffer[:position]


class Head:
    """What an MTA tells of a client before the messages: the last packet of each kind, with the macros of its stage.

    Args:
        packets: By code, those of negotiation, CONNECT and HELO.
        macros: By the code of the stage.
    """

    __slots__ = ("macros", "packets")

    def __init__(self, packets: Mapping[int, bytes] = _NOTHING, macros: Mapping[int, bytes] = _NOTHING) -> None:
        self.packets: Mapping[int, bytes] = packets
        self.macros: Mapping[int, bytes] = macros

    def after(self, entries: Sequence[tuple[float, int, Any]]) -> "Head":
        """Return what is known once the packets before those of a message have come; itself if there were none."""
        if not entries or (entries[0][1] == 0 and _OF_MESSAGE.match(entries[0][2])):
            return self
        packets, macros = {}, {}
        for number, (_, code, payload) in enumerate(frames(entries, 0)):
            if code not in _OF_CONNECTION or number >= _MOST_FRAMES:
                break
            if len(payload) > _LONGEST:
                continue
            if code == _MACRO and payload and payload[0] in _KEPT:
                macros[payload[0]] = payload[1:]
            elif code in _KEPT:
                packets[code] = payload
        return Head({**self.packets, **packets}, {**self.macros, **macros}) if packets or macros else self
