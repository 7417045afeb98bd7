"""Reading a filter's packets: its answer at a stage, and its modifications at end of message.

Source: aiomilter/help/protocol.rst, "Answers", "Modifications", P-143 to P-146.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from aiomilter.exceptions import RemoteProtocolError
from aiomilter.mta.content import Style
from aiomilter.mta.results import Answer, EndOfMessageResult
from aiomilter.wire.constants import Action, Protocol, ReplyCode, Stage
from aiomilter.wire.modifications import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    InsertHeader,
    Modification,
    Quarantine,
    ReplaceBody,
)
from aiomilter.wire.negotiation import NegotiateAnswer
from aiomilter.wire.replies import Reply, Verdict
from aiomilter.wire.state import ANSWERS

__all__ = ["EndOfMessageReader", "code_name", "expect_no_payload", "read_answer"]

_MODIFICATION_COST: Final = 6144
"""Octets that each modification but a piece of the body counts beside its own, so that small ones fill no memory or time."""
_PIECE_COST: Final = 256

_NEEDS: Final[Mapping[int, Action]] = MappingProxyType(
    {
        ReplyCode.ADDHEADER: Action.ADD_HEADERS,
        ReplyCode.INSHEADER: Action.ADD_HEADERS,
        ReplyCode.CHGHEADER: Action.CHANGE_HEADERS,
        ReplyCode.REPLBODY: Action.REPLACE_BODY,
        ReplyCode.ADDRCPT: Action.ADD_RECIPIENTS,
        ReplyCode.ADDRCPT_PAR: Action.ADD_RECIPIENTS_WITH_PARAMS,
        ReplyCode.DELRCPT: Action.DELETE_RECIPIENTS,
        ReplyCode.CHGFROM: Action.CHANGE_SENDER,
        ReplyCode.QUARANTINE: Action.QUARANTINE,
    }
)
_DECODE: Final[Mapping[int, Callable[[bytes], Modification]]] = MappingProxyType(
    {
        ReplyCode.ADDHEADER: AddHeader.decode,
        ReplyCode.INSHEADER: InsertHeader.decode,
        ReplyCode.CHGHEADER: ChangeHeader.decode,
        ReplyCode.REPLBODY: ReplaceBody.decode,
        ReplyCode.ADDRCPT: AddRecipient.decode,
        ReplyCode.ADDRCPT_PAR: AddRecipient.decode_par,
        ReplyCode.DELRCPT: DeleteRecipient.decode,
        ReplyCode.CHGFROM: ChangeSender.decode,
        ReplyCode.QUARANTINE: Quarantine.decode,
    }
)
_VERDICTS: Final = {int(verdict.value): verdict for verdict in Verdict}


def read_answer(stage: Stage, code: int, payload: bytes, agreed: NegotiateAnswer) -> Answer:
    """Return what a packet answers at a stage.

    Raises:
        RemoteProtocolError: It is not an answer of this stage, or has a payload that it may not have.
    """
    if code not in ANSWERS[stage] or (code == ReplyCode.SKIP and not agreed.protocol & Protocol.SKIP):
        raise RemoteProtocolError(f"{stage.name} answer: expected a verdict of this stage, found {code_name(code)}")
    if code == ReplyCode.REPLYCODE:
        return Reply.decode(payload)
    expect_no_payload(code, payload)
    return _VERDICTS[code]


class EndOfMessageReader:
    """Collects the packets that come before the answer at end of message.

    Args:
        style: Which MTA reads them.
        agreed: What the filter may ask for.
        lenient: Let pass what was not agreed on, as both MTAs do, except REPLBODY in Sendmail.
        max_size: Octets of all these packets together.
    """

    def __init__(self, style: Style, agreed: NegotiateAnswer, *, lenient: bool, max_size: int) -> None:
        self._style = style
        self._agreed = agreed
        self._lenient = lenient
        self._max_size = max_size
        self._modifications: list[Modification] = []
        self._progress = 0
        self._size = 0
        # Whether a piece of a new body has come, and something else after it.
        self._replaced = False
        self._apart = False

    def take(self, code: int, payload: bytes) -> bool:
        """Take a packet, and return whether it is one of these; else it is the answer.

        Raises:
            RemoteProtocolError: It breaks a rule.
        """
        if code != ReplyCode.PROGRESS and code not in _DECODE:
            return False
        self._apart = self._replaced and (self._apart or code != ReplyCode.REPLBODY)
        if code == ReplyCode.PROGRESS:
            expect_no_payload(code, payload)
            self._progress += 1
            return True
        self._size += len(payload) + (_PIECE_COST if code == ReplyCode.REPLBODY else _MODIFICATION_COST)
        if self._size > self._max_size:
            raise RemoteProtocolError(f"EOM answer: expected at most {self._max_size} octets, found more")
        if code == ReplyCode.REPLBODY:
            if self._apart and self._style == "postfix":
                raise RemoteProtocolError("REPLBODY packet: expected right after the one before, found apart")
            self._replaced = True
        self._modifications.append(self._modification(code, payload))
        return True

    def result(self, answer: Answer) -> EndOfMessageResult:
        """Return all of it, with the answer."""
        return EndOfMessageResult(answer, tuple(self._modifications), self._progress)

    def _modification(self, code: int, payload: bytes) -> Modification:
        strict = not self._lenient or (code == ReplyCode.REPLBODY and self._style == "sendmail")
        if strict and not self._agreed.actions & _NEEDS[code]:
            action = _NEEDS[code].name
            raise RemoteProtocolError(
                f"{code_name(code)} packet: expected an action that was agreed on, found {action}, which the filter did not"
                " ask for when it negotiated"
            )
        return _DECODE[code](payload)


def code_name(code: int) -> str:
    """Return what a packet of a filter is called."""
    try:
        return ReplyCode(code).name
    except ValueError:
        return f"{code:#04x}"


def expect_no_payload(code: int, payload: bytes) -> None:
    """Raise RemoteProtocolError where a packet has a payload that may have none."""
    if payload:
        raise RemoteProtocolError(f"{code_name(code)} packet: expected no payload, found {len(payload)} octets")
