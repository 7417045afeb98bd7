"""The SMTP reply that follows from a filter's answer: the MTA's own text, or the filter's reply.

Source: aiomilter/help/protocol.rst, "Answers by stage" (measured on Postfix 3.7.11 and Sendmail 8.17.1.9).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aiomilter.mta.content import Style
from aiomilter.mta.results import Answer
from aiomilter.wire.constants import Stage
from aiomilter.wire.replies import REJECT, TEMPFAIL, Reply

__all__ = ["smtp_reply"]

_PASSED: Final[Mapping[Style, Mapping[Stage, str]]] = MappingProxyType(
    {
        "postfix": {
            Stage.MAIL: "250 2.1.0 Ok",
            Stage.RCPT: "250 2.1.5 Ok",
            Stage.DATA: "354 End data with <CR><LF>.<CR><LF>",
            Stage.EOM: "250 2.0.0 Ok: queued as {queue_id}",
            Stage.UNKNOWN: "502 5.5.2 Error: command not recognized",
        },
        "sendmail": {
            Stage.MAIL: "250 2.1.0 Sender ok",
            Stage.RCPT: "250 2.1.5 Recipient ok",
            Stage.DATA: '354 Enter mail, end with "." on a line by itself',
            Stage.EOM: "250 2.0.0 {queue_id} Message accepted for delivery",
            Stage.UNKNOWN: "500 5.5.1 Command unrecognized",
        },
    }
)
_CONTENT: Final = frozenset({Stage.HEADER, Stage.EOH, Stage.BODY, Stage.EOM})
_CLIENT: Final = frozenset({Stage.CONNECT, Stage.HELO})


def smtp_reply(style: Style, stage: Stage, answer: Answer, *, at: Stage | None = None, queue_id: str = "") -> str:
    """Return the SMTP reply, lines separated by CRLF.

    Args:
        style: Whose texts.
        stage: The stage that the filter answered.
        answer: Its answer.
        at: The stage the SMTP client is at, if that is another: the answer to CONNECT is sent at MAIL, that to a header
            field at end of message.
        queue_id: For the text that says that a message was taken.
    """
    at = at or (Stage.EOM if stage in _CONTENT else stage)
    if answer is REJECT:
        return _reject(style, stage)
    if answer is TEMPFAIL:
        return _tempfail(style)
    if not isinstance(answer, Reply):
        return _PASSED[style].get(at, "250 2.0.0 Ok").format(queue_id=queue_id)
    if style == "sendmail":
        if stage is Stage.CONNECT:
            # Only the class of such a reply counts.
            if answer.code == 421:
                return "421 4.7.0 closing connection"
            return _tempfail(style) if answer.temporary else _reject(style, stage)
        if answer.enhanced is None:
            codes = f"{answer.code // 100}.0.0 "
            return "\r\n".join(f"{line[:4]}{codes}{line[4:]}".rstrip() for line in str(answer).split("\r\n"))
    return str(answer)


def _reject(style: Style, stage: Stage) -> str:
    if style == "postfix":
        return "550 5.7.1 Command rejected"
    if stage in _CLIENT:
        return "550 5.0.0 Command rejected"
    return "554 5.7.1 Command rejected" if stage in _CONTENT else "550 5.7.1 Command rejected"


def _tempfail(style: Style) -> str:
    return (
        "451 4.7.1 Service unavailable - try again later" if style == "postfix" else "451 4.3.2 Please try again later"
    )
