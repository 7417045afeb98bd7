"""The lists of filters in main.cf and master.cf: taken apart, with where each entry is written.

An entry may come from another parameter (``$smtpd_milters``); it is mended there.

Source: postconf(5), smtpd_milters; Postfix, README_FILES/MILTER_README; postconf(1), -e, -P.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from aiomilter._doctor.findings import Step, changed, run
from aiomilter._doctor.postconf import Parameters, Service

__all__ = ["Entry", "ListPlace", "entries", "split", "unbraced", "write"]

_WHOLE: Final = re.compile(r"\$(?:(\w+)|\{(\w+)\}|\((\w+)\))")
_DEEPEST: Final = 10
"""Parameters that name one another."""
_SEPARATORS: Final = ", \t\r\n"
_MOST: Final = 1000
"""Entries of one list."""


@dataclass(frozen=True, slots=True)
class ListPlace:
    """An entry of a list.

    Args:
        parameters: Of the Postfix.
        name: Of the parameter that it is written in.
        service: Whose ``-o`` sets that; None for main.cf.
        tokens: The entries of that parameter, as written.
        number: Which one of them it is, from 0.
        endpoint: Of the filter, with the values of variables.
        settings: Its own.
    """

    parameters: Parameters
    name: str
    service: Service | None
    tokens: tuple[str, ...]
    number: int
    endpoint: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> object:
        """The parameter."""
        return self.name, self.service.name if self.service is not None else None

    @property
    def where(self) -> str:
        """File and parameter."""
        if self.service is None:
            return f"{self.parameters.main_cf}: {self.name}"
        return f"{self.parameters.master_cf}: {self.service.name}: -o {self.name}"

    def rewritten(self, endpoint: str, settings: Mapping[str, str]) -> tuple[Step, ...]:
        """Return the step that writes another endpoint, or other settings of this filter."""
        return changed(self, (endpoint, settings))

    def removed(self) -> tuple[Step, ...]:
        """Return the step that takes this filter out of the list."""
        return changed(self, None)

    def written(self, changes: Mapping[int, tuple[str, Mapping[str, str]] | None]) -> Step:
        """Return the step that writes the list."""
        tokens = []
        for number, token in enumerate(self.tokens):
            entry = changes.get(number, (token, {}))
            if entry is not None:
                words = [entry[0], *(f"{name}={value}" for name, value in entry[1].items())]
                tokens.append(words[0] if len(words) == 1 else f"{{ {', '.join(words)} }}")
        return write(self.parameters, self.name, ", ".join(tokens), self.service)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a list, with the values of variables.

    Args:
        endpoint: Of the filter.
        settings: Its own, such as ``default_action``.
        fault: What is wrong with its braces; "" for nothing.
        place: Where it is written.
    """

    endpoint: str
    settings: Mapping[str, str]
    fault: str
    place: ListPlace


def write(parameters: Parameters, name: str, value: str, service: Service | None = None) -> Step:
    """Return the step that sets a parameter, of a service with ``-o``."""
    if service is None:
        return run("postconf", "-c", parameters.directory, "-e", f"{name} = {value}")
    # postconf takes no blanks there.
    return run("postconf", "-c", parameters.directory, "-P", f"{service.name}/{name}={_without_blanks(value)}")


def entries(parameters: Parameters, name: str, service: Service | None) -> list[Entry]:
    """Return the filters of a list.

    Args:
        parameters: Of the Postfix.
        name: ``smtpd_milters`` or ``non_smtpd_milters``.
        service: The service that asks.
    """
    expanded = split(parameters.value(name, service))
    found = list(_places(parameters, name, service, iter(range(_MOST)), 0))
    if len(found) != len(expanded):
        # Written in a way that only Postfix can read, such as ${name?{value}}: all of it is written anew.
        owner = service if service is not None and name in service.given else None
        found = [ListPlace(parameters, name, owner, tuple(expanded), number) for number in range(len(expanded))]
    entries = [_entry(token, place) for token, place in zip(expanded, found, strict=True)]
    return [
        replace(entry, place=replace(entry.place, endpoint=entry.endpoint, settings=entry.settings))
        for entry in entries
    ]


def _places(
    parameters: Parameters, name: str, service: Service | None, steps: Iterator[int], depth: int
) -> Iterator[ListPlace]:
    """Yield where the entries of a list are written, looking at no more parameters than ``steps`` has left."""
    owner = service if service is not None and name in service.given else None
    given = parameters.given if owner is None else owner.given
    tokens = tuple(split(given.get(name, "")))
    for number, token in enumerate(tokens):
        if (whole := _WHOLE.fullmatch(token)) and depth < _DEEPEST and next(steps, None) is not None:
            yield from _places(parameters, whole[1] or whole[2] or whole[3], service, steps, depth + 1)
        else:
            yield ListPlace(parameters, name, owner, tokens, number)


def split(value: str) -> list[str]:
    """Return the entries of a list: separated by blanks or commas, braces kept together."""
    found: list[str] = []
    token, depth = "", 0
    for part in re.findall(r"[{}]|[, \t\r\n]+|[^{}, \t\r\n]+", value):
        if depth == 0 and part[0] in _SEPARATORS:
            if token:
                found.append(token)
            token = ""
            continue
        depth = max(0, depth + {"{": 1, "}": -1}.get(part, 0))
        token += part
        if len(found) >= _MOST:
            break
    return [*found, token] if token else found


def unbraced(text: str) -> str:
    """Return what braces hold; the text itself without them."""
    return text[1:-1].strip() if text[:1] == "{" and text[-1:] == "}" else text


def _entry(token: str, place: ListPlace) -> Entry:
    if not token.startswith("{"):
        return Entry(token, {}, "", place)
    whole = token.endswith("}") and token.count("{") == token.count("}")
    words = split(unbraced(token) if whole else token.strip("{} "))
    fault = "" if whole else "its braces do not match"
    # Blanks around = are for what has braces of its own.
    joined = split(re.sub(r"\s*=\s*", "=", " ".join(words[1:])))
    if len(joined) != len(words) - 1:
        fault = "a setting with blanks around = needs braces of its own"
    settings = {}
    for word in joined:
        name, _, value = unbraced(word).partition("=")
        settings[name.strip()] = value.strip()
    return Entry(words[0] if words else "", settings, fault, place)


def _without_blanks(value: str) -> str:
    """Return a list that is written without blanks."""
    return re.sub(r"\s*([,{}=])\s*", r"\1", value.strip()).replace(" ", ",")
