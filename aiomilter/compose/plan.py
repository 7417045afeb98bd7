"""A composition whose factories are entered: its filters in order, who waits for whom, and what is asked of the MTA."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from aiomilter.compose.conditions import known_stage
from aiomilter.compose.members import Member
from aiomilter.handler import Milter
from aiomilter.message import MessageMilter
from aiomilter.wire.constants import Action, Stage
from aiomilter.wire.negotiation import Wants, macro_lists

__all__ = ["Plan", "Seat", "plan"]

_MOST_MACROS: Final = 50
"""Names that Sendmail takes in one list; it cuts off the rest without a word."""
_OF_CONNECTION: Final = frozenset({Stage.CONNECT, Stage.HELO, Stage.UNKNOWN})
_OF_MESSAGES: Final = frozenset({Stage.HEADER, Stage.BODY, Stage.EOM})
"""The stages of an edit that are not its own: the composition keeps one message for all edits."""


@dataclass(frozen=True, slots=True, eq=False)
class Seat:
    """One filter of a composition.

    Args:
        place: In the order of answers: checks first, then edits.
        name: Its own.
        member: As it was written.
        make: Makes the filter of a connection.
        is_edit: Whether it gets the whole message.
        keeps_body: Whether it then wants the body, too.
        wants: What it asks of the MTA.
        stages: Of its callbacks that are called one by one.
        after: Places of those that it waits for.
        known_at: The stage at which its conditions are known; None without conditions.
        holds: Whether what it answers at connect and helo is held until then.
        edits_before: How many edits run before it.
    """

    place: int
    name: str
    member: Member
    make: Callable[[], Milter]
    is_edit: bool
    keeps_body: bool
    wants: Wants
    stages: frozenset[Stage]
    after: tuple[int, ...]
    known_at: Stage | None
    holds: bool
    edits_before: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A composition that has started.

    Args:
        seats: In the order of answers.
        wants: What they ask of the MTA together.
        asked: Of each stage the seats that are asked there, in the order in which they begin.
        edits: Those that get the whole message.
        shadows: Those whose answers are not sent, in their order; the other seats have none of them.
    """

    seats: tuple[Seat, ...]
    wants: Wants
    asked: Mapping[Stage, tuple[Seat, ...]]
    edits: tuple[Seat, ...]
    shadows: tuple[Seat, ...] = ()


def plan(entered: Sequence[tuple[Member, Callable[[], Milter], Milter]]) -> Plan:
    """Return the plan of members whose factories were entered.

    Args:
        entered: Each member with what makes its filter, and the first filter made.

    Raises:
        TypeError: They do not fit together.
    """
    edits = [_is_edit(member, made) for member, _, made in entered]
    order = sorted(range(len(entered)), key=lambda number: edits[number])
    names = [member.name or type(made).__name__ for member, _, made in (entered[number] for number in order)]
    for name in names:
        if names.count(name) > 1:
            raise TypeError(
                f"compose: expected a name of its own for each member, found {name!r} twice; give one name="
            )
    made = [entered[number][2] for number in order]
    ranks = [edits[number] for number in order]
    places = {number: place for place, number in enumerate(order)}
    hidden = [entered[number][0].shadow for number in order]
    seats = tuple(
        _seat(
            place,
            names[place],
            *entered[number],
            ranks[place],
            _waits(place, entered[number][0], names, made, ranks, places, hidden),
        )
        for place, number in enumerate(order)
    )
    _in_order(seats)  # of all of them, so that a circle is found
    live, shadows = _apart(seats)
    begin = _in_order(live)
    asked = {stage: tuple(seat for seat in begin if _is_asked(seat, stage)) for stage in Stage}
    return Plan(live, _union(live, shadows, asked), asked, tuple(seat for seat in live if seat.is_edit), shadows)


def _apart(seats: tuple[Seat, ...]) -> tuple[tuple[Seat, ...], tuple[Seat, ...]]:
    """Return the filters whose answers are sent, and the shadows, each with places among its own kind."""
    kinds = [[seat for seat in seats if seat.member.shadow is shadow] for shadow in (False, True)]
    if not kinds[True]:
        return seats, ()
    place = {seat.place: number for kind in kinds for number, seat in enumerate(kind)}

    def moved(seat: Seat, kind: Sequence[Seat]) -> Seat:
        after = tuple(place[other.place] for other in kind if other.place in seat.after)
        edits = sum(other.is_edit and other.place < seat.place for other in kinds[False])
        return replace(seat, place=place[seat.place], after=after, edits_before=edits)

    live, shadows = (tuple(moved(seat, kind) for seat in kind) for kind in kinds)
    return live, shadows


def _is_edit(member: Member, made: Milter) -> bool:
    if member.rank == "edit" and not isinstance(made, MessageMilter):
        raise TypeError(f"edit: expected a factory of a MessageMilter, found one of {type(made).__name__}")
    return isinstance(made, MessageMilter) and member.rank != "check"


def _seat(
    place: int,
    name: str,
    member: Member,
    make: Callable[[], Milter],
    made: Milter,
    is_edit: bool,
    after: tuple[int, ...],
) -> Seat:
    wants = made.wants
    stages = wants.stages
    if is_edit and isinstance(made, MessageMilter):
        stages = stages - _OF_MESSAGES | ({Stage.BODY} if made._sees_chunks else frozenset())
    known, holds = None, False
    if conditions := (*member.when, *(member.unless or ())):
        known = known_stage(*conditions)
        held = stages & {Stage.CONNECT, Stage.HELO}
        holds = bool(held)
        first = min(stages - _OF_CONNECTION, default=Stage.EOM)
        if known > first:
            latest = next(each for each in conditions if each.stage is known)
            raise TypeError(
                f"{name}: expected a condition that is known at {first.name}, its first callback of a message, found one"
                f" that is known at {known.name}: {latest.text}"
            )
    keeps = isinstance(made, MessageMilter) and is_edit and made.body_wanted
    return Seat(place, name, member, make, is_edit, keeps, wants, stages, after, known, holds)


def _waits(
    place: int,
    member: Member,
    names: Sequence[str],
    made: Sequence[Milter],
    ranks: Sequence[bool],
    places: Mapping[int, int],
    shadows: Sequence[bool],
) -> tuple[int, ...]:
    """Return the places of the filters that one waits for.

    These are those it names, those that find out what its conditions are about, and those that provide what it reads.
    """
    conditions = (*member.when, *(member.unless or ()))
    givers = [places[each.giver] for each in conditions if each.giver is not None]
    # What a shadow finds out is seen by shadows alone.
    found = [each for each in givers if member.shadow or not shadows[each]]
    for name in member.after:
        if name not in names:
            raise TypeError(f"{names[place]}: expected names of members in after=, found {name!r}")
        other = names.index(name)
        if shadows[other] and not member.shadow:
            raise TypeError(
                f"{names[place]}: expected members whose answers are sent in after=, found the shadow {name!r}"
            )
        if ranks[other] and (not ranks[place] or other > place):
            raise TypeError(f"{names[place]}: expected members that come before it in after=, found the edit {name!r}")
        found.append(other)
    reads = tuple(getattr(type(made[place]), "reads", ()))
    for other, each in enumerate(made):
        provides = tuple(getattr(type(each), "provides", ()))
        if other == place or (ranks[other] and not ranks[place]) or (shadows[other] and not member.shadow):
            continue
        if any(kind in reads for kind in provides):
            found.append(other)
    return tuple(dict.fromkeys(found))


def _in_order(seats: Sequence[Seat]) -> list[Seat]:
    """Return the seats, each behind those that it waits for, otherwise in their order."""
    found: list[Seat] = []
    waiting = [*seats]
    while waiting:
        ready = next((seat for seat in waiting if all(seats[place] in found for place in seat.after)), None)
        if ready is None:
            names = ", ".join(seat.name for seat in waiting)
            raise TypeError(f"compose: expected members that do not wait for one another in a circle, found {names}")
        waiting.remove(ready)
        found.append(ready)
    return found


def _is_asked(seat: Seat, stage: Stage) -> bool:
    # What was held is given as soon as the condition is known; by an edit at the end in its turn, which is after all checks.
    in_turn = seat.is_edit and stage is Stage.EOM
    return stage in seat.stages or (seat.holds and stage is seat.known_at and not in_turn)


def _union(seats: Sequence[Seat], shadows: Sequence[Seat], asked: Mapping[Stage, tuple[Seat, ...]]) -> Wants:
    """Return what is asked of the MTA: for shadows to see what they want, but neither to be answered nor to be refused."""
    wants = [seat.wants for seat in (*seats, *shadows)]
    stages = frozenset(stage for stage in Stage if asked[stage] or any(stage in each.stages for each in wants))
    if shadows:
        stages |= {Stage.EOM}  # how a message has fared is known there
    macros: dict[Stage, tuple[str, ...]] = {}
    for each in wants:
        for stage, names in each.macros.items():
            macros[stage] = tuple(dict.fromkeys([*macros.get(stage, ()), *names]))
    for stage, names in macro_lists(macros).items() if macros else ():
        if len(names) > _MOST_MACROS:
            raise TypeError(f"compose: expected at most {_MOST_MACROS} names of macros, found more at {stage.name}")
    actions = Action(0)
    needed = [seat.wants.actions for seat in seats]
    for each_actions in needed:
        actions |= each_actions or Action(0)
    return Wants(
        stages=stages,
        no_reply=frozenset(
            stage for stage in stages if stage is not Stage.EOM and all(_is_silent(seat, stage) for seat in seats)
        ),
        ends=any(each.ends for each in wants),
        actions=actions if any(each is not None for each in needed) else None,
        macros=macros,
        leading_space=any(each.leading_space for each in wants),
        rejected_recipients=any(each.rejected_recipients for each in wants),
    )


def _is_silent(seat: Seat, stage: Stage) -> bool:
    """Return whether a seat has no answer at a stage."""
    if seat.holds and stage is seat.known_at:
        return False
    return stage in seat.wants.no_reply or stage not in seat.wants.stages
