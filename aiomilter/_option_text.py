"""The reference of a table of options, written from the table."""

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from aiomilter._option import Group, Kind, Row, rows
from aiomilter.wire.replies import Verdict

__all__ = ["documented", "reference", "sentences", "shown"]

_C = TypeVar("_C", bound=Callable[..., Any])
_WIDTH: Final = 128
_ROLE: Final = re.compile(r":class:`([\w.]+)`")
_UNITS: Final[Mapping[Kind, str]] = {
    Kind.DURATION: "seconds",
    Kind.DURATIONS: "seconds by stage",
    Kind.SIZE: "octets",
}


def shown(row: Row) -> str:
    """Return the default of an option as users write it; where that is None, what it means."""
    default = row.default
    if default is None:
        return row.option.none
    if isinstance(default, Verdict):
        return default.name.lower()
    if isinstance(default, bool):
        return "yes" if default else "no"
    if row.option.kind is Kind.MODE:
        return f"{default:o}"
    return f"{default:.12g}" if isinstance(default, float) else str(default)


def documented(*, options: type[Any]) -> Callable[[_C], _C]:
    """Have the docstring of a function or class end with the options of a table."""

    def document(one: _C) -> _C:
        if one.__doc__ is not None:  # as under python -OO
            lines = "".join(f"\n    {line}" for row in rows(options) for line in _lines(row))
            # Without indentation, as the compiler leaves it since Python 3.13.
            one.__doc__ = f"{inspect.cleandoc(one.__doc__)}\n\nOptions:{lines}\n"
        return one

    return document


def _lines(row: Row) -> list[str]:
    text = f"{row.name}: {sentences(row)}"
    return textwrap.wrap(text, _WIDTH - 8, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def sentences(row: Row) -> str:
    """Return the whole text of an option: what it is for, its unit and default, what None means, and the details."""
    option = row.option
    unit = _UNITS.get(option.kind)
    if row.default is None:
        none = f"default None: {option.none}"
    else:
        none = f"default {shown(row)}" + (f"; None: {option.none}" if option.none else "")
    facts = "; ".join(fact for fact in (unit, "0 or more" if option.zero else "", none) if fact)
    parts = (f"{option.help[0].upper()}{option.help[1:]} ({facts}).", option.details)
    return " ".join(filter(None, parts))


def reference(table: type[Any]) -> str:
    """Return the options of a table as reStructuredText: a section for each group, a definition for each option."""
    sections = []
    for group in Group:
        members = [row for row in rows(table) if row.option.group is group]
        if members:
            title = group.value[0].upper() + group.value[1:]
            sections.append("\n\n".join([f"{title}\n{'-' * len(title)}", *map(_definition, members)]))
    return "\n\n".join(sections) + "\n"


def _definition(row: Row) -> str:
    command = f" (command line: ``--{row.command}``)" if row.command is not None else ""
    # A role of Sphinx, which plain reStructuredText does not know.
    text = _ROLE.sub(r"``\1``", sentences(row))
    wrapped = textwrap.wrap(text, _WIDTH - 4, break_long_words=False, break_on_hyphens=False)
    return "\n    ".join([f"``{row.name}``{command}", *wrapped])
