"""The state of one connection: its SMTP connection and message, the callback that runs, and the answers that are deferred.

A session knows no transport: a :class:`Channel` writes, cancels and closes for it.  :mod:`aiomilter._connection.driver` reads
the events and calls the callbacks of the frequent stages; :mod:`aiomilter._connection.event_handling` handles the other
events.  An :class:`Answering` defines what an answer means, and what a failure answers: there is a native one and one for
classic filters.

Any exception that leaves a callback is a failure of that callback, so this package catches them all.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Final

from aiomilter._connection.answering import Answering, Channel
from aiomilter._connection.answers import TimedOut, policy_answer, with_reason
from aiomilter._connection.details import MessageDetails
from aiomilter._connection.dispatch import NOT_AGREED, Dispatch, DispatchEntry, DispatchTables
from aiomilter._connection.filters import FilterReports
from aiomilter._connection.recipients import RECIPIENT_SIZE, UNCOUNTED, Recipients, refusal
from aiomilter._connection.reports import (
    message_count,
    message_ended,
    report_answer,
    report_failure,
    report_limit,
    where_of,
)
from aiomilter._connection.sent import ReportedPackets
from aiomilter._connection.suspension import TURN, Reason, Suspension
from aiomilter.context import Transaction
from aiomilter.edits import Edits
from aiomilter.handler import CALLBACKS, STAGE_OF, Handler
from aiomilter.observe import Limit, Misuse, Where
from aiomilter.observe.guard import Guard
from aiomilter.observe.message_log import MessageLog
from aiomilter.options import Options
from aiomilter.wire.connection import Connection
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Abort, Mail, Quit, QuitNewConnection, Rcpt
from aiomilter.wire.negotiation import Agreement
from aiomilter.wire.replies import CONTINUE, TEMPFAIL, Reply, Response
from aiomilter.wire.state import ends_message

__all__ = ["Session"]

_NEEDS_NO_HANDLER: Final = frozenset({Abort, Quit, QuitNewConnection})
_NOTHING: Final[Mapping[Any, Any]] = {}


class Session:
    """One connection with an MTA, from its first packet to its end.

    Args:
        make: Makes the handler of an SMTP connection.
        tables: Of the factory that makes them.
        options: Limits, time-outs and the answer to failures.
        observer: Gets the reports.
        channel: Writes, cancels and closes.
        answering: Makes the :class:`Answering`.
    """

    __slots__ = (
        "_details",
        "_make",
        "_suspension",
        "_uncounted",
        "active",
        "agreement",
        "answering",
        "began",
        "callback",
        "channel",
        "congested",
        "connection_deferred",
        "debug",
        "decision",
        "deferred",
        "dispatch",
        "draining",
        "edits",
        "handler",
        "observer",
        "options",
        "out",
        "over",
        "recipients",
        "reported_stray",
        "streaming",
        "suspended",
        "tables",
        "transaction",
        "wire",
    )

    def __init__(
        self,
        make: Callable[[], Handler],
        tables: DispatchTables,
        options: Options,
        observer: Guard,
        channel: Channel,
        answering: "Callable[[Session], Answering]",
    ) -> None:
        self._make = make
        self.tables: DispatchTables = tables
        self.options: Options = options
        self.observer: Guard = observer
        self.debug: bool = observer.debug
        """Whether an observer wants a report of each event and of each answer."""
        self.channel: Channel = channel
        self.answering: Answering = answering(self)
        self.wire: Connection = Connection(
            options.max_frame_size, self.answering.rules, options.max_headers, options.max_headers_size
        )
        self.out: list[bytes] = ReportedPackets(partial(report_answer, self)) if self.debug else []
        self.over: bool = False
        self.draining: bool = False
        self.congested: bool = False
        """The MTA does not read our answers."""
        self.handler: Handler | None = None
        self.agreement: Agreement | None = None
        self.transaction: Transaction = Transaction(self)
        self.dispatch: Dispatch = NOT_AGREED
        """The callbacks of a message, and the packet of CONTINUE at each stage."""
        self.active: Mapping[type, DispatchEntry] = _NOTHING
        """The entries of content; empty while an answer is deferred or the body is skipped."""
        self.callback: str = ""
        """The name of the one that runs, or ran last."""
        self.suspended: bool = False
        """The callback that runs has suspended at least once."""
        self._suspension: Suspension | None = None
        self.deferred: Response | None = None
        """The answer of a no-reply stage, for the first packet that has an answer."""
        self.connection_deferred: Response | None = None
        """The same of ``connect`` or ``helo``, for every message."""
        self.decision: Response = CONTINUE
        """The answer that has decided the message."""
        self.streaming: bool = False
        """The new body has begun to leave: no PROGRESS may come in between (Postfix)."""
        self.edits: Edits | None = None
        """The edits of the end of message; kept here even after a failure has dropped them from the transaction."""
        self.reported_stray: bool = False
        """Whether a packet out of order was reported."""
        self._details: MessageDetails | None = None
        self.began: float = 0.0
        """When the message began, by ``time.monotonic``."""
        # How many recipients of a message are accepted without counting.
        self._uncounted = min(UNCOUNTED, options.max_recipients)
        self.recipients: Recipients | None = None
        """Octets and refusals of the message's recipients; None as long as it has few and none was refused."""

    # ------------------------------------------------------------------------------------------- for the transport

    @property
    def continue_packets(self) -> Mapping[Stage, bytes]:
        """The packet of CONTINUE at each stage; empty at a no-reply stage."""
        return self.dispatch.continue_packets

    @property
    def idle(self) -> bool:
        """Whether no SMTP connection is open: before the first, or after a QUIT_NC."""
        return self.handler is None

    @property
    def kept(self) -> int:
        """Octets buffered here, received or to be sent; with macros and envelope if these are large."""
        size = self.wire.buffer.kept + (self.edits.kept if self.edits is not None else 0)
        if self.wire.large:
            size += self.wire.macros.size + self.transaction.size
            if self.transaction.recipients or self.recipients is not None:
                size += self._counted().size(self.transaction.recipients)
        return size

    def where(self) -> Where:
        """Return where the session is, for the observer."""
        return where_of(self, self.wire.macros.value("i"))

    def peek_where(self) -> Where:
        """Return where the session is, for another thread: nothing changes."""
        return where_of(self, self.wire.macros.peek("i"))

    # ------------------------------------------------------------------------------------------- callbacks that wait

    @property
    def suspension(self) -> Suspension:
        """Ends callbacks that wait; made at first use."""
        if self._suspension is None:
            self._suspension = Suspension(self)
        return self._suspension

    @property
    def cancelling(self) -> bool:
        """Whether the callback that waits was cancelled by us."""
        return self._suspension is not None and self._suspension.reason is not None

    def suspend(self) -> None:
        """Record that the callback waits for something: from now on it can be cancelled, and has a time limit."""
        if not self.suspended:
            self.suspended = True
            self.suspension.begin()

    def resumed(self, response: Any) -> Any:
        """Record that a callback that had suspended has ended, and return its answer."""
        self.suspended = False
        return response if self._suspension is None else self._suspension.resumed(response)

    def arrived(self, data: bytes) -> None:
        """Take octets that come while a callback waits."""
        self.wire.buffer.feed(data)
        if self._suspension is not None:
            self._suspension.arrived(data)

    def caught_up(self) -> None:
        """Record that all received octets are handled, after a callback had waited."""
        if self._suspension is not None:
            self._suspension.caught_up()

    def cancel(self, reason: Reason) -> None:
        """Cancel the callback that waits, if there is one and this reason cancels it."""
        if self._suspension is not None:
            self._suspension.cancel(reason)

    def hurry(self) -> None:
        """Limit ``abort`` and ``close`` to ``cancel_timeout`` from now on: the server ends."""
        self.suspension.hurry()

    def stop_clock(self) -> None:
        """Disarm the timer: no callback waits any more, and none will."""
        if self._suspension is not None:
            self._suspension.end()

    async def give_way(self) -> None:
        """Write the answers, let other connections run, and wait until the MTA has read enough."""
        name, self.callback = self.callback, TURN
        with suppress(asyncio.CancelledError):
            await self.channel.turn()
        if self.suspended:
            self.resumed(None)
        self.callback = name

    # ---------------------------------------------------------------------------------------------- for the contexts

    def macro(self, name: str) -> str | None:
        """Return the value of a macro."""
        return self.wire.macros.value(name)

    def progress(self) -> bool:
        """Send PROGRESS for a callback that asks for it, and return whether that was possible."""
        stage = STAGE_OF.get(self.callback)
        if (
            stage is None
            or self.cancelling
            or not (self.continue_packets[stage] and self.suspension.takes_progress(stage))
        ):
            return False
        self.suspension.send_progress()
        return True

    def report_misuse(self, what: str) -> None:
        """Report a call of the filter that has no effect, or another than intended."""
        self.observer.tell(Misuse(self.where(), what))

    @property
    def details(self) -> MessageDetails:
        """Its id, reasons and failures, for reports; made at first use."""
        found = self._details
        if found is None or found.in_message is not self.transaction.in_message:
            found = self._details = MessageDetails(self)
        return found

    def set_reason(self, reason: str) -> None:
        """Keep the reason of the filter for its answer."""
        self.details.set_reason("", reason)

    def log(self) -> MessageLog:
        """Return a logger for the filter."""
        return self.details.log("")

    @property
    def acting(self) -> str:
        """The name of the filter of several that is called, or has answered; "" for one that is alone, and for none."""
        return getattr(self.handler, "acting", "")

    def for_filter(self, name: str) -> FilterReports:
        """Return the source of one filter of several."""
        return FilterReports(self, name)

    # ---------------------------------------------------------------------------------------------------- answering

    def on_error(self, own: Any = None) -> Response:
        """Return the answer for a failure, one that the stage takes; ``own`` is that of one filter of several."""
        own = getattr(self.handler, "on_error", None) if own is None else own
        return self._by_policy(self.options.on_error if own is None else own)

    def on_timeout(self, own: Any = None, own_error: Any = None) -> Response:
        """Return the answer for a callback that timed out, one that the stage takes; arguments as for :meth:`on_error`."""
        own = getattr(self.handler, "on_timeout", None) if own is None else own
        policy = self.options.on_timeout if own is None and own_error is None else own
        return self.on_error(own_error) if policy is None else self._by_policy(policy)

    def _by_policy(self, policy: Any) -> Response:
        if self._details is not None:
            self._details.forget_reason("")
        client, login = self.transaction.client, self.wire.macros.value("auth_authen")
        return policy_answer(policy, client, bool(login), STAGE_OF.get(self.callback, Stage.EOM))

    def answer_stage(self, stage: Stage, response: Any, continue_packet: bytes) -> None:
        """Send the answer of a stage, or defer it; see :meth:`Answering.answer`."""
        if response is None or response is CONTINUE:
            if continue_packet:
                self.out.append(continue_packet)
        else:
            self.answering.answer(stage, response, continue_packet)

    def defer(self, stage: Stage, response: Response) -> None:
        """Defer the answer of a no-reply stage to the first packet that has an answer (P-095)."""
        response = with_reason(response, self.details.reason(self.acting, response))
        self.deferred = TEMPFAIL if stage is Stage.RCPT else response
        if stage in (Stage.CONNECT, Stage.HELO):
            self.connection_deferred = response
        self.active = _NOTHING

    def skip_body(self) -> None:
        """Call no more callbacks for content: only body and end of message can follow."""
        self.active = _NOTHING

    def give_deferred(self, stage: Stage, recipient: Rcpt | None = None) -> bool:
        """Return whether an answer is deferred; send it if this stage takes an answer.

        A refusal sent for a recipient does not end the message: it stays deferred for the next recipient.
        """
        if not self.transaction.in_message:
            self._begin_message(None)  # its MAIL was negotiated away
        if self.deferred is None:
            return False
        if self.continue_packets[stage]:
            self.out.append(self.deferred.packet)
            if ends_message(stage, self.deferred):
                self.decide(self.deferred)
            elif recipient is not None:
                self._refused(recipient, self.deferred)
        return True

    # ---------------------------------------------------------------------------------------------- the connection

    def ensure_handler(self, kind: type) -> bool:
        """Make the handler of an SMTP connection at its first event; return whether to handle the event."""
        if kind in _NEEDS_NO_HANDLER:
            return True
        try:
            self.handler = self._make()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            report_failure(self, "the factory raised; closing", error)
            self.over = True
            return False
        if self.agreement is not None:
            self._set_dispatch(self.handler, self.agreement)
        self.answering.begin()
        return True

    def _set_dispatch(self, handler: Handler, agreement: Agreement) -> None:
        self.dispatch = self.tables.table(handler, agreement)
        self.active = self.dispatch.content

    def apply_agreement(self, agreement: Agreement) -> None:
        """Apply an agreement."""
        assert self.handler is not None
        self.agreement = agreement
        self.wire.agreed(agreement)
        self._set_dispatch(self.handler, agreement)

    def leave(self) -> None:
        """Forget the SMTP connection: another may follow."""
        self.handler = None
        self.active = _NOTHING
        self.deferred = self.connection_deferred = self._details = None
        self.transaction.leave()

    # -------------------------------------------------------------------------------------------------- the message

    def _begin_message(self, sender: Mail | None) -> None:
        self.transaction.begin(sender)
        self.began = monotonic()
        if self.deferred is None:
            self.active = self.dispatch.content

    def decide(self, response: Response) -> None:
        """End the message with an answer of ours."""
        self.decision = response
        self.end_message(response)
        self.wire.decide()

    def end_message(self, answer: Any, sent: Edits | Sequence[bytes] | None = None) -> None:
        """Report the message, call the functions registered with ``on_end``, and forget the message.

        Args:
            answer: The answer that ended it; None for an ABORT.
            sent: The edits that were sent, or their packets.
        """
        transaction = self.transaction
        self.observer.message_ended(lambda: message_ended(self, answer, sent))
        if self.observer.counting:
            self.observer.message_counted(message_count(self, answer, sent))
        if transaction.endings is not None:
            self.channel.flush()
            for function, args in transaction.endings:
                try:
                    function(*args)
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    report_failure(self, "a function given to on_end raised", error)
        self.recipients = None
        if self._details is not None:
            self._details.end()
            self._details = None
        transaction.end()
        if self.channel.memory.messages:
            self.channel.memory.messages.discard(self)
        self.deferred = self.connection_deferred
        self.streaming = False

    def mail_entry(self, event: Mail) -> DispatchEntry | None:
        """Begin a message, and return its entry; None if it was answered."""
        self._begin_message(event)
        if self.deferred is not None and self.give_deferred(Stage.MAIL):
            return None
        return self._limited_entry() if self.channel.memory.busy else self.dispatch.envelope[Mail]

    def _limited_entry(self) -> DispatchEntry | None:
        """Return the entry of a message if the limits of the server allow one more; if not, answer and return None."""
        entry = self.dispatch.envelope[Mail]
        _, continue_packet, _, _ = entry
        self.callback = CALLBACKS[Stage.MAIL]
        if self.channel.memory.full:
            response = self.on_error()
        elif not self.channel.memory.begin(self):
            response = Reply(452, "4.3.2", "Too many messages at once")
        else:
            return entry
        if response is CONTINUE:
            return entry
        # At a no-reply stage it is deferred without a report: the filter has not answered.
        deferred = TimedOut(response, sent=False)
        self.answering.answer(Stage.MAIL, response if continue_packet else deferred, continue_packet)
        return None

    def rcpt_entry(self, event: Rcpt) -> DispatchEntry | None:
        """Return the entry of a recipient; None if it was answered."""
        transaction = self.transaction
        if (self.deferred is not None or not transaction.in_message) and self.give_deferred(Stage.RCPT, event):
            return None
        count = len(transaction.recipients) + transaction.refused
        if count < self._uncounted or self._recipient_allowed(count):
            return self.dispatch.envelope[Rcpt]
        response = Reply(452, "4.5.3", "Too many recipients")
        self.add_recipient(event, response)
        self.answer_stage(Stage.RCPT, response, self.continue_packets[Stage.RCPT])
        return None

    def _recipient_allowed(self, count: int) -> bool:
        """Return whether a message with so many recipients may have one more; report the first that it may not."""
        counted = self._counted()
        admitted = counted.admits(count, self.transaction.recipients)
        if counted.large:
            self.wire.large = True
        limit = None if admitted else counted.limit_reached(count)
        if limit is Limit.RECIPIENTS:
            report_limit(self, limit, "recipients")
        elif limit is not None:
            report_limit(self, limit, "octets of recipients", self.options.max_recipients * RECIPIENT_SIZE)
        return admitted

    def _counted(self) -> Recipients:
        """Return :attr:`recipients`, made now if the message needs it for the first time."""
        if self.recipients is None:
            self.recipients = Recipients(self.options.max_recipients)
        return self.recipients

    def add_recipient(self, event: Rcpt, response: Any) -> None:
        """Add a recipient to the message unless the filter or the MTA itself refuses it."""
        if response is not None and response is not CONTINUE:
            refused = refusal(response, self.on_error)
            if refused is not None:
                self._refused(event, refused)
                return
        # Macro {rcpt_mailer} is "error" for a recipient that the MTA refuses.
        if not self.dispatch.sees_rejected or self.wire.macros.value("rcpt_mailer") != "error":
            self.transaction.recipients.append(event)

    def _refused(self, event: Rcpt, response: Any) -> None:
        reason = self.details.reason(self.acting, response)
        self.transaction.refused += 1
        self._counted().refuse(event, response, reason, self.acting)
