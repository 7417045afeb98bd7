"""Handling of the events for which the driver does not call a callback itself.

These are the events of the connection, ABORT and QUIT, packets out of order, and content while no callback is called for it: an
answer is deferred, the body is skipped, or the message was decided.
"""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from aiomilter._connection.answers import TimedOut
from aiomilter._connection.dispatch import CONTENT_STAGES
from aiomilter._connection.endings import abort, end_connection
from aiomilter._connection.reports import report_client_refused, report_limit
from aiomilter._connection.session import Session
from aiomilter.handler import CALLBACKS
from aiomilter.observe import HealthChecked, Limit
from aiomilter.wire.connection import OutOfOrder, Repeated, TooMany
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import (
    Abort,
    BodyChunk,
    Connect,
    Data,
    EndOfHeaders,
    Header,
    Helo,
    Negotiate,
    Quit,
    QuitNewConnection,
    Unknown,
)
from aiomilter.wire.replies import CONTINUE, Refusal, Reply, Verdict

__all__ = ["HANDLES"]

_NO_CLIENT: Final = Connect("")
"""What is known of an SMTP client before there is one."""


async def _negotiate(session: Session, offer: Negotiate) -> None:
    agreed = await session.answering.negotiate(offer)
    if agreed is None:
        session.over = True
        return
    agreement, octets = agreed
    session.apply_agreement(agreement)
    session.out.append(octets)


async def _connect(session: Session, event: Connect) -> None:
    session.transaction.client = event
    await _ask_about_client(session, Stage.CONNECT, event)


async def _helo(session: Session, event: Helo) -> None:
    session.transaction.helo = event.name
    await _ask_about_client(session, Stage.HELO, event)


async def _ask_about_client(session: Session, stage: Stage, event: Connect | Helo) -> None:
    continue_packet = session.continue_packets[stage]
    if session.deferred is not None:
        if continue_packet:
            session.out.append(session.deferred.packet)
            session.deferred = session.connection_deferred = None
        return
    response = await session.answering.call(stage, event)
    session.answer_stage(stage, response, continue_packet)
    if isinstance(response, TimedOut):
        response = response.response
    if isinstance(response, Verdict | Reply | Refusal) and response is not CONTINUE:
        report_client_refused(session, response)


async def _content(session: Session, event: Header | BodyChunk | Data | EndOfHeaders) -> None:
    """Handle content that no callback is called for."""
    if isinstance(event, BodyChunk) and event.with_end:
        if session.active:
            await session.answering.last_of_body(event)
    else:
        _answer_without_callback(session, CONTENT_STAGES[type(event)])


def _answer_without_callback(session: Session, stage: Stage) -> None:
    """Answer without a callback."""
    if not session.give_deferred(stage):
        session.answer_stage(stage, None, session.continue_packets[stage])


async def _too_many(session: Session, event: TooMany) -> None:
    """Refuse a message with too many header fields, once."""
    if not session.active:
        _answer_without_callback(session, Stage.HEADER)
        return
    session.callback = CALLBACKS[Stage.HEADER]
    if session.wire.headers_left:
        report_limit(session, Limit.HEADERS_SIZE, "octets of header fields")
    else:
        report_limit(session, Limit.HEADERS, "header fields")
    response = Reply(552, "5.3.4", "Message header too large")
    session.answering.answer(Stage.HEADER, response, session.continue_packets[Stage.HEADER])


async def _unknown(session: Session, event: Unknown) -> None:
    await session.answering.unknown(event)


async def _abort(session: Session, event: Abort) -> None:
    await abort(session)


async def _repeated(session: Session, event: Repeated) -> None:
    await session.answering.repeated(event)


async def _out_of_order(session: Session, event: OutOfOrder) -> None:
    await session.answering.out_of_order(event)


async def _quit(session: Session, event: Quit) -> None:
    session.over = True
    agreed, handler = session.agreement, session.handler
    # One that does not ask for clients cannot tell; after a QUIT_NC there is no handler.
    asks = agreed is not None and handler is not None and Stage.CONNECT not in agreed.declined
    if asks and session.transaction.client == _NO_CLIENT:
        session.observer.tell(HealthChecked(session.where()))


async def _quit_new_connection(session: Session, event: QuitNewConnection) -> None:
    await end_connection(session)
    session.wire.end_connection()
    session.over = session.over or session.draining


HANDLES: Final[Mapping[type, Callable[[Session, Any], Coroutine[Any, Any, None]]]] = {
    Negotiate: _negotiate,
    Connect: _connect,
    Helo: _helo,
    Data: _content,
    Header: _content,
    EndOfHeaders: _content,
    BodyChunk: _content,
    Unknown: _unknown,
    TooMany: _too_many,
    Abort: _abort,
    Repeated: _repeated,
    OutOfOrder: _out_of_order,
    Quit: _quit,
    QuitNewConnection: _quit_new_connection,
}
"""By kind of event."""
