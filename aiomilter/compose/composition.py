"""``compose``: several factories as one."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from inspect import iscoroutine
from typing import Any, Final

from aiomilter._shadow import IN_SHADOW
from aiomilter.compose.handler import Composed
from aiomilter.compose.members import Member, MemberFactory, member
from aiomilter.compose.plan import Plan, plan
from aiomilter.compose.shadow_filters import ShadowPool
from aiomilter.compose.shadowed import ShadowedComposed
from aiomilter.compose.sparing import sparing
from aiomilter.compose.words import asked, resolved
from aiomilter.handler import Milter

__all__ = ["Composition", "compose"]

# No observer is known where a factory is entered.
_LOGGER: Final = logging.getLogger("aiomilter")


class Composition:
    """A factory of several filters in one connection, made by :func:`compose`; see :func:`aiomilter.serve`.

    Args:
        members: In order.
        site: Given to each member that asks for it.
    """

    def __init__(self, members: tuple[Member, ...], site: object) -> None:
        self._members = members
        self._site = site

    def __call__(self) -> AbstractAsyncContextManager[Callable[[], Composed]]:
        """Enter the lifespans of the members, in order, and leave them in reverse."""
        return self._entered()

    @asynccontextmanager
    async def _entered(self) -> AsyncIterator[Callable[[], Composed]]:
        async with AsyncExitStack() as stack:
            entered = []
            site = self._site
            if site is None:
                new = (getattr(each.factory, "new_site", None) for each in self._members)
                site = next((each() for each in new if each is not None), None)
            members = resolved(self._members, site)
            wanted = asked(members)
            for each in members:
                before = IN_SHADOW.set(each.shadow or IN_SHADOW.get())
                try:
                    make, made = await self._enter(stack, each, site, wanted)
                finally:
                    IN_SHADOW.reset(before)
                entered.append((each, make, made))
            entered = sparing(entered)
            made_plan = plan(entered)
            _tell_of_order(made_plan, [each for each, _, _ in entered])
            if not made_plan.shadows:
                yield partial(Composed, made_plan)
                return
            pool = ShadowPool()
            stack.push_async_callback(pool.close)
            yield partial(ShadowedComposed, made_plan, pool)

    async def _enter(
        self, stack: AsyncExitStack, each: Member, site: object, wanted: frozenset[str]
    ) -> tuple[Callable[[], Milter], Milter]:
        """Return what makes the filter of a member, and the first that it has made."""
        factory: Any = each.factory
        bind = None if isinstance(factory, type) else getattr(factory, "bind", None)
        if bind is not None:
            factory = bind(site)
            if hasattr(factory, "asked"):
                factory.asked = wanted
        made = factory()
        if isinstance(made, AbstractAsyncContextManager):
            factory = await stack.enter_async_context(made)
            if not callable(factory):
                raise TypeError(f"member: expected its factory to yield a callable, found {type(factory).__name__}")
            made = factory()
        if isinstance(made, Composed):
            raise TypeError("member: expected a factory of one filter, found a composition")
        if not isinstance(made, Milter):
            if iscoroutine(made):
                made.close()
            raise TypeError(f"member: expected a factory of a Milter, found one of {type(made).__name__}")
        return factory, made


def _tell_of_order(made_plan: Plan, members: Sequence[Member]) -> None:
    """Log which checks are written below an edit."""
    seat_of = {seat.member: seat for seat in made_plan.seats}
    seen = False
    for seat in (seat_of[each] for each in members if not each.shadow):
        if seen and not seat.is_edit:
            _LOGGER.info("compose: the check %r is written below an edit, and runs before it all the same", seat.name)
        seen = seen or seat.is_edit


def compose(*members: Member | MemberFactory, site: object = None) -> Composition:
    """Return one factory of several, whose filters share each connection: ``milter = compose(Spf, Footer)``.

    Checks see the message as the MTA has it, and decide as it arrives; edits get the whole message after that, one after the
    other.  Of each event the answer of the first in the list that refuses counts.  See ``aiomilter help composing``.

    Args:
        members: Factories, as for :func:`aiomilter.serve`, or what :func:`check` and :func:`edit` make of them.  Without
            either a :class:`~aiomilter.message.MessageMilter` is an edit, and any other filter a check.
        site: Given to the method ``bind`` of each factory that has one, which returns the factory to use.

    Raises:
        TypeError: A member is not a factory.
    """
    found = []
    for each in members:
        if isinstance(each, Composition) or (isinstance(each, Member) and isinstance(each.factory, Composition)):
            raise TypeError("compose: expected factories of one filter each, found a composition")
        found.append(member(each))
    if not found:
        raise TypeError("compose: expected at least one member, found none")
    return Composition(tuple(found), site)
