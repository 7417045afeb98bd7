"""Applying the answers of a :class:`aiomilter.Milter`, and answering for its failures."""

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine, Mapping
from typing import Any, ClassVar, Final

from aiomilter._connection.answers import Cancelled, TimedOut, cause_text, failure_answer, temporary_cause
from aiomilter._connection.body import close_source, stream
from aiomilter._connection.dispatch import DispatchEntry, connection_callback
from aiomilter._connection.reports import report_failure, report_limit, report_peer_error, report_stray
from aiomilter._connection.session import Session
from aiomilter._connection.suspension import OF_MESSAGE
from aiomilter.context import Context
from aiomilter.edits import Edits, body_packets
from aiomilter.exceptions import NegotiationError, RemoteProtocolError
from aiomilter.failures import wrong_answer
from aiomilter.handler import CALLBACKS, Handler, overrides
from aiomilter.observe import Limit, PeerErrorKind, TemporaryFailed
from aiomilter.wire.connection import OutOfOrder, Repeated
from aiomilter.wire.constants import STAGE_OF_COMMAND, Stage
from aiomilter.wire.events import BodyChunk, EndOfMessage, Mail, Negotiate, Rcpt, Unknown
from aiomilter.wire.negotiation import Agreement
from aiomilter.wire.replies import ACCEPT, CONTINUE, SKIP, TEMPFAIL, Refusal, Reply, Response, Verdict
from aiomilter.wire.state import NATIVE, Rules, ends_message, is_legal

__all__ = ["MOST_UNWRITTEN", "NativeAnswering"]

MOST_UNWRITTEN: Final = 65_536
"""Octets of answers that may pile up before the session waits for the MTA to read some."""
_CONTINUE: Final = CONTINUE.packet
_EDIT_LIMITS: Final[Mapping[str, tuple[Limit, str]]] = {
    "max_edits": (Limit.EDITS, "edits"),
    "max_edits_size": (Limit.EDITS_SIZE, "octets of edits"),
    "max_new_body_size": (Limit.NEW_BODY_SIZE, "octets of a new body"),
}


def _end(session: Session, event: EndOfMessage) -> DispatchEntry | None:
    """Return the entry of the end of a message; None if it was answered."""
    transaction, dispatch = session.transaction, session.dispatch
    if (session.deferred is not None or not transaction.in_message) and session.give_deferred(Stage.EOM):
        return None
    entry = dispatch.envelope[EndOfMessage]
    if entry[0] is not None:
        session.edits = transaction.edits = Edits(*dispatch.edit_limits)
    return entry


class NativeAnswering:
    """The :class:`aiomilter._connection.session.Answering` of native filters.

    A failure is answered with ``on_error``, exactly once; edits leave with the verdict, all or none.

    Args:
        session: Of the connection.
    """

    __slots__ = ("_session",)
    rules: ClassVar[Rules] = NATIVE
    entry_for: ClassVar[Mapping[type, Callable[[Session, Any], DispatchEntry | None]]] = {
        Mail: Session.mail_entry,
        Rcpt: Session.rcpt_entry,
        EndOfMessage: _end,
    }

    def __init__(self, session: Session) -> None:
        self._session = session

    def begin(self) -> None:
        """Do nothing."""

    def filter_name(self) -> str:
        """Return the class of the filter, or of several the name of the one that acts."""
        handler = self._session.handler
        acting: str | None = getattr(handler, "acting", None)
        kind = type(handler)
        return f"{kind.__module__}.{kind.__qualname__}" if acting is None else acting

    # ------------------------------------------------------------------------------------------------- negotiation

    async def negotiate(self, offer: Negotiate) -> tuple[Agreement, bytes] | None:
        """Return the agreement and its packet; None to close the connection."""
        session = self._session
        handler = session.handler
        assert handler is not None
        try:
            if overrides(type(handler), "negotiate") and not await self._call_negotiate(handler, offer):
                return None
            return session.tables.agree(handler.wants, offer)
        except (NegotiationError, RemoteProtocolError) as error:
            report_peer_error(session, PeerErrorKind.NEGOTIATION, str(error))
            return None

    async def _call_negotiate(self, handler: Handler, offer: Negotiate) -> bool:
        """Call ``negotiate`` and return whether it has ended well."""
        session = self._session
        context = Context.__new__(Context)
        context._transaction = session.transaction
        session.callback = "negotiate"
        well = True
        try:
            await handler.negotiate(context, offer)
        except NegotiationError:
            raise
        except BaseException as error:
            self.failed(error)
            well = False
        finally:
            context._transaction = None
            if session.suspended and session.resumed(None) is not None:
                well = False
        return well

    # --------------------------------------------------------------------------------------------------- callbacks

    async def call(self, stage: Stage, *args: object) -> Any:
        """Call the callback of a stage and return its answer, whatever happens."""
        session = self._session
        callback = connection_callback(session.handler, stage)
        if callback is None:
            return None
        session.callback = CALLBACKS[stage]
        context = Context.__new__(Context)
        context._transaction = session.transaction
        try:
            response = await callback(context, *args)
        except BaseException as error:
            response = self.failed(error)
        context._transaction = None
        return session.resumed(response) if session.suspended else response

    async def call_last(self, name: str) -> None:
        """Call ``abort`` or ``close``; no answer is waited for."""
        session = self._session
        handler = session.handler
        if handler is None or not overrides(type(handler), name):
            return
        session.callback = name
        context = Context.__new__(Context)
        context._transaction = session.transaction
        try:
            await getattr(handler, name)(context)
        except BaseException as error:
            self.failed(error)
        context._transaction = None
        if session.suspended:
            session.resumed(None)

    def failed(self, error: BaseException) -> Any:
        """Turn an exception that left a callback into its answer; for use in an ``except`` block."""
        session = self._session
        if isinstance(error, KeyboardInterrupt | GeneratorExit):
            raise error
        if session.cancelling and isinstance(error, asyncio.CancelledError):
            return None  # we have cancelled it; resumed() knows why
        session.transaction.edits = None  # after a failure none is sent, even if on_error accepts
        session.details.failed = True
        temporary = temporary_cause(error)
        if temporary is not None:
            session.observer.tell(TemporaryFailed(session.where(), cause_text(temporary), temporary))
        else:
            report_failure(session, f"{type(error).__name__} left the callback", error)
        return failure_answer(session.on_error(), temporary)

    # --------------------------------------------------------------------------------------------------- answering

    def answer(self, stage: Stage, response: Any, continue_packet: bytes) -> None:
        """Send an answer that is not CONTINUE, or defer it where the stage has none."""
        session = self._session
        if isinstance(response, Cancelled):
            self._answer_cancelled(response, continue_packet)
            return
        if isinstance(response, TimedOut):
            if response.sent:
                if ends_message(stage, response.response):
                    session.decide(response.response)
            elif response.response is not CONTINUE and stage is not Stage.UNKNOWN:
                session.defer(stage, response.response)
            return
        if not isinstance(response, Verdict | Reply | Refusal) or not is_legal(stage, response):
            response = self._not_an_answer(response)
        if response is CONTINUE:
            if continue_packet:
                session.out.append(continue_packet)
        elif response is SKIP:
            if continue_packet:
                skips = session.agreement is not None and session.agreement.skip
                session.out.append(SKIP.packet if skips else continue_packet)
            session.skip_body()
        elif not continue_packet:
            self.defer(stage, response)
        else:
            session.out.append(response.packet)
            if ends_message(stage, response):
                session.decide(response)

    def _answer_cancelled(self, response: Cancelled, continue_packet: bytes) -> None:
        session = self._session
        if continue_packet and response.expected:
            session.out.append(session.on_error().packet)
        if session.callback in OF_MESSAGE:
            # Only no-reply stages can precede the packet that has cancelled it; they do not reach the filter.
            session.deferred = TEMPFAIL
            session.skip_body()

    def _not_an_answer(self, response: Any) -> Response:
        """Report a value that is not an answer of this stage, and return the answer in its place."""
        session = self._session
        report_failure(session, wrong_answer(response))
        return session.on_error()

    def defer(self, stage: Stage, response: Response) -> None:
        """Defer the answer of a no-reply stage, and report that."""
        session = self._session
        if stage is Stage.UNKNOWN:  # the command fails anyway, and the next one is another matter
            session.report_misuse("answered a stage that gets no reply; the answer is dropped")
            return
        session.report_misuse("answered a stage that gets no reply; given at the next that does")
        session.defer(stage, response)

    async def last_of_body(self, event: BodyChunk) -> None:
        """Handle octets of the body in the packet of the end; the only answer is the end's."""
        session = self._session
        session.answer_stage(Stage.BODY, await self.call(Stage.BODY, event.chunk), b"")
        if session.over:
            session.out.append(session.on_error().packet)  # the end itself is not handled any more

    async def unknown(self, event: Unknown) -> None:
        """Handle an SMTP command that the MTA does not know."""
        session = self._session
        response = await self.call(Stage.UNKNOWN, event)
        session.wire.macros.forget_unknown()
        session.answer_stage(Stage.UNKNOWN, response, session.continue_packets[Stage.UNKNOWN])

    async def repeated(self, event: Repeated) -> None:
        """Answer another packet of a decided message as before."""
        session = self._session
        if session.continue_packets[STAGE_OF_COMMAND[event.command]]:
            session.out.append(session.decision.packet)

    async def out_of_order(self, event: OutOfOrder) -> None:
        """Answer a packet outside a message; one that it has broken up must not pass: the filter has not seen all of it."""
        session = self._session
        stage = STAGE_OF_COMMAND[event.command]
        response: Response = CONTINUE
        broken, session.wire.broken = session.wire.broken, False
        if broken:
            session.callback = CALLBACKS[stage]
            session.decision = response = session.on_error()
            session.wire.decide()
        if session.continue_packets[stage]:
            session.out.append(response.packet)
        report_stray(session, event.command, "out of order" if broken else "outside a message", response)

    # ------------------------------------------------------------------------------------------- the end of a message

    def answer_end(self, response: Any) -> Coroutine[Any, Any, None] | None:
        """Send edits and verdict; return a coroutine if that takes longer: a body from an async iterator, a slow MTA."""
        session = self._session
        transaction = session.transaction
        edits, session.edits = session.edits, None
        failed, transaction.edits = transaction.edits is None, None
        if response is None:
            response = CONTINUE
        sent = None
        if edits is not None and (edits.count or edits.overflow or edits.sources):
            if not failed and (response is CONTINUE or response is ACCEPT):
                if edits.overflow:
                    limit, what = _EDIT_LIMITS[edits.overflow]
                    report_limit(session, limit, f"{what}; none is sent")
                    response = session.on_error()
                else:
                    sent = edits
                    session.out += edits.packets()
                    if isinstance(edits.body, bytes):
                        session.out += body_packets(edits.body)
            if edits.sources:
                return self._answer_end_later(edits, response, sent)
        self._finish_message(response, sent)
        # A small packet can have a large answer: a new body, above all.
        return (
            session.give_way()
            if session.congested or (sent is not None and sum(map(len, session.out)) > MOST_UNWRITTEN)
            else None
        )

    async def _answer_end_later(self, edits: Edits, response: Any, sent: Edits | None) -> None:
        """Stream the new body, if it is to be sent, close all other sources, and answer."""
        session = self._session
        body = edits.body
        if sent is not None and isinstance(body, AsyncIterable):
            edits.sources.remove(body)
            try:
                last = await stream(
                    body, self._send_piece, session.options.max_new_body_size, lambda: session.cancelling
                )
                if last:
                    session.out.append(last)
            except BaseException as error:
                self.failed(error)
                response = TEMPFAIL
            if session.suspended:
                response = session.resumed(response)
        for source in edits.sources:
            try:
                await close_source(source)
            except BaseException as error:
                self.failed(error)
            if session.suspended:
                resumed = session.resumed(None)
                response = resumed if isinstance(resumed, TimedOut) and resumed.sent else response
        self._finish_message(response, sent)

    async def _send_piece(self, octets: bytes) -> None:
        session = self._session
        session.streaming = True
        session.out.append(octets)
        session.channel.flush()
        await session.channel.drain()

    def _finish_message(self, response: Any, sent: Edits | None) -> None:
        """Answer the end of the message, after the edits that were sent, and end it."""
        session = self._session
        if response is CONTINUE:
            session.out.append(_CONTINUE)
        elif isinstance(response, Cancelled):
            if response.expected:
                # Half a new body may have been sent: that must not pass, even if on_error accepts.
                session.out.append((TEMPFAIL if sent is not None else session.on_error()).packet)
            return  # the message is still open, for abort
        elif isinstance(response, TimedOut):
            response = response.response
        else:
            if not isinstance(response, Verdict | Reply | Refusal) or not is_legal(Stage.EOM, response):
                response = self._not_an_answer(response)
            session.out.append(response.packet)
        session.end_message(response, sent)
        session.wire.end_message()
