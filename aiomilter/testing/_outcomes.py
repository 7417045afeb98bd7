"""What each packet of a recorded session came to: the filter's answer, its edits, and the message as it was delivered."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiomilter.exceptions import RemoteProtocolError
from aiomilter.mta import Answer, Content, Delivered, Field, Style, deliver
from aiomilter.mta.answers import EndOfMessageReader, read_answer
from aiomilter.testing._exchanges import BEFORE_ANSWER, Exchange
from aiomilter.wire.constants import Command, Protocol, Stage
from aiomilter.wire.events import Header, Mail, Rcpt
from aiomilter.wire.macros import Macros
from aiomilter.wire.modifications import Modification, ReplaceBody
from aiomilter.wire.negotiation import NegotiateAnswer, canonical_macro
from aiomilter.wire.replies import ACCEPT, CONTINUE, PASSING
from aiomilter.wire.text import encode

__all__ = ["MAX_ANSWER_SIZE", "MessageState", "Outcome", "recorded_outcomes", "rejected_by_mta"]

MAX_ANSWER_SIZE: Final = 256 << 20
"""Octets of all packets of one answer."""
_FORGET: Final = frozenset({Command.ABORT, Command.HELO, Command.CONNECT, Command.QUIT_NC, Command.MAIL})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one packet of the MTA came to.

    Args:
        answer: The filter's; None if the packet takes none, or was not sent.
        modifications: What it asked for at end of message; pieces of a new body as one.
        delivered: The message as the MTA passes it on; None if it does not, or at another stage.
        trouble: A sentence on how the filter broke off; "" if it did not.
        sent: Whether the filter has seen the packet.
    """

    answer: Answer | None = None
    modifications: tuple[Modification, ...] = ()
    delivered: Delivered | None = None
    trouble: str = ""
    sent: bool = True


class MessageState:
    """The message so far, as an MTA has it.

    Args:
        style: Whose rules its delivery follows.
        recorded: What was agreed on with the recorded filter, which the packets are as.
        agreed: What was agreed on with the filter that edits.
    """

    def __init__(self, style: Style, recorded: NegotiateAnswer, agreed: NegotiateAnswer) -> None:
        self._style = style
        self._fields_have_space = bool(recorded.protocol & Protocol.LEADING_SPACE)
        self._edits_have_space = bool(agreed.protocol & Protocol.LEADING_SPACE)
        self.recipients: list[Rcpt] = []
        self._begin()

    def _begin(self) -> None:
        self._sender = Mail("<>")
        self.recipients.clear()
        self._fields: list[Field] = []
        self._body: list[bytes] = []
        self._separated = False

    def take(self, exchange: Exchange, answer: Answer | None) -> None:
        """Take a packet that was sent, and what was answered to it.

        Raises:
            RemoteProtocolError: Its payload is not one.
        """
        payload = exchange.payload
        if exchange.code in _FORGET:
            self._begin()
        if exchange.code == Command.MAIL:
            self._sender = Mail.decode(payload)
        elif exchange.code == Command.RCPT:
            if (answer is None or answer in PASSING) and not rejected_by_mta(exchange):
                self.recipients.append(Rcpt.decode(payload))
        elif exchange.code == Command.HEADER:
            self._fields.append(_field(payload, leading_space=self._fields_have_space))
        elif exchange.code == Command.EOH:
            self._separated = True
        elif exchange.code in (Command.BODY, Command.BODYEOB) and payload:
            self._body.append(payload)

    def delivered(self, answer: Answer | None, modifications: Sequence[Modification]) -> Delivered | None:
        """Return the message as it is passed on after the answer at its end, and forget it."""
        content = Content(tuple(self._fields), b"".join(self._body), self._separated)
        sender, recipients = self._sender, tuple(self.recipients)
        self._begin()
        if answer not in (CONTINUE, ACCEPT):
            return None
        return deliver(self._style, sender, recipients, content, modifications, leading_space=self._edits_have_space)


def _field(payload: bytes, *, leading_space: bool) -> Field:
    header = Header.decode_leading(payload) if leading_space else Header.decode(payload)
    name, value, separator = header
    raw = encode(f"{name}:{separator}{value}".replace("\n", "\r\n")) + b"\r\n"
    return Field(header, raw)


def rejected_by_mta(exchange: Exchange) -> bool:
    """Return whether a recipient is one that the MTA itself refuses (P-148)."""
    for payload in exchange.macros:
        if payload[:1] == b"R":
            values = Macros.decode(payload).values.items()
            return any(canonical_macro(name) == "rcpt_mailer" and value == "error" for name, value in values)
    return False


def recorded_outcomes(exchanges: Sequence[Exchange], style: Style, agreed: NegotiateAnswer) -> list[Outcome]:
    """Return what each packet of a recording came to."""
    message = MessageState(style, agreed, agreed)
    return [_recorded(exchange, style, agreed, message) for exchange in exchanges]


def _recorded(exchange: Exchange, style: Style, agreed: NegotiateAnswer, message: MessageState) -> Outcome:
    trouble = "closes the connection" if exchange.closed else ""
    stage = exchange.stage
    try:
        if stage is None:
            message.take(exchange, None)
            return Outcome(trouble=trouble)
        answer, modifications = _answer(exchange, stage, style, agreed)
        message.take(exchange, answer)
    except RemoteProtocolError as error:
        return Outcome(trouble=f"breaks the protocol: {error}")
    delivered = message.delivered(answer, modifications) if stage is Stage.EOM and answer is not None else None
    return Outcome(answer, joined(modifications), delivered, trouble)


def _answer(
    exchange: Exchange, stage: Stage, style: Style, agreed: NegotiateAnswer
) -> tuple[Answer | None, tuple[Modification, ...]]:
    if not exchange.answers:
        return None, ()
    reader = EndOfMessageReader(style, agreed, lenient=True, max_size=MAX_ANSWER_SIZE)
    for code, payload in exchange.answers:
        if stage is Stage.EOM and reader.take(code, payload):
            continue
        if code in BEFORE_ANSWER:
            continue  # PROGRESS
        answer = read_answer(stage, code, payload, agreed)
        return answer, reader.result(answer).modifications
    return None, ()


def joined(modifications: Sequence[Modification]) -> tuple[Modification, ...]:
    """Return modifications with the pieces of a new body as one: how it is cut means nothing."""
    found: list[Modification] = []
    pieces: list[bytes] = []
    for change in modifications:
        if isinstance(change, ReplaceBody):
            if not pieces:
                found.append(change)
            pieces.append(change.chunk)
        else:
            found.append(change)
    if not pieces:
        return tuple(found)
    whole = ReplaceBody(b"".join(pieces))
    return tuple(whole if isinstance(change, ReplaceBody) else change for change in found)
