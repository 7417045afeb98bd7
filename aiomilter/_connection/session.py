"""One connection's life: event, callback, answer; and what happens when any of them goes wrong.

:meth:`Session.drive` is the hot path, one coroutine per connection: a callback that does not suspend costs neither task, future
nor turn of the loop.  It knows no transport: a :class:`Channel` writes, cancels and closes for it.

This is the one place that calls a user's callback, and so the one that catches whatever leaves it.  One piece, although
long: every part reads and writes the same few fields of one connection, and a border would put calls on the hot path.
"""

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine, Generator, Mapping
from contextlib import suppress
from functools import lru_cache
from inspect import CO_COROUTINE, getattr_static, iscoroutine
from itertools import islice
from sys import getrefcount
from time import monotonic
from types import FunctionType, coroutine
from typing import Any, ClassVar, Final, Protocol, TypeAlias, TypeVar, cast

from aiomilter._budget import Budget
from aiomilter._connection.deadlines import Deadlines
from aiomilter.context import Context, EndOfMessageContext, Scene
from aiomilter.edits import Edits, body_packets
from aiomilter.exceptions import (
    LocalProtocolError,
    NegotiationError,
    RemoteProtocolError,
    ResolverError,
    StoreError,
    TemporaryFailure,
)
from aiomilter.failures import FailurePolicy
from aiomilter.handler import CALLBACKS, overrides
from aiomilter.observe import MessageSummary, Observer, Where
from aiomilter.options import Options
from aiomilter.wire.connection import NO_EVENTS, Connection, OutOfOrder, Repeated, TooMany
from aiomilter.wire.constants import BODY_CHUNK_SIZE, Command, ReplyCode, Stage
from aiomilter.wire.constants import Protocol as Flag
from aiomilter.wire.events import (
    Abort,
    BodyChunk,
    Connect,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Header,
    Helo,
    Mail,
    Negotiate,
    NegotiateAnswer,
    Quit,
    QuitNewConnection,
    Rcpt,
    Unknown,
)
from aiomilter.wire.framing import HEAD, packet
from aiomilter.wire.modifications import Progress
from aiomilter.wire.negotiation import Agreement, Wants, agree
from aiomilter.wire.reader import read
from aiomilter.wire.replies import ACCEPT, CONTINUE, DISCARD, SKIP, TEMPFAIL, Reply, Response, Verdict
from aiomilter.wire.state import NATIVE, Rules, ends_message, is_legal

__all__ = ["MORE", "MUCH", "Channel", "Handler", "Session", "answers_of"]


class Handler(Protocol):
    """What a session calls: an object with ``wants`` and the callbacks these name; a :class:`aiomilter.Milter` is one."""

    @property
    def wants(self) -> Wants:
        """What to ask of the MTA."""
        ...


class Channel(Protocol):
    """What a session needs of the side that holds the transport."""

    number: int
    """Of the connection, for the log."""
    peer: str
    """Who is at the other end, for the log; "" if not known."""
    budget: Budget
    """What all connections may keep."""

    def kept(self) -> None:
        """Take note of what is kept for longer than this batch."""

    def flush(self) -> None:
        """Write what is in ``Session.out`` now."""

    async def drain(self) -> None:
        """Wait until the MTA has taken enough of what was written."""

    async def turn(self) -> None:
        """Write what is in ``Session.out``, and let others have their turn."""

    def cancel(self) -> None:
        """Cancel what the suspended callback waits for."""

    def uncancel(self) -> None:
        """Take note that the cancellation has arrived."""

    def time(self) -> float:
        """Return the time of the event loop."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Have a function called after a time."""
        ...

    def close(self) -> None:
        """Close the connection once what was written has left."""

    def give_up(self) -> None:
        """Close the connection at once, and let nobody wait for the callback that does not end."""


_AnyContext = TypeVar("_AnyContext", bound=Context)
_Callback: TypeAlias = Callable[..., Any]
_Step: TypeAlias = tuple[_Callback | None, bytes, str, Stage]
"""Callback, to be given the handler first; what CONTINUE is; the callback's name; the step."""
_Steps: TypeAlias = tuple[Mapping[Stage, _Step], Mapping[type, _Step]]


class _Cancelled:
    """What a callback answered that we have cancelled: nothing of its own; the message stays open for ``abort``."""

    def __init__(self, answered: bool) -> None:
        self.answered = answered


_CANCELLED: Final = _Cancelled(answered=True)
"""The MTA still waits for an answer."""
_GONE: Final = _Cancelled(answered=False)
"""Nobody waits any more."""


class _Given:
    """What was answered for a callback whose time was up.

    Args:
        response: The answer.
        sent: Whether it has left; if not, the callback's step has no answer, and it is remembered.
    """

    __slots__ = ("response", "sent")

    def __init__(self, response: Response, sent: bool) -> None:
        self.response = response
        self.sent = sent


MORE: Final = object()
"""What :meth:`Session.drive` gives when it has handled all that has come."""

_CONTINUE: Final = CONTINUE.packet
_PROGRESS: Final = packet(Progress.CODE)
_new = Context.__new__


def _alone() -> int:
    context = _new(Context)
    return getrefcount(context)


_ALONE: Final = _alone()
"""What ``getrefcount`` says of a context that nobody but one local name holds."""
# Looked up here once: an attribute of an Enum is a call in Python 3.11, and an operation on its flags several.
_MAIL: Final = Stage.MAIL
_RCPT: Final = Stage.RCPT
_EOM: Final = Stage.EOM
_REJECTED_RECIPIENTS: Final = int(Flag.REJECTED_RECIPIENTS)
_STAGE_OF: Final = {stage.command: stage for stage in Stage}
_STAGE_NAMED: Final = {name: stage for stage, name in CALLBACKS.items()}
_RECIPIENT_SIZE: Final = 1024
"""Octets that ``max_recipients`` allows for each, on average; a path has 256 (RFC 5321 section 4.5.3.1.3), ORCPT 500."""
_TEXT_SIZE: Final = 64
"""Octets that a short text takes besides its characters, with its place in a tuple: many small ESMTP parameters are dear."""
_LARGE: Final = 1024
"""Octets of a packet, the body aside, from which on a connection is one whose macros and envelope are counted."""
# Answers that do not refuse a recipient.
_TAKEN: Final = (CONTINUE, ACCEPT, DISCARD)
# The events whose callbacks need nothing but their answer sent.
_PLAIN: Final = {Header: Stage.HEADER, BodyChunk: Stage.BODY, Data: Stage.DATA, EndOfHeaders: Stage.EOH}
_HEADER: Final = int(Command.HEADER)
_BODY: Final = int(Command.BODY)
_DATA: Final = int(Command.DATA)
_EOH: Final = int(Command.EOH)
_BODYEOB: Final = int(Command.BODYEOB)
_CONTENT: Final = frozenset((_HEADER, _BODY, _BODYEOB))
_UNPACK: Final = HEAD.unpack_from
_RCPT_CODE: Final = int(Command.RCPT)
_MACRO: Final = int(Command.MACRO)
_MOST_AT_ONCE: Final = 500
"""Packets of one batch after which others have their turn; MTAs send no more together than a message has recipients."""
MUCH: Final = 65_536
"""Octets of answers that are not piled up any higher before the MTA has taken some."""
_MOST_KNOWN: Final = 64
"""What is found out of those who want the same is kept for so many offers of MTAs."""
# ABORT cancels these; the others belong to the connection.
_OF_MESSAGE: Final = frozenset({"envfrom", "envrcpt", "data", "header", "eoh", "body", "eom"})
_LAST: Final = frozenset({"abort", "close"})
_TURN: Final = "turn"
"""In the place of a callback's name while others have their turn."""


class Session:
    """One connection with an MTA, from its first packet to its end.

    Args:
        make: Makes the handler of an SMTP connection.
        options: Limits, time-outs and the answer to failures.
        observer: Hears what happens; it must not raise.
        channel: Writes, cancels and closes.
    """

    __slots__ = (
        "_agreement",
        "_answers",
        "_asked",
        "_began",
        "_budget",
        "_callback",
        "_cancel",
        "_channel",
        "_deadlines",
        "_debug",
        "_decision",
        "_edit_limits",
        "_edits",
        "_given",
        "_handler",
        "_hurries",
        "_make",
        "_measured",
        "_most_recipients",
        "_observer",
        "_of_client",
        "_options",
        "_plain",
        "_recipients_size",
        "_remembered",
        "_scene",
        "_sees_rejected",
        "_short_way",
        "_stray",
        "_streaming",
        "_waited",
        "congested",
        "draining",
        "out",
        "over",
        "wire",
    )

    _rules: ClassVar[Rules] = NATIVE
    # What handles each event: tables that a session under other rules replaces.
    _asks: "ClassVar[Mapping[type, Callable[[Any, Any], _Step | None]]]"
    _steps: "ClassVar[Mapping[type, Callable[[Any, Any], Any]]]"

    def __init__(self, make: Callable[[], Handler], options: Options, observer: Observer, channel: Channel) -> None:
        self._make = make
        self._options = options
        self._observer = observer
        self._channel = channel
        self._budget = channel.budget
        self._debug = observer.debug
        self.wire: Connection = Connection(
            options.max_frame_size, self._rules, options.max_headers, options.max_headers_size
        )
        self.out: list[bytes] = []
        self.over: bool = False
        self.draining: bool = False
        # The MTA does not take what was written.
        self.congested: bool = False
        self._hurries = False
        self._handler: Handler | None = None
        self._agreement: Agreement | None = None
        self._scene = Scene(self)
        # How each plain event is handled; empty while an answer is remembered or the body is skipped.
        self._asked: Mapping[Stage, _Step] = {}
        self._short_way: Mapping[type, _Step] = {}
        self._plain: Mapping[type, _Step] = {}
        self._answers: Mapping[Stage, bytes] = {}
        self._callback = ""
        # The callback that runs has suspended at least once; why it was cancelled, and what was answered for it then.
        self._waited = False
        self._deadlines: Deadlines | None = None
        self._cancel: str | None = None
        self._given: _Given | None = None
        # What a step without an answer answered, and connect or helo did so, for all messages; how the message was decided.
        self._remembered: Response | None = None
        self._of_client: Response | None = None
        self._decision: Response = CONTINUE
        # The new body has begun to leave: no PROGRESS may come in between (Postfix).
        self._streaming = False
        self._stray = False
        self._sees_rejected = False
        self._edit_limits = (0, False, 1, 1, 1)
        # Of the end of message, also after a failure has taken them from the callback.
        self._edits: Edits | None = None
        self._began = 0.0
        # How many recipients this message may have, how many were looked at, and their octets.
        self._most_recipients = options.max_recipients
        self._measured = self._recipients_size = 0

    # ------------------------------------------------------------------------------------------------ the hot path

    @coroutine
    def drive(self) -> Generator[Any, bytes, None]:
        """Handle what the MTA sends, for as long as the connection lives; end when it is over.

        A generator that awaits the callbacks and gives :data:`MORE` whenever it needs more octets, which are then sent into
        it.  It lives as long as the connection, since to begin and end a coroutine for each batch of packets, with its
        locals, would cost as much as all else that a batch does.
        """
        wire, buffer, out, debug = self.wire, self.wire.buffer, self.out, self._debug
        asks, steps = self._asks, self._steps
        context, editing = _new(Context), _new(EndOfMessageContext)
        context._scene = editing._scene = self._scene
        event: Any
        step: Any
        response: Any
        kept = False
        # Batches since others had their turn.
        batches = 0
        try:
            while not self.over:
                batch = read(wire) if buffer.pos < buffer.end or buffer.parts else None
                if not batch:
                    # An idle connection keeps nothing of what it has read, nor a filter whose client has left.
                    event = step = response = callback = None
                    batches = 0
                    if batch is None and not kept and not wire.large:
                        buffer.data, wire.batch = b"", NO_EVENTS
                        buffer.data = data = yield MORE
                        buffer.pos, buffer.end, data = 0, len(data), b""
                    else:
                        kept = self._keeps()
                        buffer.feed((yield MORE))
                    continue
                batches += 1
                if batches > _MOST_AT_ONCE:
                    batches = 0
                    yield from cast(Any, self._breathe())
                wire.events = iter(batch)
                for event in wire.events:
                    kind = type(event)
                    if debug and kind is not list and kind is not bytes:
                        self._observer.event(self.where(), event)
                    step = self._plain.get(kind)
                    if step is None or (kind is BodyChunk and event.with_end):
                        if kind is bytes:
                            wire.keep_macros(event)
                            continue
                        if kind is list:
                            yield from self._header_fields(event)
                            if self.over:
                                break  # type: ignore[unreachable]
                            continue
                        if self._handler is None and not self._arrived(kind):
                            break
                        ask = asks.get(kind)
                        if ask is None:
                            yield from steps[kind](self, event)
                            if self.over:
                                break  # type: ignore[unreachable]
                            if wire.last_of_body:
                                batch.append(wire.end_of_message())  # the loop comes to it
                            continue
                        step = ask(self, event)
                        if step is None:
                            continue
                    callback, answer, self._callback, stage = step
                    response = None
                    if callback is not None:
                        try:
                            if kind is BodyChunk:
                                response = yield from callback(self._handler, context, event.chunk)
                            elif kind is EndOfMessage:
                                response = yield from callback(self._handler, editing)
                            elif kind is Data or kind is EndOfHeaders:
                                response = yield from callback(self._handler, context)
                            else:
                                response = yield from callback(self._handler, context, event)
                        except BaseException as error:
                            response = self._failed(error)
                        if getrefcount(context) > _ALONE:
                            context = self._another(context)
                        if self._waited:
                            response = self._resumed(response)
                    if kind is EndOfMessage:
                        if getrefcount(editing) > _ALONE:
                            editing = self._another(editing)
                        rest = self._decided(response)
                        if rest is not None:
                            yield from rest
                        continue
                    if kind is Rcpt:
                        self._recipient(event, response)
                    if response is None or response is CONTINUE:
                        if answer:
                            out.append(answer)
                    else:
                        self._answer(stage, response, answer)
                    if self.over:
                        break  # type: ignore[unreachable]
        except RemoteProtocolError as error:
            what = str(error)
            # What was expected is ours to say, what was found the peer's.
            self._observer.peer_error(self.where(), what.partition(" found")[0], what)
        finish: Any = self._finish()
        yield from finish

    @coroutine
    def _header_fields(self, fields: list[Header]) -> Generator[Any, Any, None]:
        """Handle header fields that have come together."""
        context = _new(Context)
        context._scene = self._scene
        rest = self.wire.fields = iter(fields)
        step = self._plain.get(Header)
        debug = self._debug
        if step is not None:
            callback, answer, self._callback, stage = step
            handler: Any = self._handler
            for event in rest:
                if debug:
                    self._observer.event(self.where(), event)
                if callback is None:
                    response = None
                else:
                    try:
                        response = yield from callback(handler, context, event)
                    except BaseException as error:
                        response = self._failed(error)
                    if getrefcount(context) > _ALONE:
                        context = self._another(context)
                    if self._waited:
                        response = self._resumed(response)
                        if self.over:
                            self._answer_step(stage, response, answer)
                            return
                if response is not None and response is not CONTINUE:
                    self._answer(stage, response, answer)
                    break
        handle: Any = self._steps[Header]
        for event in rest:
            if self.over:
                return
            if debug:
                self._observer.event(self.where(), event)
            yield from handle(self, event)

    def _keeps(self) -> bool:
        """Tell what is kept until more octets come; return whether that is an unfinished packet."""
        buffer = self.wire.buffer
        unfinished = buffer.pos < buffer.end or bool(buffer.parts)
        if not unfinished:
            buffer.data, buffer.pos, buffer.end = b"", 0, 0
            self.wire.batch = NO_EVENTS
        self._channel.kept()
        return unfinished

    async def _breathe(self) -> None:
        """Write what was answered, let others have their turn, and wait until the MTA has taken enough of what it got."""
        name, self._callback = self._callback, _TURN
        with suppress(asyncio.CancelledError):
            await self._channel.turn()
        if self._waited:
            self._resumed(None)
        self._callback = name

    def _another(self, context: _AnyContext) -> _AnyContext:
        """Return a context for the callbacks that follow: the last one has kept its own, which is to be dead from now on."""
        context._scene = None
        context = _new(type(context))
        context._scene = self._scene
        return context

    # ------------------------------------------------------------------------------------ failures and cancellation

    def _failed(self, error: BaseException) -> Any:
        """Turn what left a callback into its answer; for use in an ``except`` block."""
        if isinstance(error, KeyboardInterrupt | GeneratorExit):
            raise error
        if self._cancel is not None and isinstance(error, asyncio.CancelledError):
            return None  # what we asked for; _resumed knows why
        self._scene.edits = None  # with a failure none is sent, whatever on_error says
        temporary = _temporary(error)
        if temporary is not None:
            kind = "temporary failure" if isinstance(temporary, TemporaryFailure) else type(temporary).__name__
            self._observer.remarked(self.where(), f"{kind}: {_said(temporary)!a:.500}")
        else:
            self._observer.failed(self.where(), f"{type(error).__name__} left the callback", error)
        return self._on_error()

    @property
    def kept(self) -> int:
        """Octets in memory that came and wait, or that are queued to be sent; macros and envelope where these are large."""
        edits = self._edits
        size = self.wire.buffer.kept + (edits.kept if edits is not None else 0)
        return size + self.wire.macros_size + self._scene.size + self._measure() if self.wire.large else size

    def let_go(self) -> None:
        """Drop what came and what was lent: the connection has ended, but may wait for the collector of cycles."""
        self.wire.let_go()

    @property
    def idle(self) -> bool:
        """Whether no SMTP connection is open: none has begun yet, or another may follow a QUIT_NC."""
        return self._handler is None

    def suspended(self) -> None:
        """Take note that the callback waits for something: from here on it can be cancelled, and has to end in time."""
        if self._waited:
            return
        self._waited = True
        if self._deadlines is None:
            self._deadlines = Deadlines(self, self._options, self._channel)
        name, wire, options = self._callback, self.wire, self._options
        stage = _STAGE_NAMED.get(name)
        seconds = None if name == _TURN else options.callback_timeout
        asked = None
        if stage is not None:
            seconds = (options.callback_timeouts or {}).get(stage, seconds)
            if name == "body" and wire.last_of_body:
                asked = _EOM  # it came in the packet of the end
            elif self._answers[stage]:
                asked = stage
        until = frozenset() if self.over else wire.answered
        abort, left = name in _OF_MESSAGE, wire.waiting
        lookahead = self._deadlines.walker(abort, until, left) or wire.lookahead(abort, until)
        found = self._deadlines.suspended(name, seconds, asked, lookahead, left)
        if found is not None:
            self.leaving(found)
        if self._hurries and name in _LAST:
            self._deadlines.hurry()

    def arrived(self, data: bytes) -> None:
        """Take octets that come while a callback waits."""
        self.wire.buffer.feed(data)
        found = self._deadlines.arrived(data) if self._deadlines is not None else None
        if found is not None:
            self.leaving(found)

    def caught_up(self) -> None:
        """Take note that all that came was handled, after a callback had waited."""
        if self._deadlines is not None:
            self._deadlines.caught_up()

    def stop_clock(self) -> None:
        """Disarm what is armed: no callback waits, nor will."""
        if self._deadlines is not None:
            self._deadlines.end()

    def _resumed(self, response: Any) -> Any:
        """Take note that a callback that had suspended has ended, and return its answer."""
        self._waited = False
        if self._deadlines is not None:
            self._deadlines.resumed()
        reason, self._cancel = self._cancel, None
        if reason is None:
            return response
        self._channel.uncancel()
        self.over = self.over or reason in ("lost", "stop")
        if self._given is not None:
            given, self._given = self._given, None
            return given
        return _CANCELLED if reason in ("abort", "stop") else _GONE

    def cancel(self, reason: str) -> None:
        """Cancel the callback that waits, if it is one that ends for this reason.

        Args:
            reason: "abort", "quit", "lost", "stop" or "timeout".
        """
        if not self._waited:
            return
        if self._callback in _LAST and reason != "timeout":
            return
        if self._cancel is not None:
            self._cancel = reason if reason == "lost" else self._cancel
            return
        self._cancel = reason
        if self._deadlines is not None:
            self._deadlines.cancelled()
        self._channel.cancel()

    def hurry(self) -> None:
        """Give ``abort`` and ``close`` no more than ``cancel_timeout`` from now on: the server ends."""
        self._hurries = True
        if self._deadlines is not None and self._callback in _LAST:
            self._deadlines.hurry()

    def leaving(self, code: int) -> None:
        """Take note of an ABORT, QUIT or QUIT_NC that waits behind the callback."""
        # Only after QUIT does nobody count answers any more.
        self.cancel("quit" if code == Command.QUIT else "abort")

    def expire(self, limit: str, unanswered: bool) -> None:
        """Answer for the callback that waits, at once, and cancel it; what it answers after all does not count.

        Args:
            limit: What did not happen in time, a sentence.
            unanswered: Whether the MTA still waits for the answer of its packet.
        """
        scene, name = self._scene, self._callback
        # Edits, or some of a new body, may have left: whatever on_timeout says, that may not pass.
        response = TEMPFAIL if name == "eom" and scene.edits is None else self._on_timeout()
        scene.edits = None  # with a failure none is sent, whatever on_timeout says
        sent = unanswered and not (name == "body" and self.wire.last_of_body)
        self._given = _Given(response, sent)
        if sent:
            self.out.append(response.packet)
            self._channel.flush()
        answered = f", answered {_text(response)}" if sent else ""
        self._observer.failed(self.where(), f"{limit}; cancelled{answered}", None)
        self.cancel("timeout")

    def stuck(self) -> None:
        """Close the connection of a callback that was cancelled and has not ended."""
        what = f"the callback did not end within {self._options.cancel_timeout:g} s of its cancellation; closing"
        self._observer.failed(self.where(), what, None)
        self.over = True
        self._channel.give_up()

    # ---------------------------------------------------------------------------------------------------- answering

    def _answer(self, stage: Stage, response: Any, answer: bytes) -> None:
        """Send an answer that is not CONTINUE, or remember it where the step has none.

        Args:
            stage: The step.
            response: What the callback returned.
            answer: What a CONTINUE would have sent, empty if the step has no answer.
        """
        if isinstance(response, _Cancelled):
            if answer and response.answered:
                self.out.append(self._on_error().packet)
            if self._callback in _OF_MESSAGE:
                # Only steps without answer can come before what has cancelled it; they do not reach the filter.
                self._remembered = TEMPFAIL
                self._plain = {}
            return
        if isinstance(response, _Given):
            if response.sent:
                if ends_message(stage, response.response):
                    self._decide(response.response)
            elif response.response is not CONTINUE and stage is not Stage.UNKNOWN:
                self._keep(stage, response.response)
            return
        if not isinstance(response, Verdict | Reply) or not is_legal(stage, response):
            response = self._refused(response)
            if response is CONTINUE:
                if answer:
                    self.out.append(answer)
                return
        if response is SKIP:
            self._skip(answer)
            return
        if not answer:
            self._remember(stage, response)
            return
        self.out.append(response.packet)
        if ends_message(stage, response):
            self._decide(response)

    def _refused(self, response: Any) -> Response:
        """Note an answer that is none, or none that this step takes, and return what to answer instead."""
        hint = ""
        if iscoroutine(response):
            response.close()
            hint = "; is an await missing?"
        found = repr(response) if isinstance(response, Verdict | Reply | bool | int | str) else type(response).__name__
        what = f"expected a verdict or Reply that this step takes, or None, found {found:.100}{hint}"
        self._observer.failed(self.where(), what, None)
        return self._on_error()

    def _on_error(self) -> Response:
        """Return the answer to a failure, one that the step takes."""
        own = getattr(self._handler, "on_error", None)
        return self._of_policy(self._options.on_error if own is None else own)

    def _on_timeout(self) -> Response:
        """Return the answer for a callback whose time is up, one that the step takes."""
        own = getattr(self._handler, "on_timeout", None)
        policy = self._options.on_timeout if own is None else own
        return self._on_error() if policy is None else self._of_policy(policy)

    def _of_policy(self, policy: Any) -> Response:
        """Return what a policy says of this client, or TEMPFAIL where the step does not take that."""
        if isinstance(policy, FailurePolicy):
            policy = policy.answer(self._scene.client, bool(self.wire.macro("auth_authen")))
        if isinstance(policy, Verdict | Reply) and is_legal(_STAGE_NAMED.get(self._callback, Stage.EOM), policy):
            return cast(Response, policy)
        return TEMPFAIL

    def _skip(self, answer: bytes) -> None:
        if answer and self._agreement is not None and self._agreement.skip:
            self.out.append(SKIP.packet)
        elif answer:
            self.out.append(answer)
        self._plain = {}  # nothing but body and end of message can follow

    def _remember(self, stage: Stage, response: Response) -> None:
        """Keep an answer of a step that has none for the first packet that has one (P-095)."""
        if stage is Stage.UNKNOWN:  # the command fails anyway, and what comes next is none of its concern
            self._observer.remarked(self.where(), "answered a step that gets no reply; the answer is dropped")
            return
        self._observer.remarked(self.where(), "answered a step that gets no reply; given at the next that does")
        self._keep(stage, response)

    def _keep(self, stage: Stage, response: Response) -> None:
        self._remembered = TEMPFAIL if stage is Stage.RCPT else response
        if stage in (Stage.CONNECT, Stage.HELO):
            self._of_client = response
        self._plain = {}

    def _decide(self, response: Response) -> None:
        """End the message with an answer of ours."""
        self._decision = response
        self._end_message(response, 0)
        self.wire.decide()

    def _end_message(self, answer: Any, edits: int) -> None:
        """Tell the observer, call what was registered with ``on_end``, and forget the message.

        Args:
            answer: What ended it; None for an ABORT.
            edits: How many were sent.
        """
        scene = self._scene
        self._observer.message_ended(lambda: self._summary(answer, edits))
        if scene.endings is not None:
            self._channel.flush()
            for function, args in scene.endings:
                try:
                    function(*args)
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    self._observer.failed(self.where(), "a function given to on_end raised", error)
        scene.end()
        if self._budget.messages:
            self._budget.messages.discard(self)
        self._remembered = self._of_client
        self._streaming = False

    def _summary(self, answer: Any, edits: int) -> MessageSummary:
        scene = self._scene
        return MessageSummary(
            where=self.where(),
            helo=scene.helo,
            sender=None if scene.sender is None else scene.sender.address,
            recipients=tuple(rcpt.address for rcpt in scene.recipients),
            refused=scene.refused,
            answer="abort" if answer is None else _text(answer),
            edits=edits,
            duration=monotonic() - self._began,
        )

    def where(self) -> Where:
        """Return where the session is, for the observer."""
        client = self._scene.client
        channel, queue_id = self._channel, self.wire.macro("i") or None
        return Where(channel.number, client.address or client.hostname, self._callback, queue_id, channel.peer)

    def seen_from_outside(self) -> tuple[Where, str]:
        """Return where the session is, and the class of its filter: to another thread, so nothing may change."""
        client, kind = self._scene.client, type(self._handler)
        queue_id = self.wire.peek("i") or None
        channel = self._channel
        where = Where(channel.number, client.address or client.hostname, self._callback, queue_id, channel.peer)
        return where, f"{kind.__module__}.{kind.__qualname__}"

    def macro(self, name: str) -> str | None:
        """Return what the MTA lends under a name."""
        return self.wire.macro(name)

    def progress(self) -> bool:
        """Send PROGRESS for a callback that asks for it, and return whether that was possible."""
        if not self._callback or self._callback in _LAST or self._cancel is not None:
            return False
        stage = _STAGE_NAMED.get(self._callback)
        if stage is None or not self._answers[stage] or not self.takes_progress(stage):
            return False
        self.tell_progress()
        return True

    def remark(self, what: str) -> None:
        """Have something logged that the filter has done, and that will not do what it is meant to."""
        self._observer.remarked(self.where(), what)

    def takes_progress(self, stage: Stage) -> bool:
        """Return whether the MTA, which waits for the answer of a step, takes PROGRESS now.

        Postfix takes it anywhere but inside a new body; any other MTA counts as Sendmail, which takes it after it has sent the
        end of the message.

        Source: protocol.md section 3.8, P-093, P-120.
        """
        if self.over or self._streaming or self._cancel not in (None, "timeout"):
            return False
        return stage is _EOM or (self.wire.macro("v") or "").startswith("Postfix")

    def tell_progress(self) -> None:
        """Send PROGRESS."""
        self.out.append(_PROGRESS)
        self._channel.flush()

    # -------------------------------------------------------------------------------------------- steps by event

    async def _call(self, stage: Stage, context: Context, *args: object) -> Any:
        """Call a callback and return its answer, whatever happens."""
        callback = self._callback_for(stage)
        if callback is None:
            return None
        self._callback = CALLBACKS[stage]
        context._scene = self._scene
        try:
            response = await callback(context, *args)
        except BaseException as error:
            response = self._failed(error)
        context._scene = None
        if self._waited:
            response = self._resumed(response)
        return response

    async def _call_last(self, name: str) -> None:
        """Call ``abort`` or ``close``; nobody waits for an answer."""
        handler = self._handler
        if handler is None or not overrides(type(handler), name):
            return
        self._callback = name
        context = _new(Context)
        context._scene = self._scene
        try:
            await getattr(handler, name)(context)
        except BaseException as error:
            self._failed(error)
        context._scene = None
        if self._waited:
            self._resumed(None)

    def _arrived(self, kind: type) -> bool:
        """Make the handler of an SMTP connection at its first event; return whether the event is to be handled."""
        if kind in _NEEDS_NO_HANDLER:
            return True
        try:
            self._handler = self._make()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            self._observer.failed(self.where(), "the factory raised; closing", error)
            self.over = True
            return False
        if self._agreement is not None:
            self._equip()
        return True

    async def _negotiate(self, offer: Negotiate) -> None:
        handler = self._handler
        assert handler is not None
        try:
            if overrides(type(handler), "negotiate") and not await self._call_negotiate(handler, offer):
                self.over = True
                return
            wants = handler.wants
            self._agreement = agreement = cast(Agreement, _known(wants, offer, lambda: agree(offer, wants)))
        except (NegotiationError, RemoteProtocolError) as error:
            self._observer.peer_error(self.where(), "negotiation", str(error))
            self.over = True
            return
        self.wire.agreed(agreement)
        self._answers = answers_of(agreement.silent)
        options = self._options
        self._edit_limits = _edit_limits(
            agreement.actions,
            agreement.leading_space,
            options.max_edits,
            options.max_edits_size,
            options.max_new_body_size,
        )
        self._sees_rejected = bool(agreement.answer.protocol & _REJECTED_RECIPIENTS)
        self._equip()
        octets = _known(wants, ("answer", offer), lambda: packet(NegotiateAnswer.CODE, agreement.answer.payload))
        self.out.append(cast(bytes, octets))

    async def _call_negotiate(self, handler: Handler, offer: Negotiate) -> bool:
        """Call ``negotiate`` and return whether it has ended well."""
        context = _new(Context)
        context._scene = self._scene
        self._callback = "negotiate"
        well = True
        try:
            await handler.negotiate(context, offer)  # type: ignore[attr-defined]  # overrides() has seen it
        except NegotiationError:
            raise
        except BaseException as error:
            self._failed(error)
            well = False
        finally:
            context._scene = None
            if self._waited and self._resumed(None) is not None:
                well = False
        return well

    def _equip(self) -> None:
        """Look up the callbacks of a message, and what else its steps need to take the short way."""
        handler, agreement = self._handler, self._agreement
        assert handler is not None
        assert agreement is not None
        wants, silent = handler.wants, agreement.silent
        kind: type | None = type(handler)
        steps = cast(_Steps, _known(wants, (kind, silent), lambda: _steps(kind, wants, silent)))
        if _has_own(handler, steps[0]) or _has_own(handler, steps[1]):
            kind = None
            steps = cast(_Steps, _known(wants, (kind, silent), lambda: _steps(kind, wants, silent)))
        self._asked, self._short_way = steps
        self._plain = self._short_way

    def _callback_for(self, stage: Stage) -> _Callback | None:
        """Return the handler's callback for a step; those that are called once a connection are not worth being kept."""
        handler = self._handler
        if handler is None or stage not in handler.wants.stages:
            return None
        return _native(cast(_Callback, getattr(handler, CALLBACKS[stage])))

    async def _connect(self, event: Connect) -> None:
        self._scene.client = event
        await self._ask_about_client(Stage.CONNECT, event)

    async def _helo(self, event: Helo) -> None:
        self._scene.helo = event.name
        await self._ask_about_client(Stage.HELO, event)

    async def _ask_about_client(self, stage: Stage, event: Connect | Helo) -> None:
        answer = self._answers[stage]
        if self._remembered is not None:
            if answer:
                self.out.append(self._remembered.packet)
                self._remembered = self._of_client = None
            return
        response = await self._call(stage, _new(Context), event)
        self._answer_step(stage, response, answer)
        if isinstance(response, _Given):
            response = response.response
        if isinstance(response, Verdict | Reply) and response is not CONTINUE:
            self._observer.refused(self.where(), _text(response))

    def _answer_step(self, stage: Stage, response: Any, answer: bytes) -> None:
        if response is None or response is CONTINUE:
            if answer:
                self.out.append(answer)
        else:
            self._answer(stage, response, answer)

    def _mail(self, event: Mail) -> _Step | None:
        """Begin a message, and return whom to ask about it; nobody if it was answered."""
        self._begin(event)
        if self._remembered is not None and self._passed(_MAIL):
            return None
        return self._fits() if self._budget.busy else self._asked[_MAIL]

    def _fits(self) -> _Step | None:
        """Return whom to ask about a message if the server takes it in; else answer, and return nobody."""
        step = self._asked[_MAIL]
        self._callback = CALLBACKS[_MAIL]
        response: Response = CONTINUE
        if self._budget.full:
            response = self._on_error()
        elif not self._budget.begin(self):
            response = Reply(452, "4.3.2", "Too many messages at once")
        if response is CONTINUE:
            return step
        self._answer(_MAIL, response if step[1] else _Given(response, sent=False), step[1])
        return None

    def _begin(self, sender: Mail | None) -> None:
        self._scene.begin(sender)
        self._began = monotonic()
        if self._remembered is None:
            self._plain = self._short_way

    def _passed(self, stage: Stage) -> bool:
        """Return whether an answer is remembered; if this step has an answer, give it.

        A refusal given to a recipient does not end the message: it stays remembered for the next.
        """
        if not self._scene.in_message:
            self._begin(None)  # its MAIL was negotiated away
        if self._remembered is None:
            return False
        if self._answers[stage]:
            self.out.append(self._remembered.packet)
            if ends_message(stage, self._remembered):
                self._decide(self._remembered)
            else:
                self._scene.refused += 1
        return True

    def _rcpt(self, event: Rcpt) -> _Step | None:
        """Return whom to ask about a recipient; nobody if it was answered."""
        scene = self._scene
        if (self._remembered is not None or not scene.in_message) and self._passed(_RCPT):
            return None
        count = len(scene.recipients) + scene.refused
        if not count:
            self._most_recipients = self._options.max_recipients
            self._measured = self._recipients_size = 0
        if count < self._most_recipients and (count & 15 != 15 or self._fit(count)):
            return self._asked[_RCPT]
        if count == self._most_recipients:
            self._observer.peer_error(self.where(), "recipients", "more recipients than allowed")
        response = Reply(452, "4.5.3", "Too many recipients")
        self._recipient(event, response)
        self._answer_step(_RCPT, response, self._answers[_RCPT])
        return None

    def _fit(self, count: int) -> bool:
        """Look at the octets of recipients, now and then: only a hostile peer sends any that are not small."""
        size = self._measure()
        if size > 16 * _LARGE:
            self.wire.large = True
        if size <= self._options.max_recipients * _RECIPIENT_SIZE:
            return True
        self._most_recipients = count
        return False

    def _measure(self) -> int:
        """Return the octets that the recipients of the message take, each of which is looked at once."""
        recipients = self._scene.recipients
        if not recipients:
            return 0
        for rcpt in islice(recipients, self._measured, None):
            self._recipients_size += _TEXT_SIZE + len(rcpt.recipient) + sum(map(len, rcpt.params))
            self._recipients_size += _TEXT_SIZE * len(rcpt.params)
        self._measured = len(recipients)
        return self._recipients_size

    def _recipient(self, event: Rcpt, response: Any) -> None:
        """Note what became of a recipient."""
        scene = self._scene
        if isinstance(response, _Given):
            response = response.response
        if response is not None and not (isinstance(response, Verdict) and response in _TAKEN):
            scene.refused += 1
        elif not self._sees_rejected or self.wire.macro("rcpt_mailer") != "error":  # else the MTA refuses it itself
            scene.recipients.append(event)

    async def _content(self, event: Header | BodyChunk | Data | EndOfHeaders) -> None:
        """Handle a plain step off the short way.

        An answer is remembered, or the body is skipped; or the step is more than plain, as the last piece of a body that
        comes with the end of the message.
        """
        stage = _PLAIN[type(event)]
        with_end = isinstance(event, BodyChunk) and event.with_end
        answer = b"" if with_end else self._answers[stage]
        if self._plain:
            args = (event,) if isinstance(event, Header) else (event.chunk,) if isinstance(event, BodyChunk) else ()
            self._answer_step(stage, await self._call(stage, _new(Context), *args), answer)
            if with_end and self.over:
                self.out.append(self._on_error().packet)  # the end itself is not looked at any more
        elif not with_end and not self._passed(stage):
            self._answer_step(stage, None, answer)

    async def _too_many(self, event: TooMany) -> None:
        """Refuse a message with too many header fields, once."""
        if not self._plain:
            if not self._passed(Stage.HEADER):
                self._answer_step(Stage.HEADER, None, self._answers[Stage.HEADER])
            return
        self._callback = CALLBACKS[Stage.HEADER]
        self._observer.peer_error(self.where(), "header fields", "more header fields than allowed")
        response = Reply(552, "5.3.4", "Message header too large")
        self._answer(Stage.HEADER, response, self._answers[Stage.HEADER])

    def _eom(self, event: EndOfMessage) -> _Step | None:
        """Return whom to ask what becomes of the message; nobody if it was answered."""
        scene = self._scene
        if (self._remembered is not None or not scene.in_message) and self._passed(_EOM):
            return None
        step = self._asked[_EOM]
        if step[0] is not None:
            self._edits = scene.edits = Edits(*self._edit_limits)
        return step

    def _decided(self, response: Any) -> Coroutine[Any, Any, None] | None:
        """Send edits and verdict; return what is left to be awaited where a body comes from an async iterator."""
        scene = self._scene
        edits, self._edits = self._edits, None
        failed, scene.edits = scene.edits is None, None
        if response is None:
            response = CONTINUE
        sent = 0
        if edits is not None and (edits.count or edits.overflow or edits.sources):
            if not failed and (response is CONTINUE or response is ACCEPT):
                if edits.overflow:
                    self._observer.failed(self.where(), "more edits than allowed; none is sent", None)
                    response = self._on_error()
                else:
                    sent = edits.count
                    self.out += edits.packets()
                    if isinstance(edits.body, bytes):
                        self.out += body_packets(edits.body)
            if edits.sources:
                return self._decided_later(edits, response, sent)
        self._end_decided(response, sent)
        # A small packet can bring on a large answer: a new body, above all.
        return self._breathe() if self.congested or (sent and sum(map(len, self.out)) > MUCH) else None

    async def _decided_later(self, edits: Edits, response: Any, sent: int) -> None:
        """Send the body that comes piece by piece, if it is to be sent, close all other sources, and answer."""
        body = edits.body
        if sent and isinstance(body, AsyncIterable):
            edits.sources.remove(body)
            try:
                await self._stream(body)
            except BaseException as error:
                self._failed(error)
                response = TEMPFAIL
            if self._waited:
                response = self._resumed(response)
        response = await self._close_sources(edits.sources, response)
        self._end_decided(response, sent)

    def _end_decided(self, response: Any, sent: int) -> None:
        """Answer the end of the message, after so many edits, and end it."""
        if response is CONTINUE:
            self.out.append(_CONTINUE)
        elif isinstance(response, _Cancelled):
            if response.answered:
                # Half a new body may have left: whatever on_error says, that may not pass.
                self.out.append((TEMPFAIL if sent else self._on_error()).packet)
            return  # the message is still open, for abort
        elif isinstance(response, _Given):
            response = response.response
        else:
            if not isinstance(response, Verdict | Reply) or not is_legal(_EOM, response):
                response = self._refused(response)
            self.out.append(response.packet)
        self._end_message(response, sent)
        self.wire.end_message()

    async def _stream(self, body: AsyncIterable[bytes]) -> None:
        """Send a body that comes piece by piece, at the pace of the MTA; its source is closed whatever happens."""
        source = aiter(body)
        pending = bytearray()
        size = 0
        try:
            async for piece in source:
                if self._cancel is not None:
                    return  # the source took no notice, but the answer may have left already
                if not isinstance(piece, bytes | bytearray | memoryview):
                    raise LocalProtocolError(f"body: expected pieces of bytes, found {type(piece).__name__}")
                size += len(piece)
                if size > self._options.max_new_body_size:
                    raise LocalProtocolError(
                        f"body: expected at most {self._options.max_new_body_size} octets, found more"
                    )
                pending += piece
                while len(pending) >= BODY_CHUNK_SIZE:
                    self._streaming = True
                    self.out.append(packet(ReplyCode.REPLBODY, bytes(pending[:BODY_CHUNK_SIZE])))
                    del pending[:BODY_CHUNK_SIZE]
                    self._channel.flush()
                    await self._channel.drain()
        finally:
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()
        if (pending or not self._streaming) and self._cancel is None:
            self.out.append(packet(ReplyCode.REPLBODY, bytes(pending)))

    async def _close_sources(self, sources: list[AsyncIterable[bytes]], response: Any) -> Any:
        """Close the sources of bodies that are not sent, and return the answer: another one if their time was up first."""
        for source in sources:
            close = getattr(source, "aclose", None)
            if close is not None:
                try:
                    await close()
                except BaseException as error:
                    self._failed(error)
                if self._waited:
                    resumed = self._resumed(None)
                    response = resumed if isinstance(resumed, _Given) and resumed.sent else response
        return response

    async def _unknown(self, event: Unknown) -> None:
        response = await self._call(Stage.UNKNOWN, _new(Context), event)
        self.wire.forget_unknown()
        self._answer_step(Stage.UNKNOWN, response, self._answers[Stage.UNKNOWN])

    async def _abort(self, event: Abort) -> None:
        await self._call_last("abort")
        self._callback = "abort"
        self._end_message(None, 0)
        self.wire.end_message()

    async def _repeated(self, event: Repeated) -> None:
        if self._answers[_STAGE_OF[event.command]]:
            self.out.append(self._decision.packet)

    async def _out_of_order(self, event: OutOfOrder) -> None:
        """Answer what belongs to no message; one that it has broken up may not pass: the filter has not seen all of it."""
        stage = _STAGE_OF[event.command]
        response: Response = CONTINUE
        broken, self.wire.broken = self.wire.broken, False
        if broken:
            self._callback = CALLBACKS[stage]
            self._decision = response = self._on_error()
            self.wire.decide()
        if self._answers[stage]:
            self.out.append(response.packet)
        if not self._stray:
            self._stray = True
            place = "out of order" if broken else "outside a message"
            what = f"{event.command.name} came {place}; answered {_text(response)}"
            self._observer.peer_error(self.where(), place, what)

    async def _quit(self, event: Quit) -> None:
        self.over = True

    async def _quit_new_connection(self, event: QuitNewConnection) -> None:
        await self._end_connection()
        self.wire.end_connection()
        self.over = self.over or self.draining

    async def _end_connection(self) -> None:
        """Run the callbacks that a connection ends with; nothing if it never began, or has ended."""
        if self._handler is None:
            return
        if self.wire.message_open:
            await self._abort(_ABORT)
        await self._call_last("close")
        self._handler = None
        self._plain = {}
        self._remembered = self._of_client = None
        self._scene.leave()

    async def _finish(self) -> None:
        self.over = True
        self._channel.flush()
        await self._end_connection()
        self._channel.close()
        self.stop_clock()


def _native(callback: Callable[..., Any]) -> _Callback:
    """Return a callback that makes a coroutine, which :meth:`Session.drive` needs, whatever else may be awaited."""
    if getattr(getattr(callback, "__code__", None), "co_flags", 0) & CO_COROUTINE:
        return callback

    async def call(*args: object) -> Any:
        return await callback(*args)

    return call


def _method(kind: type | None, name: str) -> _Callback:
    """Return what makes a coroutine of a callback, given the handler first: the method of its class if it is a plain one."""
    found = None if kind is None else getattr_static(kind, name, None)
    if isinstance(found, FunctionType) and found.__code__.co_flags & CO_COROUTINE:
        return found

    async def call(handler: object, *args: object) -> Any:
        return await getattr(handler, name)(*args)

    return call


def _has_own(handler: Handler, steps: Mapping[Any, _Step]) -> bool:
    """Return whether a handler has callbacks of its own in the place of its class's."""
    for callback, _, name, _ in steps.values():
        if callback is not None and getattr(getattr(handler, name), "__func__", None) is not callback:
            return True
    return False


def _steps(kind: type | None, wants: Wants, silent: frozenset[Stage]) -> _Steps:
    """Return how the steps of a message are handled.

    One pair for all connections of a class, since a method looked up for each would be an object for each, and so would the
    tables: 1.4 KiB a connection.

    Args:
        kind: Of the handlers; None if their callbacks have to be looked up for each call.
        wants: What they want.
        silent: The steps without an answer.
    """
    answers = answers_of(silent)

    def step(stage: Stage) -> _Step:
        callback = _method(kind, CALLBACKS[stage]) if stage in wants.stages else None
        return callback, answers[stage], CALLBACKS[stage], stage

    asked = {stage: step(stage) for stage in (_MAIL, _RCPT, _EOM)}
    return asked, {kind: step(stage) for kind, stage in _PLAIN.items()}


def _known(wants: Wants, key: object, find: Callable[[], object]) -> object:
    """Return what holds for all connections of those who want the same, found out for the first of them."""
    found = wants.known.get(key)
    if found is None:
        if len(wants.known) >= _MOST_KNOWN:
            del wants.known[next(iter(wants.known))]  # MTAs of one kind offer the same, so this is somebody who tries
        found = wants.known[key] = find()
    return found


@lru_cache(maxsize=64)
def _edit_limits(
    actions: int, leading_space: bool, most: int, most_octets: int, most_of_body: int
) -> tuple[int, bool, int, int, int]:
    """Return the arguments: one tuple for all connections that agreed on the same."""
    return actions, leading_space, most, most_octets, most_of_body


def _temporary(error: BaseException) -> BaseException | None:
    """Return the failure of something that the filter depends on, which may be over soon; None if there is more to it.

    Of a group, as a TaskGroup raises it, the first, if all are such.
    """
    if isinstance(error, BaseExceptionGroup):
        causes = [_temporary(each) for each in error.exceptions]
        return causes[0] if None not in causes else None
    return error if isinstance(error, TemporaryFailure | ResolverError | StoreError) else None


def _said(error: BaseException) -> str:
    """Return the text of an error, which may be a filter's own class, and raise, too."""
    try:
        return str(error)
    except Exception:
        return ""


@lru_cache(maxsize=64)
def answers_of(silent: frozenset[Stage]) -> Mapping[Stage, bytes]:
    """Return what CONTINUE is at each step: nothing where no answer was agreed on."""
    return {stage: b"" if stage in silent else _CONTINUE for stage in Stage}


def _text(response: Any) -> str:
    return response.name.lower() if isinstance(response, Verdict) else str(response).replace("\r\n", " / ")


_ABORT: Final = Abort()
_NEEDS_NO_HANDLER: Final = frozenset({Abort, Quit, QuitNewConnection})
Session._asks = {Mail: Session._mail, Rcpt: Session._rcpt, EndOfMessage: Session._eom}
Session._steps = {
    Negotiate: Session._negotiate,
    Connect: Session._connect,
    Helo: Session._helo,
    Data: Session._content,
    Header: Session._content,
    EndOfHeaders: Session._content,
    BodyChunk: Session._content,
    Unknown: Session._unknown,
    TooMany: Session._too_many,
    Abort: Session._abort,
    Repeated: Session._repeated,
    OutOfOrder: Session._out_of_order,
    Quit: Session._quit,
    QuitNewConnection: Session._quit_new_connection,
}
