"""The reports of a session to observers, built from its state at that moment."""

from collections.abc import Sequence
from time import monotonic
from typing import Any, Protocol

from aiomilter._connection.answering import Answering, Channel
from aiomilter._connection.answers import answer_text, reason_of
from aiomilter._connection.recipients import Recipients
from aiomilter._connection.sent import answer_name, sent_edits
from aiomilter.context import Transaction
from aiomilter.edits import Edits
from aiomilter.handler import Handler
from aiomilter.observe import (
    OPTION_OF,
    AnswerSent,
    CallbackFailed,
    ClientRefused,
    Limit,
    LimitReached,
    MessageEnded,
    PeerError,
    PeerErrorKind,
    Where,
)
from aiomilter.observe.guard import Guard
from aiomilter.options import Options
from aiomilter.wire.constants import Command, Stage
from aiomilter.wire.negotiation import Agreement
from aiomilter.wire.replies import Response

__all__ = [
    "Reporting",
    "message_ended",
    "report_answer",
    "report_client_refused",
    "report_failure",
    "report_limit",
    "report_peer_error",
    "report_stray",
    "where_of",
]


class Reporting(Protocol):
    """The session that reports."""

    began: float
    """When its message began, by ``time.monotonic``."""
    reported_stray: bool
    """Whether a packet out of order was reported."""
    recipients: Recipients | None
    agreement: Agreement | None
    callback: str
    handler: Handler | None
    channel: Channel
    answering: Answering

    @property
    def transaction(self) -> Transaction:
        """The SMTP connection and the message."""
        ...

    @property
    def options(self) -> Options:
        """The limits."""
        ...

    @property
    def observer(self) -> Guard:
        """Gets the reports."""
        ...

    def where(self) -> Where:
        """Return where the session is."""
        ...


def where_of(session: Reporting, queue_id: str | None) -> Where:
    """Return where a session is."""
    client, channel = session.transaction.client, session.channel
    return Where(
        connection=channel.number,
        client=client.raw_address or client.hostname,
        callback=session.callback,
        queue_id=queue_id or None,
        peer=channel.peer,
        server=session.options.name,
        listener=channel.listener,
        filter="" if session.handler is None else session.answering.filter_name(),
    )


def report_answer(session: Reporting, octets: bytes) -> None:
    """Report a packet that is to be sent."""
    session.observer.tell(AnswerSent(session.where(), answer_name(octets)))


def report_limit(session: Reporting, limit: Limit, what: str, number: int | None = None) -> None:
    """Report that a limit was reached, with its value and the option that sets it.

    Args:
        session: The session.
        limit: Which.
        what: The things counted, a plural, and after a semicolon the effect: ``"recipients"``.
        number: Its value; None if that is the option's.
    """
    option = OPTION_OF[limit]
    if number is None:
        number = getattr(session.options, option)
    what, semicolon, effect = what.partition(";")
    text = f"more than {number} {what} (--{option.replace('_', '-')}){semicolon}{effect}"
    session.observer.tell(LimitReached(session.where(), limit, number, option, text))


def report_peer_error(session: Reporting, kind: PeerErrorKind, what: str) -> None:
    """Report an error of the peer."""
    session.observer.tell(PeerError(session.where(), kind, what))


def report_stray(session: Reporting, command: Command, place: str, response: Response) -> None:
    """Report, once a connection, a packet that belongs to no message, or that has broken one up."""
    if not session.reported_stray:
        session.reported_stray = True
        what = f"{command.name} came {place}; answered {answer_text(response)}"
        report_peer_error(session, PeerErrorKind.ORDER, what)


def report_failure(session: Reporting, what: str, error: BaseException | None = None) -> None:
    """Report that a callback failed."""
    session.observer.tell(CallbackFailed(session.where(), what, error))


def report_client_refused(session: Reporting, response: Any) -> None:
    """Report an answer that concerns a client, not a message."""
    session.observer.tell(ClientRefused(session.where(), answer_text(response), reason_of(response)))


def message_ended(session: Reporting, answer: Any, sent: Edits | Sequence[bytes] | None) -> MessageEnded | None:
    """Return the report of a message; None if the handler holds it back until its shadows are done.

    Args:
        session: The session, which has not forgotten the message yet.
        answer: The answer that ended it; None for an ABORT.
        sent: The edits that were sent, or their packets.
    """
    transaction, recipients = session.transaction, session.recipients
    edits, edit_count, quarantine = sent_edits(sent)
    declined = () if session.agreement is None else session.agreement.declined
    asked = Stage.RCPT not in declined or transaction.recipients
    event = MessageEnded(
        where=session.where(),
        helo=transaction.helo,
        sender=None if transaction.sender is None else transaction.sender.address,
        recipients=tuple(rcpt.address for rcpt in transaction.recipients) if asked else None,
        refused=() if recipients is None else tuple(recipients.refused),
        refused_count=transaction.refused,
        answer="abort" if answer is None else answer_text(answer),
        reason=reason_of(answer),
        edits=edits,
        edit_count=edit_count,
        quarantine=quarantine,
        duration=monotonic() - session.began,
    )
    hold = getattr(session.handler, "hold_report", None)
    if hold is None:
        return event
    found: MessageEnded | None = hold(event, answer, session.observer.message_ended)
    return found
