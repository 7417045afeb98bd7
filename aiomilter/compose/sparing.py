"""Which members are not asked about a message, by what another has found out: :class:`Spared`.

A factory says by attributes, which the ready filters have, what it leaves out and how it may be left out:

* ``skips``: the names of the members that its filter leaves out of some messages.
* ``only_judges``: False for a check that does more than judge: it is asked about mail that is let by all others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from aiomilter.compose.conditions import Condition
from aiomilter.compose.members import Member
from aiomilter.compose.words import attribute_of
from aiomilter.context import Context
from aiomilter.handler import Milter
from aiomilter.message import MessageMilter
from aiomilter.wire.constants import Stage

__all__ = ["Entered", "Spared", "sparing"]

Entered: TypeAlias = tuple[Member, Callable[[], Milter], Milter]
"""A member with what makes its filter, and the first filter made."""


@dataclass(frozen=True, slots=True)
class Spared:
    """A result: members that are not asked about a message.

    Args:
        names: Theirs; None for all checks but those that do more than judge.
    """

    names: frozenset[str] | None = None


def sparing(entered: Sequence[Entered]) -> list[Entered]:
    """Return members that are left out where one that provides :class:`Spared` says so; they are as they were without one.

    Args:
        entered: In the order in which they are written.

    Raises:
        TypeError: A member leaves out one that is not there, or that looks at every message.
    """
    givers = [number for number, each in enumerate(entered) if Spared in getattr(type(each[2]), "provides", ())]
    if not givers:
        return [*entered]
    found: list[Entered] = []
    names = set()
    for number, (member, make, made) in enumerate(entered):
        name = member.name or type(made).__name__
        more: list[Condition] = []
        if number not in givers and attribute_of(member, "takes_conditions", True):
            names.add(name)
            is_edit = member.rank != "check" and isinstance(made, MessageMilter)
            holds = partial(_is_spared, name, not is_edit and attribute_of(member, "only_judges", True))
            more = [Condition(holds, Stage.MAIL, "spared", giver=giver) for giver in givers]
        found.append((replace(member, unless=(*(member.unless or ()), *more)), make, made))
    for giver in givers:
        for name in sorted(attribute_of(entered[giver][0], "skips", frozenset()) - names):
            who = entered[giver][0].name
            raise TypeError(
                f"compose: {who}: expected names of members that may be left out in skip, found {name!r:.80}"
            )
    return found


def _is_spared(name: str, only_judges: bool, ctx: Context) -> bool:
    return any(only_judges if each.names is None else name in each.names for each in ctx.results.all(Spared))
