"""Options that variables of the environment give: each flag of ``aiomilter run`` has one, with ``AIOMILTER_`` in front."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from aiomilter._config.faults import Fault
from aiomilter._config.table import Key, divided
from aiomilter._config.values import EITHER, FORMS, did_you_mean
from aiomilter._option import Kind

__all__ = ["PREFIX", "from_environment", "misspelt"]

PREFIX: Final = "AIOMILTER_"
_SEPARATOR: Final = re.compile(r"[\s,]+")
_COMMA: Final = re.compile(r"\s*,\s*")
_OWN: Final = ("AIOMILTER_CONFIG", "AIOMILTER_FILTER")
"""Variables that are not those of options."""


def from_environment(
    environment: Mapping[str, str], known: Sequence[Key], absolute: Callable[[str], str]
) -> tuple[dict[str, Any], list[Fault]]:
    """Return what variables give, by the names of keys, and what is wrong with them.

    Args:
        environment: The variables; an empty one counts as not set.
        known: All keys.
        absolute: Makes a path one that leads to the same file from everywhere.
    """
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    by_variable: dict[str, list[Key]] = {}
    for key in known:
        by_variable.setdefault(key.variable, []).append(key)
    for variable, members in by_variable.items():
        text = environment.get(variable, "").strip()
        if text:
            try:
                read = dict(_read(members, text))
            except ValueError as error:
                faults.append(Fault(variable, 0, str(error)))
                continue
            for name, value in read.items():
                is_path = members[0].row.option.kind is Kind.PATH
                values[name] = absolute(value) if is_path else value
    return values, faults


def _read(members: Sequence[Key], text: str) -> Iterator[tuple[str, Any]]:
    """Yield the values that the text of a variable gives to the keys that share it."""
    key = members[0]
    option = key.row.option
    by_stage = next((each for each in members if each.row.option.kind is Kind.DURATIONS), None)
    if by_stage is not None:
        form = FORMS[option.kind] if key is by_stage else EITHER
        yield from divided(map(form.read(option), _COMMA.split(text)), key.name, by_stage.name)
    elif FORMS[option.kind].many:
        yield key.name, [FORMS[option.kind].read(option)(part) for part in _SEPARATOR.split(text)]
    else:
        yield key.name, FORMS[option.kind].read(option)(text)


def misspelt(environment: Mapping[str, str], known: Sequence[Key]) -> Iterator[str]:
    """Yield a sentence for each variable that looks like a misspelt one of ours.

    Others may begin as ours do: Kubernetes sets ``AIOMILTER_PORT`` and more where a service has the name aiomilter.
    """
    names = {key.variable for key in known} | set(_OWN)
    for variable in environment:
        if variable.startswith(PREFIX) and variable not in names:
            # Without what all have in common.
            hint = did_you_mean(variable[len(PREFIX) :], [name[len(PREFIX) :] for name in names])
            if hint:
                yield f"{variable} is not an option{hint.replace('mean ', f'mean {PREFIX}')}"
