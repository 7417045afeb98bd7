"""Playing a recorded session to a filter, packet by packet."""

import asyncio
from collections.abc import Sequence
from typing import Final

from aiomilter.exceptions import MilterError, RemoteProtocolError
from aiomilter.mta import Answer, Style, Writer
from aiomilter.mta.answers import EndOfMessageReader, read_answer
from aiomilter.mta.link import Link
from aiomilter.recording import CLOSED
from aiomilter.testing._exchanges import Exchange
from aiomilter.testing._outcomes import MAX_ANSWER_SIZE, MessageState, Outcome, joined, rejected_by_mta
from aiomilter.wire.constants import SINCE_VERSION, Command, Protocol, ReplyCode, Stage
from aiomilter.wire.framing import packet
from aiomilter.wire.negotiation import NegotiateAnswer
from aiomilter.wire.replies import CONTINUE, PASSING, SKIP
from aiomilter.wire.state import ends_message

__all__ = ["Player"]

_BUFFER_SIZE: Final = 65536
_PAYLOAD_SIZE: Final = 1 << 20
# What belongs to the open message; an MTA sends none of it once the message is decided.
_OF_MESSAGE: Final = frozenset({Command.RCPT, Command.DATA, Command.HEADER, Command.EOH, Command.BODY, Command.BODYEOB})
_CONTENT: Final = _OF_MESSAGE - {Command.RCPT}
# Stages whose macros an MTA sends although the filter does not want the stage.
_MACROS_ALWAYS: Final = frozenset({Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.UNKNOWN})
_NOT_SENT: Final = Outcome(sent=False)


class Player:
    """Plays the packets of a recorded session, as far as an MTA would send them after what this filter answers.

    Where the filter answers as the recorded one did, each packet is sent as it was recorded.  Where it decides a message that
    went on, the rest of that message is left out, as is what the filter does not want to be sent.

    Args:
        reader: Octets from the filter.
        writer: Octets for the filter.
        style: The MTA to behave as.
        recorded: What was agreed on when the session was recorded.
        timeout: Seconds to wait for each packet.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: Writer, style: Style, recorded: NegotiateAnswer, timeout: float
    ) -> None:
        self.agreed: NegotiateAnswer | None = None
        self._link = Link(reader, writer, timeout=timeout, max_size=_PAYLOAD_SIZE, buffer_size=_BUFFER_SIZE)
        self._style: Style = style
        self._recorded = recorded
        self._message = MessageState(style, recorded, recorded)
        # Whether the open message, or the whole session, is over for this filter alone; and whether it skips the body.
        self._decided = False
        self._over = False
        self._skips = False
        # Recipients of the open message that the filter was asked about.
        self._named = 0

    async def play(self, exchanges: Sequence[Exchange], recorded: Sequence[Outcome]) -> list[Outcome]:
        """Play a session; return what each of its packets came to.

        Args:
            exchanges: The session.
            recorded: What its packets came to when it was recorded.
        """
        found: list[Outcome] = []
        try:
            for exchange, before in zip(exchanges, recorded, strict=True):
                outcome = _NOT_SENT if self._over else await self._play(exchange, before)
                self._over = self._over or bool(outcome.trouble)
                found.append(outcome)
        finally:
            await self._link.close()
        return found

    async def _play(self, exchange: Exchange, before: Outcome) -> Outcome:
        try:
            if exchange.code == Command.OPTNEG:
                return await self._negotiate(exchange)
            if not self._wanted(exchange):
                return _NOT_SENT
            outcome = await self._sent(exchange)
        except (MilterError, TimeoutError) as error:
            return Outcome(trouble=f"breaks off: {error}")
        if exchange.stage is not None and outcome.answer is not None:
            self._follow(exchange.stage, outcome.answer, before.answer)
        return outcome

    async def _negotiate(self, exchange: Exchange) -> Outcome:
        self._link.send(Command.OPTNEG, exchange.payload)
        code, payload = await self._link.receive("OPTNEG")
        if code != ReplyCode.OPTNEG:
            raise RemoteProtocolError(f"OPTNEG answer: expected an OPTNEG packet, found {code:#04x}")
        self.agreed = NegotiateAnswer.decode(payload)
        self._message = MessageState(self._style, self._recorded, self.agreed)
        return Outcome()

    def _wanted(self, exchange: Exchange) -> bool:
        """Return whether an MTA would send a packet after what this filter has answered; write its macros if so."""
        stage, agreed = exchange.stage, self.agreed
        if agreed is None:
            raise RemoteProtocolError(f"{exchange.name}: expected an offer before")
        if exchange.code in _OF_MESSAGE:
            if exchange.code in _CONTENT and self._refused_all:
                self._decided = True
            if self._decided:
                return False
        else:
            self._decided = False
        if exchange.code in (Command.EOH, Command.BODYEOB, Command.MAIL):
            self._skips = False
        if exchange.code == Command.BODY and self._skips:
            self._message.take(exchange, None)
            return False
        if stage is Stage.RCPT and rejected_by_mta(exchange) and not agreed.protocol & Protocol.REJECTED_RECIPIENTS:
            return False
        if stage is None:
            return True
        since = agreed.version >= SINCE_VERSION.get(stage, 0)
        declined = bool(agreed.protocol & stage.no_flag) or not since
        if not declined or (stage in _MACROS_ALWAYS and since):
            for macros in exchange.macros:
                self._link.write(packet(Command.MACRO, macros, _PAYLOAD_SIZE))
        if declined:
            self._message.take(exchange, None)
        return not declined

    @property
    def _refused_all(self) -> bool:
        """Whether the filter has refused every recipient that the MTA has taken."""
        return self._named > 0 and not self._message.recipients

    async def _sent(self, exchange: Exchange) -> Outcome:
        """Send a packet and return what it comes to."""
        stage, agreed = exchange.stage, self.agreed
        assert agreed is not None
        if exchange.code == CLOSED:
            await self._link.close()
            self._over = True
            return Outcome()
        self._link.write(packet(exchange.code, self._payload(exchange), _PAYLOAD_SIZE))
        if exchange.code == Command.MAIL:
            self._named = 0
        if stage is None or agreed.protocol & stage.nr_flag:
            self._message.take(exchange, None)
            await self._link.drain(exchange.name)
            return Outcome()
        if stage is Stage.EOM:
            return await self._end_of_message(exchange)
        answer = await self._answer(stage)
        self._message.take(exchange, answer)
        if stage is Stage.RCPT and not rejected_by_mta(exchange):
            self._named += 1
        return Outcome(answer)

    def _payload(self, exchange: Exchange) -> bytes:
        """Return the payload as this filter wants it: with the space after the colon, or without."""
        assert self.agreed is not None
        had, wants = (one.protocol & Protocol.LEADING_SPACE for one in (self._recorded, self.agreed))
        if exchange.code != Command.HEADER or had == wants:
            return exchange.payload
        name, nul, value = exchange.payload.partition(b"\0")
        return name + nul + (b" " + value if wants else value.removeprefix(b" "))

    async def _answer(self, stage: Stage) -> Answer:
        assert self.agreed is not None
        code, payload = await self._link.receive(stage.name)
        while code == ReplyCode.PROGRESS:
            code, payload = await self._link.receive(stage.name)
        return read_answer(stage, code, payload, self.agreed)

    async def _end_of_message(self, exchange: Exchange) -> Outcome:
        assert self.agreed is not None
        collected = EndOfMessageReader(self._style, self.agreed, lenient=True, max_size=MAX_ANSWER_SIZE)
        code, payload = await self._link.receive("EOM")
        while collected.take(code, payload):
            code, payload = await self._link.receive("EOM")
        answer = read_answer(Stage.EOM, code, payload, self.agreed)
        self._message.take(exchange, answer)
        modifications = collected.result(answer).modifications
        return Outcome(answer, joined(modifications), self._message.delivered(answer, modifications))

    def _follow(self, stage: Stage, answer: Answer, before: Answer | None) -> None:
        """Record what an answer means to the packets after it; where the recorded one was the same they say so themselves."""
        if stage is Stage.BODY and answer is SKIP:
            self._skips = True
        if answer == (before or CONTINUE):
            return
        if stage in (Stage.CONNECT, Stage.HELO):
            self._over = answer is not CONTINUE
        elif stage is Stage.RCPT and answer not in PASSING:
            return  # this recipient alone
        elif ends_message(stage, answer):
            self._decided = True
