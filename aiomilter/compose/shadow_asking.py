"""One shadow is shown what has happened, and what it answers is noted."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, NoReturn, Protocol, TypeVar, cast

from aiomilter.compose.edits import CheckEdits, apply
from aiomilter.compose.filters import ComposedFilter
from aiomilter.compose.messages import ask_for_edits, milter_of
from aiomilter.compose.plan import Seat
from aiomilter.compose.shadow_edits import changes_between
from aiomilter.compose.shadow_messages import End, Event, Play
from aiomilter.context import Context, EndOfMessageContext, FilterSource, Transaction
from aiomilter.edits import Edits
from aiomilter.failures import wrong_answer
from aiomilter.handler import CALLBACKS, overrides
from aiomilter.message import Message
from aiomilter.message.envelope import Envelope
from aiomilter.message.incoming import Incoming
from aiomilter.message.spool import BUDGET
from aiomilter.observe import Answer
from aiomilter.results import Results
from aiomilter.wire.constants import Stage
from aiomilter.wire.macros import MacroStore
from aiomilter.wire.replies import ACCEPT, CONTINUE, DISCARD, SKIP, Refusal, Reply, Verdict
from aiomilter.wire.state import is_legal

__all__ = ["DroppedError", "ShadowAsking", "ShadowSource", "StoppedError"]

_Result = TypeVar("_Result")
_OF_CONNECTION: Final = frozenset({Stage.CONNECT, Stage.HELO, Stage.UNKNOWN})


class Memory(Protocol):
    """Counts octets that are buffered."""

    @property
    def expendable(self) -> set[Any]:
        """What is dropped first when there are too many."""
        ...

    def change(self, octets: int) -> None:
        """Count so many more, or fewer."""


class ShadowSource(FilterSource, Protocol):
    """Where the contexts of a shadow get what is not part of an event, and where failures are reported."""

    macros: MacroStore
    callback: str
    client: str
    details: Any

    @property
    def memory(self) -> Memory:
        """Counts what waits for the shadow."""
        ...

    @property
    def current(self) -> MacroStore:
        """The macros of the event that the session is at."""
        ...

    @property
    def current_details(self) -> Any:
        """The details of the message that the session is at."""
        ...

    def report_failure(self, what: str, error: BaseException | None = None) -> None:
        """Report that a callback failed."""

    def report_timeout(self, what: str) -> None:
        """Report that a callback timed out."""

    def edits_of(self, edits: Edits) -> tuple[Sequence[str], int, str | None]:
        """Return edits, each as kind and name, how many there are, and why the message would be held."""
        ...

    def answer_of(self, response: Any) -> tuple[Answer, str]:
        """Return an answer for a report, and the reason that was given for it, by itself or in the callback that ran last."""
        ...


class _Results(Results):
    """What a shadow sees of results: those of the filters whose answers are sent, and those of shadows."""

    __slots__ = ("live",)

    def __init__(self, of_connection: list[Any]) -> None:
        super().__init__()
        self._of_connection = of_connection
        self.live: tuple[object, ...] = ()

    def begin(self, of_message: list[Any]) -> None:
        """Begin a message."""
        self._of_message, self.in_message = of_message, True

    def all(self, kind: type[_Result]) -> tuple[_Result, ...]:
        """Return all results of a type, oldest first, those of shadows last."""
        every = (*self.live, *self._of_connection, *self._of_message)
        return tuple(each for each in every if type(each) is kind)

    def end_message(self) -> None:
        """Forget those of the message."""
        self._of_message, self.in_message = [], False


class StoppedError(Exception):
    """The shadow stops before the end of the message."""


class DroppedError(Exception):
    """There is no memory for the message."""


class ShadowAsking:
    """Shows a connection to one shadow, event by event.

    Args:
        seat: Its place, and what was written about it.
        source: For its contexts.
        found: The results of shadows that hold for the connection.
    """

    def __init__(self, seat: Seat, source: ShadowSource, found: list[Any]) -> None:
        self.seat: Seat = seat
        self.source: ShadowSource = source
        self.filter: ComposedFilter | None = None
        """Made with the first message."""
        self.began: float = 0.0
        """When the callback that runs has begun, by the clock of the event loop; 0 if none runs."""
        self._results = _Results(found)
        self._client_answer: tuple[str, Any] | None = None
        self._incoming: Incoming | None = None
        # Whether a field can be shown without a further look: most events are such.
        self._shows_fields = False

    @property
    def _made(self) -> ComposedFilter:
        assert self.filter is not None
        return self.filter

    @property
    def _own(self) -> Transaction:
        transaction = self._made.transaction
        assert transaction is not None
        return transaction

    def make(self, play: Play) -> None:
        """Make the filter of the connection."""
        if self.filter is None:
            try:
                made = self.filter = ComposedFilter(self.seat)
            except BaseException as error:
                self._fail(play, error)
            made.transaction = Transaction(cast(FilterSource, self.source))
            made.transaction.shadow, made.transaction.results = True, self._results

    async def show(self, play: Play, event: Event) -> None:
        """Show one event to the filter."""
        stage = event.stage
        if self._shows_fields and stage is Stage.HEADER:
            await self._show_field(play, event)
            return
        own = self._own
        self.source.macros, self._results.live = event.macros, event.results
        if stage is None:
            play.conclude("none", answer="the message ended before")
            return
        self.source.callback = CALLBACKS[stage]
        if stage in _OF_CONNECTION:
            await self._show_client(play, stage, event)
            return
        if not own.in_message:
            self._begin_message(play, own)
        if len(own.recipients) < event.recipients:
            own.recipients += play.message.recipients[len(own.recipients) : event.recipients]
        if stage is Stage.EOM:
            await self._show_end(play, event.args[0])
            return
        # The MTA refuses such a recipient by itself, whatever a filter answers.
        rejected = stage is Stage.RCPT and event.macros.value("rcpt_mailer") == "error"
        if rejected and not self.seat.wants.rejected_recipients:
            return
        response = await self._call(play, partial(self._callback, stage, event.args))
        if stage is Stage.RCPT and not rejected:
            play.recipients.append(event.args[0])
        self._note(play, stage, response, rejected=rejected)
        self._shows_fields = self._made.included is True and self._client_answer is None

    async def _show_field(self, play: Play, event: Event) -> None:
        """Show a header field."""
        made, incoming = self._made, self._incoming
        if incoming is not None:
            incoming.add_field(event.args[0].raw)
            return
        callback = made.callbacks.get(Stage.HEADER)
        if callback is None:
            return
        self.source.macros, self._results.live = event.macros, event.results
        self.source.callback = "header"
        context = made.new_context(Context)
        own = self._own
        if len(own.recipients) < event.recipients:
            own.recipients += play.message.recipients[len(own.recipients) : event.recipients]
        self.began = asyncio.get_running_loop().time()
        try:
            response = await callback(context, event.args[0])
        except BaseException as error:
            self._left(play, error)
        finally:
            self.began = 0.0
            context._transaction = None
        self._note(play, Stage.HEADER, response)

    async def _show_client(self, play: Play, stage: Stage, event: Event) -> None:
        own = self._own
        if stage is Stage.CONNECT:
            own.client = event.args[0]
            self.source.client = own.client.raw_address or own.client.hostname
        elif stage is Stage.HELO:
            own.helo = event.args[0].name
        response = await self._call(play, partial(self._callback, stage, event.args))
        if stage is Stage.UNKNOWN or response is None or response is CONTINUE:
            return
        if not (isinstance(response, Verdict | Reply | Refusal) and is_legal(stage, response)):
            self._fail(play, None, wrong_answer(response))
        elif self._client_answer is None or self._client_answer[1] is ACCEPT:
            self._client_answer = CALLBACKS[stage], response

    def _begin_message(self, play: Play, own: Transaction) -> None:
        made, message = self._made, play.message
        made.begin_alone(message.client, message.helo, message.sender)
        own.results = self._results
        self.source.details = message.details
        self._results.begin(message.found)
        self.source.client = message.client.raw_address or message.client.hostname
        if self.seat.is_edit:
            milter = milter_of(made)
            self._incoming = Incoming(milter.max_size, milter.memory_size, milter.spool_directory, self.seat.keeps_body)

    async def _callback(self, stage: Stage, args: tuple[Any, ...], context: Context) -> Any:
        """Call the callback of a stage, or do what the composition does in its place."""
        made, incoming = self._made, self._incoming
        # What is shown before the conditions are known is kept: it has no callback.
        known = stage not in _OF_CONNECTION and (self.seat.known_at is None or stage >= self.seat.known_at)
        if known:
            if made.is_left_out(context):
                raise StoppedError
            if self._client_answer is not None:
                return self._client_answer[1]
        if incoming is not None:
            milter = milter_of(made)
            if stage is Stage.HEADER:
                incoming.add_field(args[0].raw)
            elif stage is Stage.EOH:
                return await milter.head(context, incoming.headers.copy()) if stage in self.seat.wants.stages else None
            elif stage is Stage.BODY:
                if milter._sees_chunks:
                    milter.chunk(args[0])
                if incoming.keeps:
                    if BUDGET.used > BUDGET.most // 2:
                        raise DroppedError
                    await incoming.take(args[0])
                return None
        callback = made.callbacks.get(stage)
        if callback is None or (made.skipped and stage is Stage.BODY):
            return None
        return await callback(context, *args)

    async def _call(
        self, play: Play, call: Callable[[Context], Coroutine[Any, Any, Any]], kind: type[Context] = Context
    ) -> Any:
        """Call something of the filter's, in its time."""
        made = self._made
        context = made.new_context(kind)
        self.began = asyncio.get_running_loop().time()
        try:
            return await call(context)
        except BaseException as error:
            self._left(play, error)
        finally:
            self.began = 0.0
            context._transaction = None

    def _left(self, play: Play, error: BaseException) -> NoReturn:
        """Note an exception that left a callback; raise it where it is not the callback's."""
        task = asyncio.current_task()
        ours = isinstance(error, StoppedError | DroppedError | KeyboardInterrupt | GeneratorExit)
        if ours or (task is not None and task.cancelling()):
            raise error
        self._fail(play, error)

    def _fail(self, play: Play, error: BaseException | None, what: str = "") -> NoReturn:
        if isinstance(error, KeyboardInterrupt | GeneratorExit):
            raise error
        name = type(error).__name__
        self.source.report_failure(what or f"{name} left the callback of a shadow", error)
        play.conclude("failed", self.source.callback, what or name)
        raise StoppedError from error

    def _note(self, play: Play, stage: Stage, response: Any, *, rejected: bool = False) -> None:
        """Note an answer before the end of the message."""
        if response is None or response is CONTINUE:
            return
        legal = isinstance(response, Verdict | Reply | Refusal) and is_legal(stage, response)
        if not legal and self._client_answer is None:
            self._fail(play, None, wrong_answer(response))
        if response is SKIP:
            self._made.skipped = True
        elif stage is Stage.RCPT and response is not ACCEPT and response is not DISCARD and self._client_answer is None:
            if not rejected:
                play.refused.add(len(play.recipients) - 1)
        else:
            callback = CALLBACKS[stage] if self._client_answer is None else self._client_answer[0]
            self._conclude(play, callback, response)

    def _conclude(self, play: Play, callback: str, response: Any) -> None:
        answer, reason = self.source.answer_of(response)
        assert answer.verdict != "abort"
        play.conclude(answer.verdict, callback, answer, reason)

    # ---------------------------------------------------------------------------------------------- the end of a message

    async def _show_end(self, play: Play, end: End) -> None:
        if self.seat.is_edit:
            response = await self._call(play, partial(self._edit, play, end))
        else:
            template = Edits(end.actions, end.leading_space, *end.limits)
            edits = self._own.edits = CheckEdits(template)
            response = await self._call(play, partial(self._callback, Stage.EOM, ()), EndOfMessageContext)
            if edits.overflow:
                self._fail(play, None, f"more edits than {edits.overflow} allows")
            play.edits = self.source.edits_of(edits)
        if response is None:
            response = CONTINUE
        if not (isinstance(response, Verdict | Reply | Refusal) and is_legal(Stage.EOM, response)):
            self._fail(play, None, wrong_answer(response))
        if response is not CONTINUE and response is not ACCEPT:
            play.edits = (), 0, None
        callback = "eom" if self._client_answer is None else self._client_answer[0]
        self._conclude(play, callback, response)

    async def _edit(self, play: Play, end: End, context: Context) -> Any:
        """Have the filter change its copy of the message, as it is at its place in the list."""
        made, incoming = self._made, self._incoming
        assert incoming is not None
        milter = milter_of(made)
        if made.is_left_out(context):
            raise StoppedError
        if self._client_answer is not None:
            return self._client_answer[1]
        if incoming.too_large:
            return milter.on_too_large
        message = end.model(self.seat.edits_before)
        if message is None:
            message = incoming.message(Envelope(context.sender, context.recipients, end.actions))
            apply(end.checks, message)
        elif not message.body_changed:
            # The body is our own one: the edits before may not have wanted it.
            message = incoming.message(message._envelope.copy(), message.headers.copy())
        copy: Message = message.copy()
        response = await ask_for_edits(milter, context, copy, end.actions, restarts=message.body_changed)
        play.edits = changes_between(message, copy)
        return response

    def forget_message(self) -> None:
        """Forget the message, after the functions for its end."""
        incoming, self._incoming = self._incoming, None
        self._shows_fields = False
        if incoming is not None:
            incoming.close()
        if self.filter is None or self.filter.transaction is None:
            return
        own = self.filter.transaction
        for function, args in own.endings or ():
            try:
                function(*args)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                self.source.report_failure("a function given to on_end raised", error)
        self.filter.end()
        self._results.end_message()

    async def last(self, name: str) -> None:
        """Call ``abort`` or ``close``; what it returns is ignored."""
        made = self._made
        if not overrides(type(made.milter), name):
            return
        self.source.callback = name
        context = made.new_context(Context)
        self.began = asyncio.get_running_loop().time()
        try:
            await getattr(made.milter, name)(context)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | GeneratorExit):
                raise
            self.source.report_failure(f"{type(error).__name__} left the callback of a shadow", error)
        finally:
            self.began = 0.0
            context._transaction = None
