"""A filter in memory, for sessions to be played to, and the captured conversations."""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiomilter.mta import Session
from aiomilter.wire.constants import ReplyCode
from aiomilter.wire.framing import FrameBuffer, packet
from aiomilter.wire.negotiation import NegotiateAnswer

CAPTURES = Path(__file__).parent.parent / "captures"

Frame = tuple[str, bytes]
"""Code and payload."""
CONTINUE_PACKET = packet(ReplyCode.CONTINUE)
ANSWERED = frozenset("CHMRTLNBEU")


class MemoryFilter:
    """The writer of a session, and behind it a filter that answers at once.

    Args:
        answer: Octets to send for a packet; None to send nothing.
    """

    def __init__(self, answer: Callable[[str, bytes], bytes | None]) -> None:
        self.answer = answer
        self.reader = asyncio.StreamReader()
        self.frames = FrameBuffer()
        self.received: list[Frame] = []
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self.frames.feed(data)
        while (frame := self.frames.next_frame()) is not None:
            code, payload = chr(frame[0]), frame[1]
            self.received.append((code, payload))
            octets = self.answer(code, payload)
            if octets:
                self.reader.feed_data(octets)

    async def drain(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    async def wait_closed(self) -> None:
        pass

    @property
    def codes(self) -> str:
        """What came, macros left out, as one letter a packet."""
        return "".join(code for code, _ in self.received if code != "D")

    @property
    def codes_with_macros(self) -> str:
        """What came, macros as the small letter of their stage."""
        return "".join(chr(payload[0]).lower() if code == "D" else code for code, payload in self.received)


def negotiated(version: int = 6, actions: int = 0x1FF, protocol: int = 0, **more: Any) -> bytes:
    """The packet that answers the offer."""
    return packet(ReplyCode.OPTNEG, NegotiateAnswer(version, actions, protocol, **more).payload)


def answers(
    by_code: Mapping[str, bytes | list[bytes]] | None = None, *, opening: bytes = b"", silent: str = ""
) -> Callable[[str, bytes], bytes | None]:
    """A filter's behaviour: octets by packet, a list to be used up one by one, CONTINUE for the rest.

    Args:
        by_code: What to send for a packet.
        opening: The answer to the offer.
        silent: Codes that get no answer.
    """
    given = dict(by_code or {})

    def answer(code: str, payload: bytes) -> bytes | None:
        if code == "O":
            return opening or negotiated()
        if code not in ANSWERED or code in silent:
            return None
        octets = given.get(code, CONTINUE_PACKET)
        if isinstance(octets, list):
            return octets.pop(0) if octets else CONTINUE_PACKET
        return octets

    return answer


async def opened(
    answer: Callable[[str, bytes], bytes | None], *, envelope: bool = False, **options: Any
) -> tuple[Session, MemoryFilter]:
    """A session to a filter in memory, negotiated; with ``envelope`` up to the recipient."""
    memory = MemoryFilter(answer)
    session = Session(memory.reader, memory, **options)
    await session.negotiate()
    if envelope:
        await session.connect()
        await session.helo()
        await session.mail("<alice@example.org>")
        await session.rcpt("<bob@example.org>")
    return session, memory


@dataclass
class Exchange:
    """A packet of the MTA, and what the filter sent for it."""

    code: str
    payload: bytes
    answers: list[bytes] = field(default_factory=list)


@dataclass
class Capture:
    """One connection of a captured file."""

    name: str
    exchanges: list[Exchange]

    @property
    def style(self) -> str:
        return "postfix" if self.name.startswith("postfix") else "sendmail"


_LINE = re.compile(r"(c[0-9]+) ([MF]) b[0-9]+ ([0-9a-f]+)(\.\.\.)?")


def captures(files: Iterable[Path]) -> list[Capture]:
    """Return every connection in some captured files; packets that were not printed whole are left out."""
    found: dict[str, Capture] = {}
    for file in files:
        for line in file.read_text("utf-8").splitlines():
            match = _LINE.match(line)
            if match is None or match[4]:
                continue
            name = f"{file.stem}-{match[1]}"
            exchanges = found.setdefault(name, Capture(name, [])).exchanges
            octets = bytes.fromhex(match[3])
            if match[2] == "M":
                exchanges.append(Exchange(chr(octets[4]), octets[5:]))
            elif exchanges:
                exchanges[-1].answers.append(octets)
    return list(found.values())


ALL_CAPTURES = captures(sorted(CAPTURES.glob("*.txt")))
MTA_CAPTURES = [capture for capture in ALL_CAPTURES if capture.name.startswith(("postfix", "sendmail"))]
