"""One event, several filters: each is asked, and what they say becomes one answer."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from time import monotonic
from typing import Any, Final

from aiomilter.compose.authors import Given
from aiomilter.compose.fields import begun_turn, show
from aiomilter.compose.filters import ComposedFilter
from aiomilter.compose.messages import MessageKeeper, ask_for_edits, milter_of
from aiomilter.compose.plan import Plan
from aiomilter.compose.turns import SAYS_NOTHING, Runner, Turn, first_step
from aiomilter.context import Context, EndOfMessageContext
from aiomilter.failures import wrong_answer
from aiomilter.handler import overrides
from aiomilter.message import Message, MessageMilter
from aiomilter.results import Results
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Header
from aiomilter.wire.replies import ACCEPT, CONTINUE, DISCARD, SKIP, Refusal, Reply, Verdict
from aiomilter.wire.state import is_legal

__all__ = ["Asking"]

_new: Final = object.__new__
_OF_CONNECTION: Final = frozenset({Stage.CONNECT, Stage.HELO, Stage.UNKNOWN})
_KEPT_FOR_AN_EDIT: Final = 1.0
"""Seconds that are left for each edit that follows, if the time that there is allows it."""
_MARGIN: Final = 0.05
"""The part of the time at the end in which no callback runs any more: an answer has to leave before the session's own limit."""


class Asking:
    """Shows each event to the filters of one connection, and makes one answer of what they say.

    Args:
        plan: The composition.
        filters: Its filters, in the order of answers.
    """

    def __init__(self, plan: Plan, filters: Sequence[ComposedFilter]) -> None:
        self.acting: str = ""
        """The name of the filter that is called, or that has given the answer."""
        self.in_message: bool = False
        """Whether a message is open."""
        self.message: MessageKeeper | None = None
        """The message that is kept for edits."""
        self.given: list[Given] = []
        """The edits that have had the message, and what each has made of it."""
        self.results: Results = Results()
        """What all filters have found."""
        self.failed: list[str] = []
        """The names of those that have failed with this message, or before it."""
        self.failed_before: list[str] = []
        """The names of those that have failed with this client."""
        self.rejected: bool = False
        """Whether the MTA itself refuses the recipient at hand."""
        self.began: float = 0.0
        """When the end of message came, by the clock of the event loop."""
        self._plan = plan
        self._filters = filters
        self._edits = [filters[seat.place] for seat in plan.edits]
        self._runner = Runner()
        # What is left of a message that one filter has decided on: callbacks that were cancelled, and abort of the others.
        self.cleanup: asyncio.Task[None] | None = None
        # Of the event at hand: its stage, the edits still to come, the contexts that were given out.
        self._stage = Stage.CONNECT
        self._to_come = 0
        self._contexts: list[Context | None] = [None] * len(filters)
        # The turns of a header field whose callbacks were begun before it was asked about.
        self._begun: list[Turn] = []

    def forget(self) -> None:
        """Forget the message that has ended."""
        self.results.end_message()
        for each in self._filters:
            each.end()

    def end(self) -> None:
        """End: no event follows."""
        self._runner.end()

    def begin(self, stage: Stage, *args: object) -> Coroutine[Any, Any, Any] | None:
        """Show an event to all filters that want it; return what gives the answer, or None if all say nothing at once."""
        if self.cleanup is not None:
            return self.ask(stage, *args)
        self._stage = stage
        if self._begun:
            begun, self._begun = self._begun, []
            return self._go_on(stage, begun)
        turns, quick = self._begin_all(stage, args)
        if quick and not turns:
            # One that was called without a further look, and said nothing, may have something to say later.
            self.acting = ""
            return None
        return self._go_on(stage, turns)

    def begin_fields(self, fields: Sequence[Header]) -> int:
        """Show header fields to all filters that want them, as far as they say nothing at once; return how many these are.

        The turns of the next one may have begun: :meth:`begin` goes on with them.
        """
        asked = [self._filters[seat.place] for seat in self._plan.asked[Stage.HEADER]]
        filters = [each for each in asked if self._is_asked(each, Stage.HEADER)]
        if not all(each.ready for each in filters):
            return 0
        if not filters:
            return len(fields)
        self._stage = Stage.HEADER
        shown = show(self, self._runner, filters, self._contexts, fields)
        if shown.turn is None:
            self.acting = ""
        else:
            self._begun = [
                shown.turn,
                *[self._later_turn(each, Stage.HEADER, (fields[shown.done],)) for each in shown.later],
            ]
        return shown.done

    def _later_turn(self, each: ComposedFilter, stage: Stage, args: tuple[Any, ...]) -> Turn:
        """Return the turn of a callback that has not begun."""
        each.answer, each.failing = None, False
        begin = partial(self._begin_turn, each, stage, args)
        return Turn(each.seat.place, begin, each.context, each.seat.after, each.seat.member.timeout)

    async def ask(self, stage: Stage, *args: object) -> Any:
        """Show an event to all filters that want it, and return what becomes of it."""
        await self.ready()
        pending = self.begin(stage, *args)
        return None if pending is None else await pending

    async def _go_on(self, stage: Stage, turns: list[Turn]) -> Any:
        if turns:
            self._to_come = sum(each.is_open for each in self._edits) if stage is Stage.EOM else 0
            decided = await self._run(turns, self._refuses, self._expired, self._allowed)
            self._settle(stage, turns, decided)
            if decided is not None:
                if stage is Stage.MAIL:
                    self._spare_those_after(decided.place, turns)
                return self.decided(stage, self._filters[decided.place])
            if stage is not Stage.EOM:  # where edits may still follow
                self.leave_failed()
        self.acting = ""
        return self.passing(stage)

    def _spare_those_after(self, place: int, turns: Sequence[Turn]) -> None:
        """Have filters hear nothing of a message that was refused before they were shown anything of it."""
        shown = {turn.place for turn in turns if turn.began}
        for each in self._filters[place + 1 :]:
            each.finished = each.finished or each.seat.place not in shown

    def _begin_all(self, stage: Stage, args: tuple[Any, ...]) -> tuple[list[Turn], bool]:
        """Call the callbacks of an event, as long as each ends at once and says nothing.

        Most callbacks are such, of header fields above all: so they cost no turn.  Return the turns of the others, and whether
        there are such callbacks.
        """
        turns: list[Turn] = []
        quick = stage not in _OF_CONNECTION and not (stage is Stage.RCPT and self.rejected)
        kind, began = EndOfMessageContext if stage is Stage.EOM else Context, 0.0
        current, entered = None, False
        filters, runner = self._filters, self._runner
        try:
            for seat in self._plan.asked[stage]:
                each = filters[seat.place]
                if quick and each.ready and not turns and not (seat.is_edit or each.skipped):
                    self.acting = seat.name
                    if not entered:
                        current, entered = runner.enter(), True
                    # As new_context does, a call less for each header field.
                    context = _new(kind)
                    context._transaction = each.transaction
                    if stage is Stage.EOM:
                        began = monotonic()
                    step = first_step(each.context, each.callbacks[stage], context, *args)
                    if step is SAYS_NOTHING and (stage is not Stage.EOM or each.ends_in_silence(began)):
                        context._transaction = None
                        continue
                    self._contexts[seat.place] = context
                    turns.append(begun_turn(each, step, began))
                elif self._is_asked(each, stage):
                    turns.append(self._later_turn(each, stage, args))
        finally:
            if entered:
                runner.leave(current, turns[0] if turns else None)
        return turns, entered

    async def give(self, each: ComposedFilter, message: Message, actions: int, to_come: int) -> tuple[Message, bool]:
        """Give the message to an edit.

        Args:
            each: The edit.
            message: As it is.
            actions: What the MTA offers.
            to_come: How many edits follow.

        Returns:
            The message as it is then, and whether the filter has refused it.
        """
        self._to_come = to_come
        each.answer, each.failing = None, False
        copy = message.copy()
        begin = partial(self._begin_edit, each, copy, actions, message.body_changed)
        turn = Turn(each.seat.place, begin, each.context, (), each.seat.member.timeout)
        self._runner.begin(turn)
        if turn.outcome is not None:  # it has ended at once
            decided = turn if self._refuses(turn) else None
        else:
            decided = await self._run([turn], self._refuses, self._expired, self._allowed)
        self._settle(Stage.EOM, [turn], decided)
        # A failure undoes what the filter has changed, and nothing else.
        if each.out or not each.included:
            return message, decided is not None
        self.given.append((each.name, message, copy))
        return copy, decided is not None

    def _begin_edit(
        self, each: ComposedFilter, message: Message, actions: int, restarts: bool
    ) -> Coroutine[Any, Any, Any]:
        """Return the callback of an edit at end of message."""
        self.acting = each.name
        context = self._contexts[each.seat.place] = each.new_context(Context)
        assert self.message is not None
        if each.is_left_out(context):
            return _answering(None)
        if each.held is not None and each.seat.known_at is Stage.EOM:
            return _answering(each.held)
        if self.message.is_too_large_for(each):
            return _answering(milter_of(each).on_too_large)
        return ask_for_edits(milter_of(each), context, message, actions, restarts=restarts)

    def _is_asked(self, each: ComposedFilter, stage: Stage) -> bool:
        if stage in _OF_CONNECTION:
            return not each.accepted_client
        if stage is Stage.RCPT and self.rejected and not each.seat.wants.rejected_recipients:
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
            assert self.message is not None
            return self.message.head(each, context) if stage is Stage.EOH else _show(milter_of(each), *args)
        callback = each.callbacks.get(stage)
        if callback is None:
            return _answering(None)
        found: Coroutine[Any, Any, Any] = callback(context, *args)
        return found

    async def _run(
        self,
        turns: Sequence[Turn],
        refuses: Callable[[Turn], bool],
        expired: Callable[[Turn], bool],
        allowed: Callable[[], float],
    ) -> Turn | None:
        """Run turns, and have the contexts of those that are cancelled end with them."""
        try:
            return await self._runner.run(turns, refuses, expired, allowed)
        finally:
            for turn in turns:
                context, self._contexts[turn.place] = self._contexts[turn.place], None
                if context is not None and turn.task is not None:
                    turn.task.add_done_callback(partial(_end, context))

    def _allowed(self) -> float:
        """Return how many seconds the callbacks at hand may take."""
        source = self._filters[0].source
        spent = asyncio.get_running_loop().time() - self.began if self._stage is Stage.EOM else 0.0
        left = max(0.0, source.time_limit() * (1 - _MARGIN) - spent)
        return left - min(self._to_come * _KEPT_FOR_AN_EDIT, left / 2)

    def _allowed_last(self) -> float:
        """Return how many seconds ``abort`` and ``close`` may take."""
        return self._filters[0].source.time_limit() * (1 - _MARGIN)

    def _refuses(self, turn: Turn) -> bool:
        """Apply the answer of a filter, and return whether it decides."""
        each, outcome, stage = self._filters[turn.place], turn.outcome, self._stage
        self._end_context(turn.place)
        each.add_time(turn.began_at)
        if turn.cancelled or outcome is None:
            return False
        self.acting = each.name
        failed = outcome.error is not None
        if outcome.error is not None:
            what = f"{type(outcome.error).__name__} left the callback"
            response = self.answer_failure(each, what, outcome.error)
        else:
            response = outcome.value
        own = each.transaction.edits if each.transaction is not None else None
        if stage is Stage.EOM and own is not None and own.overflow:
            failed, response = True, self.answer_failure(each, f"more edits than {own.overflow} allows")
        if response is not None and not (isinstance(response, Verdict | Reply | Refusal) and is_legal(stage, response)):
            failed, response = True, self.answer_failure(each, wrong_answer(response))
        return self.applies(each, stage, response, failed=failed)

    def _expired(self, turn: Turn) -> bool:
        """Answer for a callback that took too long, and return whether that decides."""
        each = self._filters[turn.place]
        each.add_time(turn.began_at)
        self.acting = each.name
        member, milter = each.seat.member, each.milter
        own_timeout = milter.on_timeout if member.on_timeout is None else member.on_timeout
        own_error = milter.on_error if member.on_error is None else member.on_error
        what = f"the callback did not end within {turn.seconds:.3g} s"
        response = each.source.answer_timeout(own_timeout, own_error, what)
        self._has_failed(each)
        return self.applies(each, self._stage, response, failed=True)

    def answer_failure(self, each: ComposedFilter, what: str, error: BaseException | None = None) -> Any:
        """Report that a callback of a filter failed, and return the answer to that."""
        self._has_failed(each)
        own = each.milter.on_error if each.seat.member.on_error is None else each.seat.member.on_error
        return each.source.answer_failure(own, what, error)

    def _has_failed(self, each: ComposedFilter) -> None:
        assert each.transaction is not None
        each.transaction.edits = None  # after a failure none is sent, even if the message passes
        for failed in (self.failed, *([] if self.in_message else [self.failed_before])):
            if each.name not in failed:
                failed.append(each.name)

    def applies(self, each: ComposedFilter, stage: Stage, response: Any, *, failed: bool) -> bool:
        """Apply an answer of a filter, and return whether it decides on the event."""
        each.failing = failed
        # As for a filter alone, abort does not follow the end of a message, however that went.
        each.finished = each.finished or stage is Stage.EOM
        if failed and stage not in _OF_CONNECTION and response in (CONTINUE, ACCEPT):
            return False
        if response is None or response is CONTINUE:
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
                    each.leaves()
                elif each.answer is SKIP:
                    each.skipped = True
                elif each.answer is ACCEPT:
                    each.accepts(stage)

    def decided(self, stage: Stage, each: ComposedFilter) -> Any:
        """Return the answer of the filter that has decided; the others hear of the end of the message, if that is one."""
        self.acting, response = each.name, each.answer
        ends = response is DISCARD if stage is Stage.RCPT else stage not in _OF_CONNECTION
        each.finished = each.finished or ends
        self.leave(self.unanswered() if ends else [])
        return response

    def passing(self, stage: Stage) -> Any:
        """Return the answer of filters that do not refuse: ACCEPT if none has more to say; None where all are shadows."""
        if not self._filters:
            return None
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

    def unanswered(self) -> list[ComposedFilter]:
        """Return the filters that have neither answered nor seen the end of the message."""
        return [each for each in self._filters if each.included and not (each.finished or each.accepted_client)]

    def leave_failed(self) -> None:
        """Have those clean up that have failed, and are not asked about this message any more."""
        self.leave([each for each in self._filters if each.out and not each.finished])

    def leave(self, filters: Sequence[ComposedFilter]) -> None:
        """Have callbacks that were cancelled end, and then filters clean up; the answer does not wait for that."""
        for each in filters:
            each.finished = True
        cleaning = [each for each in filters if overrides(type(each.milter), "abort")]
        if cleaning or self._runner.unfinished:
            self.cleanup = asyncio.create_task(self._clean(cleaning))

    async def _clean(self, filters: Sequence[ComposedFilter]) -> None:
        await self._runner.finish()
        await self.tell("abort", filters)
        if not self.in_message:
            self.forget()

    @property
    def is_ready(self) -> bool:
        """Whether all is done that the event before has left."""
        return self.cleanup is None and not self._runner.unfinished

    async def ready(self) -> None:
        """Wait until all is done that the event before has left."""
        cleanup = self.cleanup
        if cleanup is not None:
            await asyncio.wait((cleanup,))
            self.cleanup = None
        if self._runner.unfinished:  # an abort that took too long
            await self._runner.finish()

    async def tell(self, name: str, filters: Sequence[ComposedFilter]) -> None:
        """Call ``abort`` or ``close`` of filters; what they return is ignored."""
        turns = []
        for each in filters:
            each.finished = True
            if overrides(type(each.milter), name):
                turns.append(Turn(each.seat.place, partial(self._begin_last, each, name), each.context))
        if turns:
            await self._run(turns, self._told, self._told_late, self._allowed_last)

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
        self._filters[turn.place].source.answer_timeout(
            None, None, f"the callback did not end within {turn.seconds:.3g} s"
        )
        return False


async def _answering(response: Any) -> Any:
    return response


def _end(context: Context, _: object) -> None:
    context._transaction = None


async def _show(milter: MessageMilter, octets: bytes) -> None:
    milter.chunk(octets)
