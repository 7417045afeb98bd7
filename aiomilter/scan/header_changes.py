"""Changes of a header section that a scanner asks for, as plain data: a scanner knows no message."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from aiomilter.scan._json import Json, mapping

__all__ = ["NO_CHANGES", "AddedHeader", "HeaderChanges", "RemovedHeader", "header_changes"]

_MAX_CHANGES: Final = 100
_MAX_NUMBER: Final = 1_000
_NAME: Final = re.compile(r"[!-9;-~]{1,100}")
_FOLD: Final = re.compile(r"\r?\n(?=[ \t]*[^ \t\r\n])[ \t]+")
_NOT_IN_VALUES: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]|\n(?!\t)")


@dataclass(frozen=True, slots=True)
class AddedHeader:
    """A field to add.

    Args:
        name: Of the field.
        value: Text that a field may have: folds are a line feed and a tab.
        order: Its place, 0 is the top; -1 is the end, None for wherever.
    """

    name: str
    value: str
    order: int | None = None


@dataclass(frozen=True, slots=True)
class RemovedHeader:
    """A field to remove.

    Args:
        name: Of the field, in any letter case.
        occurrence: Which one of that name, 1 is the topmost; 0 for all, -1 for the last.
    """

    name: str
    occurrence: int = 0


@dataclass(frozen=True, slots=True)
class HeaderChanges:
    """All changes: first remove, then add.

    Args:
        add: Fields to add, 100 at most.
        remove: Fields to remove, 100 at most.
    """

    add: tuple[AddedHeader, ...] = ()
    remove: tuple[RemovedHeader, ...] = ()


NO_CHANGES: Final = HeaderChanges()
"""Nothing is to be changed."""


def header_changes(milter: Mapping[str, Json]) -> HeaderChanges:
    """Return the changes in what rspamd has under "milter"; what is not one is left out."""
    add = [found for name, value in _pairs(milter.get("add_headers")) for found in _added(name, value)]
    remove = [
        RemovedHeader(name, number)
        for name, value in _pairs(milter.get("remove_headers"))
        if (number := _number(value)) is not None
    ]
    return HeaderChanges(tuple(add), tuple(remove))


def _pairs(value: Json) -> Iterator[tuple[str, Json]]:
    """Yield names and what belongs to each, one at a time where it is a list."""
    count = 0
    for name, found in mapping(value).items():
        for each in found if isinstance(found, list) else [found]:
            if count >= _MAX_CHANGES:
                return
            if _NAME.fullmatch(name):
                count += 1
                yield name, each


def _added(name: str, value: Json) -> Iterator[AddedHeader]:
    text = mapping(value).get("value") if isinstance(value, dict) else value
    if isinstance(text, str):
        yield AddedHeader(name, _field_value(text), _number(mapping(value).get("order")))


def _number(value: Json) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _MAX_NUMBER:
        return None
    return int(value)


def _field_value(text: str) -> str:
    """Return text as a field may have it: only a fold goes on in another line."""
    return _NOT_IN_VALUES.sub("?", _FOLD.sub("\n\t", text.rstrip()))
