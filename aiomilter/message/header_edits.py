"""The fewest edits that turn the header section that the MTA has into the one that is wanted, on any MTA.

Changes and deletions come first, since an occurrence counts the fields that the MTA has shown; then insertions, from the
lowest place up, so that none moves another.  Above all fields is index 0, below all a large number.  In between MTAs differ:
Postfix counts its own ``Received`` and the fields that are there; Sendmail also counts fields that its configuration keeps
ready, and deleted ones, so no number is right for all of its configurations.  So there the fields below the place are deleted
and added again at the end, with their own octets.

Source: aiomilter/help/protocol.rst, "Modifications", P-117.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import is_
from typing import Final, NamedTuple

from aiomilter.edits import Edits
from aiomilter.exceptions import LocalProtocolError
from aiomilter.message.headers import Field
from aiomilter.wire.text import header_name, header_value

__all__ = ["Change", "Insertion", "Plan", "at_ends", "plan", "queue"]

_NEW: Final = -1
_END: Final = 2**30
_MOST_MOVED: Final = 2_000
"""Fields that are deleted and added again at most, for the limit on edits (``max_edits``)."""


class Change(NamedTuple):
    """A new value for an occurrence of a field as the filter was shown it; None deletes it."""

    name: str
    occurrence: int
    field: Field | None


class Insertion(NamedTuple):
    """A field for a position."""

    position: int
    field: Field


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be asked of the MTA, in this order.

    Args:
        changes: Changes and deletions.
        insertions: Then these.
        misplaced: Fields that could not be put where they were wanted, and are below the MTA's own field instead.
    """

    changes: tuple[Change, ...] = ()
    insertions: tuple[Insertion, ...] = ()
    misplaced: tuple[Field, ...] = ()


def at_ends(original: Sequence[Field], wanted: Sequence[Field]) -> Plan | None:
    """Return the plan of most filters, which only add fields above or below all others; None for any other.

    It is the same on all MTAs, and costs a sixth of :func:`plan` (20 fields, one added: 6 us for 35).

    Args:
        original: The fields that the MTA has shown.
        wanted: Those that are wanted, from top to bottom; those that stay are the same objects.
    """
    if not original:
        return None
    first = next((place for place, field in enumerate(wanted) if field is original[0]), len(wanted))
    last = first + len(original)
    if last > len(wanted) or not all(map(is_, original, wanted[first:last])):
        return None
    end = [Insertion(_END, field) for field in wanted[last:]]
    return Plan((), (*end, *[Insertion(0, field) for field in reversed(wanted[:first])]))


def plan(original: Sequence[Field], wanted: Iterable[tuple[Field, int]], *, postfix: bool, leading_space: bool) -> Plan:
    """Return the edits that lead from the original fields to those that are wanted.

    Args:
        original: The fields that the MTA has shown.
        wanted: The fields from top to bottom, each with the place of the original one it stands for; -1 for a new one.  These
            places ascend.
        postfix: Whether the MTA is a Postfix, which says where a field between others goes.
        leading_space: Whether values are exact, and can be given exactly.
    """
    entries = _matched(original, [_changeable(original, *entry) for entry in wanted])
    survivors = [place for place, (_, origin) in enumerate(entries) if origin != _NEW]
    first, last = (survivors[0], survivors[-1]) if survivors else (0, -1)
    inner = next((place for place in range(first, last) if entries[place][1] == _NEW), None)
    misplaced: tuple[Field, ...] = ()
    if inner is not None and not postfix:
        below = [place for place in survivors if place > inner]
        if len(below) <= _MOST_MOVED and all(_movable(entries[place][0], leading_space) for place in below):
            entries = [(field, origin if place < inner else _NEW) for place, (field, origin) in enumerate(entries)]
            last = max(place for place in survivors if place < inner)
        else:
            misplaced = tuple(field for field, origin in entries[first : last + 1] if origin == _NEW)
    kept = {origin: field for field, origin in entries if origin != _NEW}
    top = [Insertion(0, field) for field, _ in entries[:first]]
    end = [Insertion(_END, field) for field, _ in entries[last + 1 :]]
    between, above = [], 0
    for field, origin in entries[first : last + 1]:
        above += origin != _NEW
        if origin == _NEW:
            between.append(Insertion(1 if misplaced else 1 + above, field))
    return Plan(_changes(original, kept), (*end, *reversed(between), *reversed(top)), misplaced)


def _changeable(original: Sequence[Field], field: Field, origin: int) -> tuple[Field, int]:
    """Return an entry, as a new one where a change would not lead to it: an empty value deletes, a name stays as it is."""
    if origin == _NEW or field.raw == original[origin].raw or _changes_to(original[origin], field):
        return field, origin
    return field, _NEW


def _changes_to(old: Field, new: Field) -> bool:
    return old.name == new.name and not (new.octets.isspace() or not new.octets)


def _matched(original: Sequence[Field], entries: list[tuple[Field, int]]) -> list[tuple[Field, int]]:
    """Return the entries, new ones standing for a deleted field where one of the same octets, or else name, was there."""
    by_octets = _matched_by(original, entries, lambda field: field.raw, lambda old, new: True)
    return _matched_by(original, by_octets, lambda field: field.name, _changes_to)


def _matched_by(
    original: Sequence[Field],
    entries: list[tuple[Field, int]],
    key: Callable[[Field], object],
    fits: Callable[[Field, Field], bool],
) -> list[tuple[Field, int]]:
    taken = {origin for _, origin in entries}
    if len(taken - {_NEW}) == len(original) or _NEW not in taken:
        return entries
    gone: dict[object, list[int]] = {}
    for place, field in enumerate(original):
        if place not in taken:
            gone.setdefault(key(field), []).append(place)
    # The next original field below each entry that is still there: a match may not pass it.
    limits, limit = [0] * len(entries), len(original)
    for place in range(len(entries) - 1, -1, -1):
        limits[place] = limit
        limit = entries[place][1] if entries[place][1] != _NEW else limit
    found, least = [], 0
    for (field, origin), limit in zip(entries, limits, strict=True):
        match = origin
        if origin == _NEW:
            places = gone.get(key(field), [])
            at = bisect_left(places, least)
            if at < len(places) and places[at] < limit and fits(original[places[at]], field):
                match = places[at]
        least = match + 1 if match != _NEW else least
        found.append((field, match))
    return found


def _movable(field: Field, leading_space: bool) -> bool:
    """Return whether a field can be deleted and added again with all its octets."""
    try:
        header_name(field.name)
        value = header_value(field.value)
    except LocalProtocolError:
        return False
    return leading_space and "\r" not in field.value and value == field.value


def _changes(original: Sequence[Field], kept: dict[int, Field]) -> tuple[Change, ...]:
    counts: Counter[bytes] = Counter()
    changes = []
    for place, field in enumerate(original):
        counts[field.key] += 1
        new = kept.get(place)
        if new is None or new.raw != field.raw:
            changes.append(Change(field.name, counts[field.key], new))
    return tuple(changes)


def queue(asked: Plan, edits: Edits) -> None:
    """Queue what a plan asks for, each value with the octets that stand before it."""
    for name, occurrence, new in asked.changes:
        if new is None:
            edits.change_header(name, occurrence, "")
        else:
            edits.change_header(name, occurrence, new.value, _separator(new))
    for position, field in asked.insertions:
        edits.insert_header(field.name, field.value, position, _separator(field))


def _separator(field: Field) -> str:
    return " " if field.octets.startswith(b" ") else ""
