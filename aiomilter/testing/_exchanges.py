"""A recorded session as exchanges: each packet of the MTA, with what the filter has sent for it."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from aiomilter.exceptions import RemoteProtocolError
from aiomilter.recording import CLOSED, FILTER, MTA, Packet, Recording, RecordingError
from aiomilter.wire.constants import Command, ReplyCode, Stage
from aiomilter.wire.negotiation import NegotiateAnswer

__all__ = ["BEFORE_ANSWER", "Exchange", "agreed_in", "exchanges_of"]

BEFORE_ANSWER: Final = frozenset(
    {
        *(ReplyCode.PROGRESS, ReplyCode.ADDHEADER, ReplyCode.INSHEADER, ReplyCode.CHGHEADER, ReplyCode.REPLBODY),
        *(ReplyCode.ADDRCPT, ReplyCode.ADDRCPT_PAR, ReplyCode.DELRCPT, ReplyCode.CHGFROM, ReplyCode.QUARANTINE),
    }
)
"""The packets of a filter that another follows."""
_STAGES: Final = {int(stage.command): stage for stage in Stage}


@dataclass(slots=True)
class Exchange:
    """A packet of the MTA, and what the filter has sent for it.

    Args:
        code: Of the packet; :data:`aiomilter.recording.CLOSED` if the MTA has closed the connection.
        payload: Of the packet.
        macros: Payloads of the MACRO packets right before it.
        answers: Code and payload of each packet of the filter.
        closed: Whether the filter has closed the connection instead of an answer.
    """

    code: int
    payload: bytes
    macros: tuple[bytes, ...] = ()
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    closed: bool = False

    @property
    def stage(self) -> Stage | None:
        """Which stage the packet brings; None if it brings none."""
        return _STAGES.get(self.code)

    @property
    def name(self) -> str:
        """What the stage or the packet is called."""
        if self.stage is not None:
            return self.stage.name
        if self.code == CLOSED:
            return "end"
        try:
            return Command(self.code).name
        except ValueError:
            return f"{self.code:#04x}"


def agreed_in(recording: Recording) -> NegotiateAnswer:
    """Return what MTA and filter agreed on.

    Raises:
        RecordingError: The recording does not say it.
    """
    for packet in recording.packets:
        if packet.sender == FILTER and packet.code == ReplyCode.OPTNEG:
            try:
                return NegotiateAnswer.decode(packet.payload)
            except RemoteProtocolError as error:
                raise RecordingError(f"{recording.name}: {error}") from None
    raise RecordingError(f"{recording.name}: MTA and filter have agreed on nothing, so there is nothing to replay")


def exchanges_of(recording: Recording) -> list[Exchange]:
    """Return the exchanges of a recording, in the order of the MTA's packets.

    Answers are assigned in their order, whatever the times are: each packet that takes an answer gets exactly one.
    """
    silent = {int(stage.command) for stage in Stage if agreed_in(recording).protocol & stage.nr_flag}
    found: list[Exchange] = []
    waiting: deque[Exchange] = deque()
    macros: list[bytes] = []
    for packet in recording.packets:
        if packet.sender == FILTER:
            _answer(packet, found, waiting)
        elif packet.sender == MTA and packet.code == Command.MACRO:
            macros.append(packet.payload)
        elif packet.sender == MTA:
            exchange = Exchange(packet.code, packet.payload, tuple(macros))
            macros.clear()
            found.append(exchange)
            if packet.code == Command.OPTNEG or (packet.code in _STAGES and packet.code not in silent):
                waiting.append(exchange)
    return found


def _answer(packet: Packet, found: list[Exchange], waiting: deque[Exchange]) -> None:
    if not found:
        return
    exchange = waiting[0] if waiting else found[-1]
    if packet.code == CLOSED:
        # Without an answer to wait for, the session was over, or the MTA was silent for too long.
        exchange.closed = bool(waiting)
        return
    exchange.answers.append((packet.code, packet.payload))
    if waiting and packet.code not in BEFORE_ANSWER:
        waiting.popleft()
