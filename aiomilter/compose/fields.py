"""Header fields that come together, shown to filters in one go as long as all say nothing.

A message has twenty and more, and most callbacks of them count or compare: with a turn of its own for each, what is around such
a callback costs ten times as much as the callback itself.
"""

from collections.abc import Iterator, Sequence
from operator import length_hint
from sys import getrefcount
from typing import Any, Final, NamedTuple, Protocol

from aiomilter.compose.filters import ComposedFilter
from aiomilter.compose.turns import SAYS_NOTHING, Outcome, Runner, Suspended, Turn, first_step
from aiomilter.context import Context
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Header
from aiomilter.wire.replies import CONTINUE

__all__ = ["Shown", "begun_turn", "show"]

_new: Final = object.__new__


def _alone() -> int:
    contexts = [_new(Context)]
    context = contexts[0]
    return getrefcount(context)


_ALONE: Final = _alone()
"""The ``getrefcount`` of a context that only one local name and the list of contexts hold."""


class Shown(NamedTuple):
    """How far fields were shown.

    Args:
        done: How many all filters have said nothing about.
        turn: Of the filter that waits for something with the next one, or has something to say about it; None if none does.
        later: The filters that come after it, and were not shown that field.
    """

    done: int
    turn: Turn | None = None
    later: Sequence[ComposedFilter] = ()


class _Asking(Protocol):
    """Knows which filter is called."""

    acting: str


def begun_turn(each: ComposedFilter, step: Outcome | Suspended, began: float = 0.0) -> Turn:
    """Return the turn of a callback that has begun, by ``time.monotonic``; 0 for one that is not measured."""
    each.answer, each.failing = None, False
    turn = Turn(each.seat.place, _nothing_to_begin, each.context, each.seat.after)
    turn.began_at = began
    turn.take(step)
    return turn


def _nothing_to_begin() -> Any:
    raise AssertionError("it has begun")


def show(
    asking: _Asking,
    runner: Runner,
    filters: Sequence[ComposedFilter],
    contexts: list[Context | None],
    fields: Sequence[Header],
) -> Shown:
    """Show fields to filters until one says something.

    Args:
        asking: Gets the name of the filter that is called.
        runner: Of the connection.
        filters: Those that want them, at least one; each can be called without a further look.
        contexts: By the place of each filter: gets the context of the callback that has not ended.
        fields: In order.
    """
    rest = iter(fields)
    turn, later = None, filters[:0]
    current = runner.enter()
    try:
        if len(filters) == 1:
            turn = _show_one(asking, filters[0], contexts, rest)
        else:
            turn, later = _show_several(asking, filters, contexts, rest)
    finally:
        runner.leave(current, turn)
    if turn is None:
        return Shown(len(fields))
    return Shown(len(fields) - length_hint(rest) - 1, turn, later)


def _show_one(
    asking: _Asking, each: ComposedFilter, contexts: list[Context | None], fields: Iterator[Header]
) -> Turn | None:
    """Show fields to the only filter that wants them: nothing is to be done between two of them."""
    asking.acting = each.seat.name
    waits: list[bool] = []
    step = first_step(each.context, _one_after_the_other, each, contexts, fields, waits)
    if step is not SAYS_NOTHING:
        waits.append(True)
        return begun_turn(each, step)
    place = each.seat.place
    context, contexts[place] = contexts[place], None
    if context is not None:
        context._transaction = None
    return None


async def _one_after_the_other(
    each: ComposedFilter, contexts: list[Context | None], fields: Iterator[Header], waits: list[bool]
) -> Any:
    """Call the callback for fields until it has something to say, or has waited, which ``waits`` tells."""
    callback, place = each.callbacks[Stage.HEADER], each.seat.place
    context = contexts[place] = each.new_context(Context)
    for field in fields:
        response = await callback(context, field)
        if waits or (response is not None and response is not CONTINUE):
            return response
        if getrefcount(context) > _ALONE:  # the callback has kept it, and it is dead from now on
            context._transaction = None
            context = contexts[place] = each.new_context(Context)
    return None


def _show_several(
    asking: _Asking, filters: Sequence[ComposedFilter], contexts: list[Context | None], fields: Iterator[Header]
) -> tuple[Turn | None, Sequence[ComposedFilter]]:
    """Show each field to several filters before the next; return the turn that has begun, and the filters after it."""
    calls = [(each, each.callbacks[Stage.HEADER]) for each in filters]
    for field in fields:
        for number, (each, callback) in enumerate(calls):
            asking.acting = each.seat.name
            context = _new(Context)
            context._transaction = each.transaction
            step = first_step(each.context, callback, context, field)
            if step is SAYS_NOTHING:
                context._transaction = None
                continue
            contexts[each.seat.place] = context
            return begun_turn(each, step), filters[number + 1 :]
    return None, filters[:0]
