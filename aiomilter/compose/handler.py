"""Several filters behind one connection: each event is shown to them, and what they answer becomes one answer."""

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from inspect import iscoroutine
from time import monotonic
from typing import Any, Final

from aiomilter.compose.edits import CheckEdits, apply
from aiomilter.compose.filters import ComposedFilter
from aiomilter.compose.messages import MessageKeeper, ask_for_edits, milter_of
from aiomilter.compose.plan import Plan
from aiomilter.compose.turns import Runner, Turn
from aiomilter.context import Context, EndOfMessageContext
from aiomilter.failures import wrong_answer
from aiomilter.handler import overrides
from aiomilter.message import Message, MessageMilter
from aiomilter.message.outgoing import queue_edits
from aiomilter.results import Results
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Connect, Header, Helo, Mail, Negotiate, Rcpt, Unknown
from aiomilter.wire.negotiation import Wants
from aiomilter.wire.replies import ACCEPT, CONTINUE, DISCARD, SKIP, Refusal, Reply, Verdict
from aiomilter.wire.state import is_legal

__all__ = ["Composed"]

_OF_CONNECTION: Final = frozenset({Stage.CONNECT, Stage.HELO, Stage.UNKNOWN})
_KEPT_FOR_AN_EDIT: Final = 1.0
"""Seconds that are left for each edit that follows, if the time that there is allows it."""
_MARGIN: Final = 0.05
"""The part of the time at the end in which no callback runs any more: an answer has to leave before the session's own limit."""


class Composed:
    """The :class:`aiomilter.handler.Handler` of a composition, for one connection.

    Args:
        plan: The composition.
    """

    def __init__(self, plan: Plan) -> None:
        self.acting: str = ""
        """The name of the filter that is called, or that has given the answer."""
        # Each filter has its own; what is left to the server is what concerns none of them.
        self.on_error: None = None
        self.on_timeout: None = None
        self._plan = plan
        self._filters: list[ComposedFilter] = [ComposedFilter(seat) for seat in plan.seats]
        self._edits: list[ComposedFilter] = [self._filters[seat.place] for seat in plan.edits]
        self._runner = Runner()
        self._results = Results()
        self._failed: list[str] = []
        self._failed_before: list[str] = []
        self._in_message = False
        self._message: MessageKeeper | None = None
        # What is left of a message that one filter has decided on: callbacks that were cancelled, and abort of the others.
        self._cleanup: asyncio.Task[None] | None = None
        # Of the event at hand: its stage, when it began, the edits still to come, whether the MTA itself refuses the
        # recipient, and the contexts that were given out.
        self._stage = Stage.CONNECT
        self._began = 0.0
        self._to_come = 0
        self._rejected = False
        self._contexts: list[Context | None] = [None] * len(self._filters)

    @property
    def wants(self) -> Wants:
        """What all filters want together."""
        return self._plan.wants

    # --------------------------------------------------------------------------------------------- of the connection

    async def negotiate(self, ctx: Context, offer: Negotiate, /) -> None:
        """Show the offer to all."""
        for each in self._filters:
            self._connected(ctx)
            self.acting = each.name
            context = each.new_context(Context)
            try:
                await each.milter.negotiate(context, offer)
            finally:
                context._transaction = None
        self.acting = ""

    def _connected(self, ctx: Context) -> None:
        transaction = ctx._live()
        for each in self._filters:
            each.connected(transaction.source, transaction)
            assert each.transaction is not None
            each.transaction.results, each.transaction.failed = self._results, self._failed

    async def connect(self, ctx: Context, connect: Connect, /) -> Any:
        """Ask all."""
        self._connected(ctx)
        return await self._ask(Stage.CONNECT, connect)

    async def helo(self, ctx: Context, helo: Helo, /) -> Any:
        """Ask all."""
        self._connected(ctx)
        return await self._ask(Stage.HELO, helo)

    async def unknown(self, ctx: Context, unknown: Unknown, /) -> Any:
        """Ask all."""
        self._connected(ctx)
        return await self._ask(Stage.UNKNOWN, unknown)

    async def close(self, ctx: Context, /) -> None:
        """Have all clean up."""
        self._connected(ctx)
        await self._ready()
        await self._tell("close", self._filters)
        self._runner.end()

    # ------------------------------------------------------------------------------------------------ of the message

    async def _begin(self, ctx: Context) -> None:
        """Begin a message."""
        await self._ready()
        self._in_message = True
        self._connected(ctx)
        ctx.on_end(self._ended)
        transaction = ctx._live()
        self._failed[:] = self._failed_before
        for each in self._filters:
            each.begin(transaction)
        if self._edits:
            self._message = MessageKeeper(self._edits)

    def _ended(self) -> None:
        """Forget the message, as far as nothing is left to do for it."""
        self._in_message = False
        message, self._message = self._message, None
        if message is not None:
            message.close()
        if self._cleanup is None:
            self._forget()

    def _forget(self) -> None:
        self._results.end_message()
        for each in self._filters:
            each.end()

    async def envfrom(self, ctx: Context, mail: Mail, /) -> Any:
        """Ask all."""
        if not self._in_message:
            await self._begin(ctx)
        return await self._ask(Stage.MAIL, mail)

    async def envrcpt(self, ctx: Context, rcpt: Rcpt, /) -> Any:
        """Ask all; a recipient that one refuses is not shown to the next."""
        if not self._in_message:
            await self._begin(ctx)
        # Macro {rcpt_mailer} is "error" for a recipient that the MTA refuses.
        self._rejected = self._plan.wants.rejected_recipients and ctx.macro("rcpt_mailer") == "error"
        return await self._ask(Stage.RCPT, rcpt)

    async def data(self, ctx: Context, /) -> Any:
        """Ask all."""
        if not self._in_message:
            await self._begin(ctx)
        return await self._ask(Stage.DATA)

    async def header(self, ctx: Context, header: Header, /) -> Any:
        """Keep the field, and ask all."""
        if not self._in_message:
            await self._begin(ctx)
        if self._message is not None:
            self._message.add_field(header.raw)
        return await self._ask(Stage.HEADER, header) if self._plan.asked[Stage.HEADER] else None

    async def eoh(self, ctx: Context, /) -> Any:
        """Ask all."""
        if not self._in_message:
            await self._begin(ctx)
        return await self._ask(Stage.EOH)

    async def body(self, ctx: Context, chunk: bytes, /) -> Any:
        """Keep the piece, and ask all."""
        if not self._in_message:
            await self._begin(ctx)
        if self._message is not None:
            try:
                await self._message.add_chunk(chunk)
            except OSError as error:
                if (answer := self._not_kept(error)) is not None:
                    return answer
        if not self._plan.asked[Stage.BODY]:
            return None
        answer = await self._ask(Stage.BODY, chunk)
        return SKIP if answer is None and self._all_skipped() else answer

    def _all_skipped(self) -> bool:
        if self._message is not None and self._message.keeping:
            return False
        asked = [self._filters[seat.place] for seat in self._plan.asked[Stage.BODY]]
        return all(each.skipped or not each.is_open for each in asked)

    def _not_kept(self, error: OSError) -> Any:
        """Have the edits fail whose message cannot be kept, and return the first answer of theirs that refuses it."""
        assert self._message is not None
        for each in self._message.keeping:
            self.acting = each.name
            response = self._answer_failure(each, f"{type(error).__name__} left the spool", error)
            if self._applies(each, Stage.BODY, response, failed=True):
                return self._decided(Stage.BODY, each)
            each.out = True
        return None

    async def eom(self, ctx: EndOfMessageContext, /) -> Any:
        """Ask the checks, then give the message to the edits; the changes of all leave together."""
        if not self._in_message:
            await self._begin(ctx)
        edits = ctx._edits()
        for each in self._filters:
            assert each.transaction is not None
            each.transaction.edits = None if each.seat.is_edit else CheckEdits(edits)
        answer = await self._ask(Stage.EOM)
        if answer not in (None, CONTINUE, ACCEPT):
            return answer
        of_filters = [each.transaction.edits for each in self._filters if each.transaction is not None]
        checks = [each for each in of_filters if isinstance(each, CheckEdits)]
        if self._message is None or not any(each.is_open for each in self._edits):
            for each_edits in checks:
                each_edits.replay(edits, ctx.recipients)
            return answer
        message = self._message.message(ctx)
        apply(checks, message)
        return await self._edit(ctx, message)

    async def _edit(self, ctx: EndOfMessageContext, message: Message) -> Any:
        """Give the message to the edits, each of which sees what those before it have made."""
        actions = ctx._edits().actions
        for number, each in enumerate(self._edits):
            if not each.is_open:
                continue
            self._to_come = sum(other.is_open for other in self._edits[number + 1 :])
            each.answer, each.failing = None, False
            copy = message.copy()
            begin = partial(self._begin_edit, each, copy, actions, message.body_changed)
            turn = Turn(each.seat.place, begin, each.context, (), each.seat.member.timeout)
            decided = await self._runner.run([turn], self._refuses, self._expired, self._allowed)
            self._settle(Stage.EOM, [turn], decided)
            if decided is not None:
                return self._decided(Stage.EOM, each)
            # A failure undoes what the filter has changed, and nothing else.
            message = message if each.out or not each.included else copy
        self.acting = ""
        queue_edits(ctx, message)
        self._leave([each for each in self._filters if each.out and not each.finished])
        return self._passing(Stage.EOM)

    def _begin_edit(
        self, each: ComposedFilter, message: Message, actions: int, restarts: bool
    ) -> Coroutine[Any, Any, Any]:
        """Return the callback of an edit at end of message."""
        self.acting = each.name
        context = self._contexts[each.seat.place] = each.new_context(Context)
        assert self._message is not None
        if each.is_left_out(context):
            return _answering(None)
        if each.held is not None and each.seat.known_at is Stage.EOM:
            return _answering(each.held)
        if self._message.is_too_large_for(each):
            return _answering(milter_of(each).on_too_large)
        return ask_for_edits(milter_of(each), context, message, actions, restarts=restarts)

    async def abort(self, ctx: Context, /) -> None:
        """Have those clean up that have not answered."""
        await self._ready()
        await self._tell("abort", self._unanswered())

    # ----------------------------------------------------------------------------------------------------- answering

    async def _ask(self, stage: Stage, *args: object) -> Any:
        """Show an event to all filters that want it, and return what becomes of it."""
        if self._cleanup is not None:
            await self._ready()
        self._stage = stage
        turns = []
        for seat in self._plan.asked[stage]:
            each = self._filters[seat.place]
            if self._is_asked(each, stage):
                each.answer, each.failing = None, False
                begin = partial(self._begin_turn, each, stage, args)
                turns.append(Turn(seat.place, begin, each.context, seat.after, seat.member.timeout))
        self._began = monotonic()
        if turns:
            self._to_come = sum(each.is_open for each in self._edits) if stage is Stage.EOM else 0
            decided = await self._runner.run(turns, self._refuses, self._expired, self._allowed)
            self._settle(stage, turns, decided)
            if decided is not None:
                return self._decided(stage, self._filters[decided.place])
            if stage not in _OF_CONNECTION:
                self._leave([each for each in self._filters if each.out and not each.finished])
        self.acting = ""
        return self._passing(stage)

    def _is_asked(self, each: ComposedFilter, stage: Stage) -> bool:
        if stage in _OF_CONNECTION:
            return not each.accepted_client
        if stage is Stage.RCPT and self._rejected and not each.seat.wants.rejected_recipients:
            return False
        return each.is_open and not (each.skipped and stage is Stage.BODY)

    def _begin_turn(self, each: ComposedFilter, stage: Stage, args: tuple[Any, ...]) -> Coroutine[Any, Any, Any]:
        """Return the callback of a filter for an event; what it would have said before, if that was held until now."""
        self.acting = each.name
        kind = EndOfMessageContext if stage is Stage.EOM else Context
        context = self._contexts[each.seat.place] = each.new_context(kind)
        if stage not in _OF_CONNECTION:
            if each.included is not True and each.is_left_out(context):
                return _answering(None)
            if each.held is not None and stage is each.seat.known_at:
                return _answering(each.held)
        if each.seat.is_edit and stage in (Stage.EOH, Stage.BODY):
            assert self._message is not None
            return self._message.head(each, context) if stage is Stage.EOH else _show(milter_of(each), *args)
        callback = each.callbacks.get(stage)
        if callback is None:
            return _answering(None)
        found = callback(context, *args)
        return found if iscoroutine(found) else _awaiting(found)

    def _allowed(self) -> float:
        """Return how many seconds the callbacks at hand may take."""
        source = self._filters[0].source
        left = max(0.0, source.time_limit() * (1 - _MARGIN) - (monotonic() - self._began))
        return left - min(self._to_come * _KEPT_FOR_AN_EDIT, left / 2)

    def _refuses(self, turn: Turn) -> bool:
        """Apply the answer of a filter, and return whether it decides."""
        each, outcome, stage = self._filters[turn.place], turn.outcome, self._stage
        self._end_context(turn.place)
        if turn.cancelled or outcome is None:
            return False
        self.acting = each.name
        failed = outcome.error is not None
        if outcome.error is not None:
            what = f"{type(outcome.error).__name__} left the callback"
            response = self._answer_failure(each, what, outcome.error)
        else:
            response = outcome.value
        own = each.transaction.edits if each.transaction is not None else None
        if stage is Stage.EOM and own is not None and own.overflow:
            failed, response = True, self._answer_failure(each, f"more edits than {own.overflow} allows")
        if response is not None and not (isinstance(response, Verdict | Reply | Refusal) and is_legal(stage, response)):
            failed, response = True, self._answer_failure(each, wrong_answer(response))
        return self._applies(each, stage, response, failed=failed)

    def _expired(self, turn: Turn) -> bool:
        """Answer for a callback that took too long, and return whether that decides."""
        each = self._filters[turn.place]
        self._end_context(turn.place)
        self.acting = each.name
        member, milter = each.seat.member, each.milter
        own_timeout = milter.on_timeout if member.on_timeout is None else member.on_timeout
        own_error = milter.on_error if member.on_error is None else member.on_error
        what = f"the callback did not end within {turn.seconds:.3g} s"
        response = each.source.answer_timeout(own_timeout, own_error, what)
        self._has_failed(each)
        return self._applies(each, self._stage, response, failed=True)

    def _answer_failure(self, each: ComposedFilter, what: str, error: BaseException | None = None) -> Any:
        self._has_failed(each)
        own = each.milter.on_error if each.seat.member.on_error is None else each.seat.member.on_error
        return each.source.answer_failure(own, what, error)

    def _has_failed(self, each: ComposedFilter) -> None:
        assert each.transaction is not None
        each.transaction.edits = None  # after a failure none is sent, even if the message passes
        for failed in (self._failed, *([] if self._in_message else [self._failed_before])):
            if each.name not in failed:
                failed.append(each.name)

    def _applies(self, each: ComposedFilter, stage: Stage, response: Any, *, failed: bool) -> bool:
        """Apply an answer of a filter, and return whether it decides on the event."""
        each.failing = failed
        if failed and stage not in _OF_CONNECTION and response in (CONTINUE, ACCEPT):
            return False
        if response is None or response is CONTINUE:
            each.finished = each.finished or stage is Stage.EOM
            return False
        if not failed and stage in each.seat.wants.no_reply and stage in each.seat.stages:
            each.source.report_misuse("answered a stage that gets no reply; given all the same")
        if each.holds(stage, response):
            return False
        each.answer = response
        return response is not SKIP and response is not ACCEPT

    def _settle(self, stage: Stage, turns: Sequence[Turn], decided: Turn | None) -> None:
        """Apply the answers that do not decide; not those of filters that come after the one that does."""
        for turn in turns:
            if decided is None or turn.place < decided.place:
                each = self._filters[turn.place]
                if each.failing and stage not in _OF_CONNECTION:
                    each.out = True
                elif each.answer is SKIP:
                    each.skipped = True
                elif each.answer is ACCEPT:
                    each.accepts(stage)

    def _decided(self, stage: Stage, each: ComposedFilter) -> Any:
        """Return the answer of the filter that has decided; the others hear of the end of the message, if that is one."""
        self.acting, response = each.name, each.answer
        if stage in _OF_CONNECTION:
            return response
        ends = stage is not Stage.RCPT or response is DISCARD
        each.finished = each.finished or ends
        self._leave(self._unanswered() if ends else [])
        return response

    def _passing(self, stage: Stage) -> Any:
        """Return the answer of filters that do not refuse: ACCEPT if none has more to say."""
        if stage in (Stage.CONNECT, Stage.HELO):
            return ACCEPT if all(each.accepted_client for each in self._filters) else None
        if stage is Stage.UNKNOWN or stage in self._plan.wants.no_reply or any(each.is_open for each in self._filters):
            return None
        return ACCEPT

    def _end_context(self, place: int) -> None:
        context, self._contexts[place] = self._contexts[place], None
        if context is not None:
            context._transaction = None

    # ------------------------------------------------------------------------------------------------ the ends of things

    def _unanswered(self) -> list[ComposedFilter]:
        """Return the filters that have neither answered nor seen the end of the message."""
        return [each for each in self._filters if each.included and not each.finished]

    def _leave(self, filters: Sequence[ComposedFilter]) -> None:
        """Have callbacks that were cancelled end, and then filters clean up; the answer does not wait for that."""
        for each in filters:
            each.finished = True
        cleaning = [each for each in filters if overrides(type(each.milter), "abort")]
        if cleaning or self._runner.unfinished:
            self._cleanup = asyncio.create_task(self._clean(cleaning))

    async def _clean(self, filters: Sequence[ComposedFilter]) -> None:
        await self._runner.finish()
        await self._tell("abort", filters)
        if not self._in_message:
            self._forget()

    async def _ready(self) -> None:
        """Wait until all is done that the event before has left."""
        cleanup = self._cleanup
        if cleanup is not None and cleanup is not asyncio.current_task():
            await asyncio.wait((cleanup,))
            self._cleanup = None

    async def _tell(self, name: str, filters: Sequence[ComposedFilter]) -> None:
        """Call ``abort`` or ``close`` of filters; what they return is ignored."""
        turns = []
        for each in filters:
            each.finished = True
            if overrides(type(each.milter), name):
                turns.append(Turn(each.seat.place, partial(self._begin_last, each, name), each.context))
        if turns:
            self._began, self._to_come = monotonic(), 0
            await self._runner.run(turns, self._told, self._told_late, self._allowed)

    def _begin_last(self, each: ComposedFilter, name: str) -> Coroutine[Any, Any, Any]:
        self.acting = each.name
        context = self._contexts[each.seat.place] = each.new_context(Context)
        found: Coroutine[Any, Any, Any] = getattr(each.milter, name)(context)
        return found

    def _told(self, turn: Turn) -> bool:
        each, outcome = self._filters[turn.place], turn.outcome
        self._end_context(turn.place)
        if outcome is not None and outcome.error is not None and not turn.cancelled:
            each.source.answer_failure(None, f"{type(outcome.error).__name__} left the callback", outcome.error)
        return False

    def _told_late(self, turn: Turn) -> bool:
        self._end_context(turn.place)
        self._filters[turn.place].source.answer_timeout(
            None, None, f"the callback did not end within {turn.seconds:.3g} s"
        )
        return False


async def _answering(response: Any) -> Any:
    return response


async def _awaiting(found: Any) -> Any:
    return await found


async def _show(milter: MessageMilter, octets: bytes) -> None:
    milter.chunk(octets)
