"""The reports of a session to observers, built from its state at that moment."""

import re
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, Final, NamedTuple, Protocol, cast

from aiomilter._connection.answering import Answering, Channel
from aiomilter._connection.answers import answer_of, answer_text
from aiomilter._connection.details import MessageDetails
from aiomilter._connection.dispatch import DispatchTables
from aiomilter._connection.recipients import Recipients
from aiomilter._connection.sent import answer_name, sent_edits, sent_kinds
from aiomilter.context import Transaction
from aiomilter.edits import Edits
from aiomilter.handler import Handler
from aiomilter.observe import (
    OPTION_OF,
    AnswerSent,
    AnswerVerdict,
    CallbackFailed,
    ClientRefused,
    Limit,
    LimitReached,
    MessageCount,
    MessageEnded,
    PeerError,
    PeerErrorKind,
    Where,
)
from aiomilter.observe.guard import Guard
from aiomilter.options import Options
from aiomilter.wire.connection import Connection
from aiomilter.wire.constants import Command, Stage
from aiomilter.wire.events import Mail
from aiomilter.wire.negotiation import Agreement
from aiomilter.wire.replies import ACCEPT, CONTINUE, Response

__all__ = [
    "Reporting",
    "message_count",
    "message_ended",
    "report_answer",
    "report_client_refused",
    "report_failure",
    "report_limit",
    "report_peer_error",
    "report_stray",
    "where_of",
]

_DECLARED: Final = re.compile(r"SIZE=([0-9]{1,15})", re.IGNORECASE)


class Reporting(Protocol):
    """The session that reports."""

    began: float
    """When its message began, by ``time.monotonic``."""
    reported_stray: bool
    """Whether a packet out of order was reported."""
    recipients: Recipients | None
    wire: Connection
    tables: DispatchTables
    """Of the factory."""
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

    @property
    def details(self) -> MessageDetails:
        """Id, reasons and failures of the message."""
        ...

    @property
    def acting(self) -> str:
        """The filter of several that has answered."""
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
    session.details.failed = True
    session.observer.tell(CallbackFailed(session.where(), what, error))


def report_client_refused(session: Reporting, response: Any) -> None:
    """Report an answer that concerns a client, not a message."""
    session.observer.tell(
        ClientRefused(session.where(), answer_of(response), session.details.reason(session.acting, response))
    )


def message_ended(session: Reporting, answer: Any, sent: Edits | Sequence[bytes] | None) -> MessageEnded | None:
    """Return the report of a message; None if the handler holds it back until its shadows are done.

    Args:
        session: The session, which has not forgotten the message yet.
        answer: The answer that ended it; None for an ABORT.
        sent: The edits that were sent, or their packets.
    """
    transaction, recipients, details = session.transaction, session.recipients, session.details
    edits, edit_count, quarantine = sent_edits(sent)
    where = session.where()
    declined = () if session.agreement is None else session.agreement.declined
    asked = Stage.RCPT not in declined or transaction.recipients
    found = _of_filters(session, where.filter)
    event = MessageEnded(
        where=where,
        helo=transaction.helo,
        sender=None if transaction.sender is None else transaction.sender.address,
        recipients=tuple(rcpt.address for rcpt in transaction.recipients) if asked else None,
        refused=() if recipients is None else tuple(recipients.refused),
        refused_count=transaction.refused,
        answer=answer_of(answer),
        reason=details.reason(session.acting, answer, counted=True),
        edits=edits,
        edit_count=edit_count,
        quarantine=quarantine,
        duration=monotonic() - session.began,
        id=details.id,
        declared=_declared(transaction.sender),
        macro=session.wire.macros.copy().value,
        durations=found.durations,
        results=found.results,
        failed=found.failed,
        generation=session.tables.generation,
    )
    hold = getattr(session.handler, "hold_report", None)
    if hold is None:
        return event
    told: MessageEnded | None = hold(event, session.observer.shadows_ended)
    return told


def message_count(session: Reporting, answer: Any, sent: Edits | Sequence[bytes] | None) -> MessageCount:
    """Return the report of a message in short; arguments as for :func:`message_ended`."""
    transaction, recipients = session.transaction, session.recipients
    if hasattr(session.handler, "hold_report") and not session.observer.tells_messages():
        session.observer.shadows_ended(lambda: message_ended(session, answer, sent))
    verdict: AnswerVerdict
    if answer is None:
        verdict, code, reason = "abort", None, ""
    elif answer is CONTINUE or answer is ACCEPT:
        verdict, code, reason = ("continue" if answer is CONTINUE else "accept"), None, ""
    else:
        told = answer_of(answer)
        verdict, code = told.verdict, told.code
        reason = session.details.reason(session.acting, answer, counted=True)
    kinds = sent_kinds(sent)
    fields = (
        session.channel.listener,
        session.answering.filter_name(),
        session.callback,
        verdict,
        code,
        reason,
        kinds,
        () if recipients is None else recipients.refused,
        transaction.refused,
        monotonic() - session.began,
        _declared(transaction.sender),
        _authors(session, sent) if kinds else (),
    )
    # Not by its own __new__: this is done for each message.
    return tuple.__new__(MessageCount, fields)


def _authors(session: Reporting, sent: Edits | Sequence[bytes] | None) -> Sequence[str]:
    """Return the filters of a composition that asked for the edits that were sent; none of a filter that is alone."""
    authors = getattr(session.handler, "authors", None)
    if authors is None:
        return ()
    edits, _, _ = sent_edits(sent)
    found: Sequence[str] = authors(edits)
    return found


def _declared(sender: Mail | None) -> int | None:
    """Return the octets that a client has declared; None if it has not."""
    for param in () if sender is None else sender.params:
        if param[:5].upper() == "SIZE=" and (declared := _DECLARED.fullmatch(param)):
            return int(declared[1])
    return None


class _OfFilters(NamedTuple):
    """The part of a report that is about the filters of a message."""

    durations: Mapping[str, float]
    results: tuple[object, ...]
    failed: tuple[str, ...]


def _of_filters(session: Reporting, name: str) -> _OfFilters:
    handler, details = session.handler, session.details
    if handler is not None and hasattr(handler, "acting"):
        several = cast(Any, handler)
        return _OfFilters(several.durations, several.results.found(), tuple(several.failed))
    results = session.transaction.results
    durations = {name: details.waited} if details.waited else {}
    return _OfFilters(durations, () if results is None else results.found(), (name,) if details.failed else ())
