"""One connection's state, and what the events and answers of its conversation do to it.

A session knows no transport: a :class:`Channel` writes, cancels and closes for it.  Events come from
:mod:`aiomilter._connection.driver`, which calls the callbacks of the stages that are frequent; the callbacks of the others are
called here.  What an answer means, and what a failure answers, is an :class:`Answering`'s to say: there is a native one and one
for classic filters.

Whatever leaves a callback is its failure, so this package is where all exceptions are caught.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from inspect import CO_COROUTINE
from itertools import islice
from time import monotonic
from typing import Any, ClassVar, Final, Protocol, TypeAlias, cast

from aiomilter._connection import suspension
from aiomilter._connection.answers import TimedOut, answer_text, reason_of
from aiomilter._connection.dispatch import CONTENT_STAGES, NOT_AGREED, Dispatch, DispatchTables, Step
from aiomilter._connection.sent import Refusals, ToldPackets, answer_name, sent_edits
from aiomilter._connection.suspension import TURN, Reason, Suspension
from aiomilter._serving.memory import MemoryLimit
from aiomilter.context import Transaction
from aiomilter.edits import Edits
from aiomilter.failures import FailurePolicy
from aiomilter.handler import CALLBACKS, STAGE_OF, Handler
from aiomilter.observe import (
    OPTION_OF,
    AnswerSent,
    CallbackFailed,
    ClientRefused,
    Limit,
    LimitReached,
    MessageEnded,
    Misuse,
    PeerError,
    PeerErrorKind,
    Where,
)
from aiomilter.observe.guard import Guard
from aiomilter.options import Options
from aiomilter.wire.connection import Connection, OutOfOrder, Repeated, TooMany
from aiomilter.wire.constants import Command, Stage
from aiomilter.wire.events import (
    Abort,
    BodyChunk,
    Connect,
    Data,
    EndOfHeaders,
    Header,
    Helo,
    Mail,
    Negotiate,
    Quit,
    QuitNewConnection,
    Rcpt,
    Unknown,
)
from aiomilter.wire.negotiation import Agreement
from aiomilter.wire.reader import LARGE
from aiomilter.wire.replies import CONTINUE, PASSING, TEMPFAIL, Refusal, Reply, Response, Verdict
from aiomilter.wire.state import Rules, ends_message, is_legal

__all__ = ["STAGE_BY_COMMAND", "Answering", "Channel", "Session"]

STAGE_BY_COMMAND: Final = {stage.command: stage for stage in Stage}
_RECIPIENT_SIZE: Final = 1024
"""Octets that ``max_recipients`` allows for each, on average; a path has 256 (RFC 5321 section 4.5.3.1.3), ORCPT 500."""
_TEXT_SIZE: Final = 64
"""Octets that a short text takes besides its characters, with its place in a tuple: many small ESMTP parameters are dear."""
_NEEDS_NO_HANDLER: Final = frozenset({Abort, Quit, QuitNewConnection})
_NOTHING: Final[Mapping[Any, Any]] = {}
_ABORT: Final = Abort()


class Channel(suspension.Channel, Protocol):
    """What a session needs of the side that holds the transport."""

    number: int
    """Of the connection, for the log."""
    peer: str
    """Who is at the other end, for the log; "" if not known."""
    listener: str
    """The socket that accepted the connection; "" if none did."""
    memory: MemoryLimit
    """What all connections may keep."""

    def kept(self) -> None:
        """Take note of what is kept for longer than this batch."""

    async def drain(self) -> None:
        """Wait until the MTA has taken enough of what was written."""

    async def turn(self) -> None:
        """Write what is in ``Session.out``, and let others have their turn."""

    def close(self) -> None:
        """Close the connection once what was written has left."""


class Answering(Protocol):
    """What answers mean on one connection, and what failures answer."""

    rules: ClassVar[Rules]
    """The order of the conversation."""
    asks: "ClassVar[Mapping[type, Callable[[Session, Any], Step | None]]]"
    """What says, for the events of the envelope and the end of a message, which step they bring; none if the event was
    answered: ``Session.mail``, ``Session.rcpt``, and one of its own for the end."""

    def begin(self) -> None:
        """Take note of a new SMTP connection: its handler has been made."""

    def filter_name(self) -> str:
        """Return the class of the filter, for the observers; called from any thread."""
        ...

    async def negotiate(self, offer: Negotiate) -> tuple[Agreement, bytes] | None:
        """Return what is agreed on, and the packet that says so; None to close the connection."""
        ...

    async def call(self, stage: Stage, *args: object) -> Any:
        """Call the callback of a stage and return its answer, whatever happens."""

    async def call_last(self, name: str) -> None:
        """Call ``abort`` or ``close``; no answer is waited for."""

    def failed(self, error: BaseException) -> Any:
        """Turn what left a callback into its answer; for use in an ``except`` block."""

    def answer(self, stage: Stage, response: Any, answer: bytes) -> None:
        """Send an answer that is not CONTINUE, or defer it where the stage has none.

        Args:
            stage: The stage.
            response: What the callback returned.
            answer: What a CONTINUE would have sent, empty if the stage has no answer.
        """

    def decided(self, response: Any) -> Coroutine[Any, Any, None] | None:
        """Answer the end of the message; return what is left to be awaited where a body comes from an async iterator."""

    async def last_of_body(self, event: BodyChunk) -> None:
        """Handle octets of the body that come in the packet of the end of the message."""

    async def unknown(self, event: Unknown) -> None:
        """Handle an SMTP command that the MTA does not know."""

    async def out_of_order(self, event: OutOfOrder) -> None:
        """Handle a command where it means nothing."""

    async def repeated(self, event: Repeated) -> None:
        """Handle more of a message that was decided."""


_Handle: TypeAlias = "Callable[[Session, Any], Coroutine[Any, Any, None]]"


class Session:
    """One connection with an MTA, from its first packet to its end.

    Args:
        make: Makes the handler of an SMTP connection.
        tables: Of the factory that makes them.
        options: Limits, time-outs and the answer to failures.
        observer: Hears what happens.
        channel: Writes, cancels and closes.
        answering: Makes what says what answers mean.
    """

    __slots__ = (
        "_began",
        "_make",
        "_measured",
        "_most_recipients",
        "_recipients_size",
        "_refusals",
        "_stray",
        "_suspension",
        "_tables",
        "active",
        "agreement",
        "answering",
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
        "streaming",
        "suspended",
        "transaction",
        "wire",
    )

    handles: "ClassVar[Mapping[type, _Handle]]"
    """What handles each event that has no step of its own."""

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
        self._tables = tables
        self.options: Options = options
        self.observer: Guard = observer
        self.debug: bool = observer.debug
        """Whether an observer wants to hear of each event, and of each answer."""
        self.channel: Channel = channel
        self.answering: Answering = answering(self)
        self.wire: Connection = Connection(
            options.max_frame_size, self.answering.rules, options.max_headers, options.max_headers_size
        )
        self.out: list[bytes] = ToldPackets(self.tell_answer) if self.debug else []
        self.over: bool = False
        self.draining: bool = False
        self.congested: bool = False
        """The MTA does not take what was written."""
        self.handler: Handler | None = None
        self.agreement: Agreement | None = None
        self.transaction: Transaction = Transaction(self)
        self.dispatch: Dispatch = NOT_AGREED
        """What the callbacks of a message are, and what CONTINUE is at each stage."""
        self.active: Mapping[type, Step] = _NOTHING
        """The steps of content; none while an answer is deferred or the body is skipped."""
        self.callback: str = ""
        """The name of the one that runs, or ran last."""
        self.suspended: bool = False
        """The callback that runs has suspended at least once."""
        self._suspension: Suspension | None = None
        self.deferred: Response | None = None
        """What a stage without an answer answered, for the first packet that has one."""
        self.connection_deferred: Response | None = None
        """The same of ``connect`` or ``helo``, for every message."""
        self.decision: Response = CONTINUE
        """How the message was decided."""
        self.streaming: bool = False
        """The new body has begun to leave: no PROGRESS may come in between (Postfix)."""
        self.edits: Edits | None = None
        """Of the end of message, also after a failure has taken them from the callback."""
        self._stray = False
        self._began = 0.0
        # How many recipients this message may have, how many were looked at, and their octets.
        self._most_recipients = options.max_recipients
        self._measured = self._recipients_size = 0
        # The recipients that were refused; none where none was, in most messages.
        self._refusals: Refusals | None = None

    # ------------------------------------------------------------------------------------------- for the transport

    @property
    def answers(self) -> Mapping[Stage, bytes]:
        """What CONTINUE is at each stage; nothing where it has no answer."""
        return self.dispatch.answers

    @property
    def idle(self) -> bool:
        """Whether no SMTP connection is open: none has begun yet, or another may follow a QUIT_NC."""
        return self.handler is None

    @property
    def kept(self) -> int:
        """Octets in memory that came and wait, or that are queued to be sent; macros and envelope where these are large."""
        size = self.wire.buffer.kept + (self.edits.kept if self.edits is not None else 0)
        return size + self.wire.macros_size + self.transaction.size + self._measure() if self.wire.large else size

    def let_go(self) -> None:
        """Drop what came and its macros: the connection has ended, but may wait for the collector of cycles."""
        self.wire.let_go()

    def where(self) -> Where:
        """Return where the session is, for the observer."""
        return self._where(self.wire.macro("i") or None)

    def seen_from_outside(self) -> Where:
        """Return where the session is: to another thread, so nothing may change."""
        return self._where(self.wire.peek("i") or None)

    def _where(self, queue_id: str | None) -> Where:
        client, channel = self.transaction.client, self.channel
        return Where(
            connection=channel.number,
            client=client.raw_address or client.hostname,
            callback=self.callback,
            queue_id=queue_id,
            peer=channel.peer,
            server=self.options.name,
            listener=channel.listener,
            filter="" if self.handler is None else self.answering.filter_name(),
        )

    # ------------------------------------------------------------------------------------------- callbacks that wait

    @property
    def suspension(self) -> Suspension:
        """What may happen to a callback that waits."""
        if self._suspension is None:
            self._suspension = Suspension(self)
        return self._suspension

    @property
    def cancelling(self) -> bool:
        """Whether the callback that waits was cancelled by us."""
        return self._suspension is not None and self._suspension.reason is not None

    def suspend(self) -> None:
        """Take note that the callback waits for something: from here on it can be cancelled, and has to end in time."""
        if not self.suspended:
            self.suspended = True
            self.suspension.begin()

    def resumed(self, response: Any) -> Any:
        """Take note that a callback that had suspended has ended, and return its answer."""
        self.suspended = False
        return response if self._suspension is None else self._suspension.resumed(response)

    def arrived(self, data: bytes) -> None:
        """Take octets that come while a callback waits."""
        self.wire.buffer.feed(data)
        if self._suspension is not None:
            self._suspension.arrived(data)

    def caught_up(self) -> None:
        """Take note that all that came was handled, after a callback had waited."""
        if self._suspension is not None:
            self._suspension.caught_up()

    def cancel(self, reason: Reason) -> None:
        """Cancel the callback that waits, if there is one, and if it ends for this reason."""
        if self._suspension is not None:
            self._suspension.cancel(reason)

    def hurry(self) -> None:
        """Give ``abort`` and ``close`` no more than ``cancel_timeout`` from now on: the server ends."""
        self.suspension.hurry()

    def stop_clock(self) -> None:
        """Disarm what is armed: no callback waits, nor will."""
        if self._suspension is not None:
            self._suspension.end()

    async def breathe(self) -> None:
        """Write what was answered, let others have their turn, and wait until the MTA has taken enough of what it got."""
        name, self.callback = self.callback, TURN
        with suppress(asyncio.CancelledError):
            await self.channel.turn()
        if self.suspended:
            self.resumed(None)
        self.callback = name

    # ---------------------------------------------------------------------------------------------- for the contexts

    def macro(self, name: str) -> str | None:
        """Return the value of a macro."""
        return self.wire.macro(name)

    def progress(self) -> bool:
        """Send PROGRESS for a callback that asks for it, and return whether that was possible."""
        stage = STAGE_OF.get(self.callback)
        if stage is None or self.cancelling or not self.answers[stage] or not self.suspension.takes_progress(stage):
            return False
        self.suspension.tell_progress()
        return True

    def remark(self, what: str) -> None:
        """Have something logged that the filter has done, and that will not do what it is meant to."""
        self.observer.tell(Misuse(self.where(), what))

    # ---------------------------------------------------------------------------------------------- for the observers

    def tell_answer(self, octets: bytes) -> None:
        """Tell of a packet that is to be sent."""
        self.observer.tell(AnswerSent(self.where(), answer_name(octets)))

    def tell_limit(self, limit: Limit, number: int, what: str) -> None:
        """Tell that a limit was reached."""
        self.observer.tell(LimitReached(self.where(), limit, number, OPTION_OF[limit], what))

    def tell_peer_error(self, kind: PeerErrorKind, what: str) -> None:
        """Tell what the peer did."""
        self.observer.tell(PeerError(self.where(), kind, what))

    def tell_failure(self, what: str, error: BaseException | None = None) -> None:
        """Tell that a callback failed."""
        self.observer.tell(CallbackFailed(self.where(), what, error))

    # ---------------------------------------------------------------------------------------------------- answering

    def on_error(self) -> Response:
        """Return the answer to a failure, one that the stage takes."""
        own = getattr(self.handler, "on_error", None)
        return self._by_policy(self.options.on_error if own is None else own)

    def on_timeout(self) -> Response:
        """Return the answer for a callback whose time is up, one that the stage takes."""
        own = getattr(self.handler, "on_timeout", None)
        policy = self.options.on_timeout if own is None else own
        return self.on_error() if policy is None else self._by_policy(policy)

    def _by_policy(self, policy: Any) -> Response:
        """Return what a policy says of this client, or TEMPFAIL where the stage does not take that."""
        if isinstance(policy, FailurePolicy):
            policy = policy.answer(self.transaction.client, bool(self.wire.macro("auth_authen")))
        if isinstance(policy, Verdict | Reply | Refusal) and is_legal(STAGE_OF.get(self.callback, Stage.EOM), policy):
            return cast(Response, policy)
        return TEMPFAIL

    def answer_step(self, stage: Stage, response: Any, answer: bytes) -> None:
        """Send the answer of a stage, or defer it; see :meth:`Answering.answer`."""
        if response is None or response is CONTINUE:
            if answer:
                self.out.append(answer)
        else:
            self.answering.answer(stage, response, answer)

    def defer(self, stage: Stage, response: Response) -> None:
        """Keep an answer of a stage that has none for the first packet that has one (P-095)."""
        self.deferred = TEMPFAIL if stage is Stage.RCPT else response
        if stage in (Stage.CONNECT, Stage.HELO):
            self.connection_deferred = response
        self.active = _NOTHING

    def skip_body(self) -> None:
        """Call no callback for content any more: nothing but body and end of message can follow."""
        self.active = _NOTHING

    def give_deferred(self, stage: Stage, recipient: Rcpt | None = None) -> bool:
        """Return whether an answer is deferred; if this stage has an answer, give it.

        A refusal given to a recipient does not end the message: it stays deferred for the next.
        """
        if not self.transaction.in_message:
            self._begin_message(None)  # its MAIL was negotiated away
        if self.deferred is None:
            return False
        if self.answers[stage]:
            self.out.append(self.deferred.packet)
            if ends_message(stage, self.deferred):
                self.decide(self.deferred)
            elif recipient is not None:
                self._refused(recipient, self.deferred)
        return True

    # -------------------------------------------------------------------------------------------------- the message

    def _begin_message(self, sender: Mail | None) -> None:
        self.transaction.begin(sender)
        self._began = monotonic()
        if self.deferred is None:
            self.active = self.dispatch.content

    def decide(self, response: Response) -> None:
        """End the message with an answer of ours."""
        self.decision = response
        self.end_message(response)
        self.wire.decide()

    def end_message(self, answer: Any, sent: Edits | Sequence[bytes] | None = None) -> None:
        """Tell the observer, call what was registered with ``on_end``, and forget the message.

        Args:
            answer: What ended it; None for an ABORT.
            sent: The edits that were sent, or their packets.
        """
        transaction = self.transaction
        self.observer.message_ended(lambda: self._summary(answer, sent))
        if transaction.endings is not None:
            self.channel.flush()
            for function, args in transaction.endings:
                try:
                    function(*args)
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    self.tell_failure("a function given to on_end raised", error)
        if transaction.refused:
            self._refusals = None
        transaction.end()
        if self.channel.memory.messages:
            self.channel.memory.messages.discard(self)
        self.deferred = self.connection_deferred
        self.streaming = False

    def _summary(self, answer: Any, sent: Edits | Sequence[bytes] | None) -> MessageEnded:
        transaction = self.transaction
        edits, edit_count, quarantine = sent_edits(sent)
        declined = () if self.agreement is None else self.agreement.declined
        asked = Stage.RCPT not in declined or transaction.recipients
        return MessageEnded(
            where=self.where(),
            helo=transaction.helo,
            sender=None if transaction.sender is None else transaction.sender.address,
            recipients=tuple(rcpt.address for rcpt in transaction.recipients) if asked else None,
            refused=tuple(self._refusals or ()),
            refused_count=transaction.refused,
            answer="abort" if answer is None else answer_text(answer),
            reason=reason_of(answer),
            edits=edits,
            edit_count=edit_count,
            quarantine=quarantine,
            duration=monotonic() - self._began,
        )

    def mail(self, event: Mail) -> Step | None:
        """Begin a message, and return its step; none if it was answered."""
        self._begin_message(event)
        if self.deferred is not None and self.give_deferred(Stage.MAIL):
            return None
        return self._fits() if self.channel.memory.busy else self.dispatch.envelope[Mail]

    def _fits(self) -> Step | None:
        """Return the step of a message if the server takes it in; else answer."""
        step = self.dispatch.envelope[Mail]
        self.callback = CALLBACKS[Stage.MAIL]
        if self.channel.memory.full:
            response = self.on_error()
        elif not self.channel.memory.begin(self):
            response = Reply(452, "4.3.2", "Too many messages at once")
        else:
            return step
        if response is CONTINUE:
            return step
        self.answering.answer(Stage.MAIL, response if step[1] else TimedOut(response, sent=False), step[1])
        return None

    def rcpt(self, event: Rcpt) -> Step | None:
        """Return the step of a recipient; none if it was answered."""
        transaction = self.transaction
        if (self.deferred is not None or not transaction.in_message) and self.give_deferred(Stage.RCPT, event):
            return None
        count = len(transaction.recipients) + transaction.refused
        if not count:
            self._most_recipients = self.options.max_recipients
            self._measured = self._recipients_size = 0
        if count < self._most_recipients and (count & 15 != 15 or self._measures(count)):
            return self.dispatch.envelope[Rcpt]
        if count == self._most_recipients:
            self.tell_limit(Limit.RECIPIENTS, self.options.max_recipients, "more recipients than allowed")
        response = Reply(452, "4.5.3", "Too many recipients")
        self.recipient(event, response)
        self.answer_step(Stage.RCPT, response, self.answers[Stage.RCPT])
        return None

    def _measures(self, count: int) -> bool:
        """Look at the octets of recipients, now and then: only a hostile peer sends any that are not small."""
        size = self._measure()
        if size > 16 * LARGE:
            self.wire.large = True
        if size <= self.options.max_recipients * _RECIPIENT_SIZE:
            return True
        self._most_recipients = count
        return False

    def _measure(self) -> int:
        """Return the octets that the recipients of the message take, each of which is looked at once."""
        recipients = self.transaction.recipients
        refused = 0 if self._refusals is None else self._refusals.size
        if not recipients:
            return refused
        for rcpt in islice(recipients, self._measured, None):
            self._recipients_size += _TEXT_SIZE + len(rcpt.path) + sum(map(len, rcpt.params))
            self._recipients_size += _TEXT_SIZE * len(rcpt.params)
        self._measured = len(recipients)
        return self._recipients_size + refused

    def recipient(self, event: Rcpt, response: Any) -> None:
        """Take note of what became of a recipient."""
        if response is not None and response is not CONTINUE and self._refuses(event, response):
            return
        # Else the MTA refuses it itself.
        if not self.dispatch.sees_rejected or self.wire.macro("rcpt_mailer") != "error":
            self.transaction.recipients.append(event)

    def _refuses(self, event: Rcpt, response: Any) -> bool:
        """Return whether an answer refuses a recipient, and take note of one that it does."""
        if isinstance(response, TimedOut):
            response = response.response
        if not isinstance(response, Verdict | Reply | Refusal) or not is_legal(Stage.RCPT, response):
            response = self.on_error()  # what is answered for an answer that is none
        if isinstance(response, Verdict) and response in PASSING:
            return False
        self._refused(event, response)
        return True

    def _refused(self, event: Rcpt, response: Any) -> None:
        if self._refusals is None:
            self._refusals = Refusals()
        self.transaction.refused += 1
        self._refusals.add(event, response)

    async def _content(self, event: Header | BodyChunk | Data | EndOfHeaders) -> None:
        """Handle content while an answer is deferred, or the body is skipped."""
        stage = CONTENT_STAGES[type(event)]
        if isinstance(event, BodyChunk) and event.with_end:
            if self.active:
                await self.answering.last_of_body(event)
        elif not self.give_deferred(stage):
            self.answer_step(stage, None, self.answers[stage])

    async def _too_many(self, event: TooMany) -> None:
        """Refuse a message with too many header fields, once."""
        if not self.active:
            if not self.give_deferred(Stage.HEADER):
                self.answer_step(Stage.HEADER, None, self.answers[Stage.HEADER])
            return
        self.callback = CALLBACKS[Stage.HEADER]
        self.tell_limit(Limit.HEADERS, self.options.max_headers, "more header fields than allowed")
        response = Reply(552, "5.3.4", "Message header too large")
        self.answering.answer(Stage.HEADER, response, self.answers[Stage.HEADER])

    async def _unknown(self, event: Unknown) -> None:
        await self.answering.unknown(event)

    async def abort(self, event: Abort) -> None:
        """End the message without an answer."""
        await self.answering.call_last("abort")
        self.callback = "abort"
        self.end_message(None)
        self.wire.end_message()

    async def _repeated(self, event: Repeated) -> None:
        await self.answering.repeated(event)

    async def _out_of_order(self, event: OutOfOrder) -> None:
        await self.answering.out_of_order(event)

    def tell_stray(self, command: Command, place: str, response: Response) -> None:
        """Tell once of what belongs to no message, or has broken one up."""
        if not self._stray:
            self._stray = True
            what = f"{command.name} came {place}; answered {answer_text(response)}"
            self.tell_peer_error(PeerErrorKind.ORDER, what)

    # ---------------------------------------------------------------------------------------------- the connection

    def made_handler(self, kind: type) -> bool:
        """Make the handler of an SMTP connection at its first event; return whether the event is to be handled."""
        if kind in _NEEDS_NO_HANDLER:
            return True
        try:
            self.handler = self._make()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            self.tell_failure("the factory raised; closing", error)
            self.over = True
            return False
        if self.agreement is not None:
            self._equip(self.handler, self.agreement)
        self.answering.begin()
        return True

    def _equip(self, handler: Handler, agreement: Agreement) -> None:
        self.dispatch = self._tables.table(handler, agreement)
        self.active = self.dispatch.content

    async def _negotiate(self, offer: Negotiate) -> None:
        agreed = await self.answering.negotiate(offer)
        if agreed is None:
            self.over = True
            return
        self.agreement, octets = agreed
        assert self.handler is not None
        self.wire.agreed(self.agreement)
        self._equip(self.handler, self.agreement)
        self.out.append(octets)

    def agree(self, offer: Negotiate) -> tuple[Agreement, bytes]:
        """Return what the handler and the MTA agree on, and the packet that says so; errors as of :func:`agree`."""
        assert self.handler is not None
        return self._tables.agree(self.handler.wants, offer)

    async def _connect(self, event: Connect) -> None:
        self.transaction.client = event
        await self._ask_about_client(Stage.CONNECT, event)

    async def _helo(self, event: Helo) -> None:
        self.transaction.helo = event.name
        await self._ask_about_client(Stage.HELO, event)

    async def _ask_about_client(self, stage: Stage, event: Connect | Helo) -> None:
        answer = self.answers[stage]
        if self.deferred is not None:
            if answer:
                self.out.append(self.deferred.packet)
                self.deferred = self.connection_deferred = None
            return
        response = await self.answering.call(stage, event)
        self.answer_step(stage, response, answer)
        if isinstance(response, TimedOut):
            response = response.response
        if isinstance(response, Verdict | Reply | Refusal) and response is not CONTINUE:
            self.observer.tell(ClientRefused(self.where(), answer_text(response), reason_of(response)))

    def callback_for(self, stage: Stage) -> Callable[..., Any] | None:
        """Return the handler's callback for a stage; those that are called once a connection are not worth being kept."""
        handler = self.handler
        if handler is None or stage not in handler.wants.stages:
            return None
        return _coroutine_function(cast(Callable[..., Any], getattr(handler, CALLBACKS[stage])))

    async def _quit(self, event: Quit) -> None:
        self.over = True

    async def _quit_new_connection(self, event: QuitNewConnection) -> None:
        await self._end_connection()
        self.wire.end_connection()
        self.over = self.over or self.draining

    async def _end_connection(self) -> None:
        """Run the callbacks that a connection ends with; nothing if it never began, or has ended."""
        if self.handler is None:
            return
        if self.wire.message_open:
            await self.abort(_ABORT)
        await self.answering.call_last("close")
        self.handler = None
        self.active = _NOTHING
        self.deferred = self.connection_deferred = None
        self.transaction.leave()

    async def finish(self) -> None:
        """End the connection: write what is left, run the callbacks it ends with, and close it."""
        self.over = True
        self.channel.flush()
        await self._end_connection()
        self.channel.close()
        self.stop_clock()


def _coroutine_function(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Return a callback that makes a coroutine, which the driver needs, whatever else may be awaited."""
    if getattr(getattr(callback, "__code__", None), "co_flags", 0) & CO_COROUTINE:
        return callback

    async def call(*args: object) -> Any:
        return await callback(*args)

    return call


Session.handles = {
    Negotiate: Session._negotiate,
    Connect: Session._connect,
    Helo: Session._helo,
    Data: Session._content,
    Header: Session._content,
    EndOfHeaders: Session._content,
    BodyChunk: Session._content,
    Unknown: Session._unknown,
    TooMany: Session._too_many,
    Abort: Session.abort,
    Repeated: Session._repeated,
    OutOfOrder: Session._out_of_order,
    Quit: Session._quit,
    QuitNewConnection: Session._quit_new_connection,
}
