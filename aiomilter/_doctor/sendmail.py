"""A Sendmail as its sendmail.cf sets it up: filters, their order and equates, and options.

Source: Sendmail's cf/README; Sendmail, sendmail/milter.c; Sendmail, sendmail/readcf.c.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiomilter._doctor.endpoints import of_sendmail
from aiomilter._doctor.findings import Kind, Step, changed, run
from aiomilter._doctor.model import Asker, Milter, Mta
from aiomilter._doctor.postconf import NotReadable

__all__ = ["FilterPlace", "Line", "Sendmail", "read_sendmail"]

_MOST: Final = 16 << 20
"""Octets of a file that are read."""
_OPTION: Final = re.compile(r"O\s*(?P<name>[A-Za-z][\w.-]*)\s*=\s*(?P<value>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of sendmail.cf with those that continue it.

    Args:
        number: Of the first line, from 1.
        count: How many lines there are.
        text: Of all of them.
    """

    number: int
    count: int
    text: str


@dataclass(frozen=True, slots=True)
class FilterPlace:
    """The definition of a filter.

    Args:
        file: The path of sendmail.cf.
        name: Of the filter.
        line: Where it is.
        lists: The list that names it, if there is one, and its names.
        endpoint: Of the filter.
        settings: Its other equates.
        number: 0: nothing else is on the line.
    """

    file: str
    name: str
    line: Line
    lists: tuple[Line, tuple[str, ...]] | None
    endpoint: str
    settings: Mapping[str, str]
    number: int = 0

    @property
    def key(self) -> object:
        """The line."""
        return self.line.number

    @property
    def where(self) -> str:
        """File, line and name."""
        return f"{self.file}:{self.line.number}: X{self.name}"

    def rewritten(self, endpoint: str, settings: Mapping[str, str]) -> tuple[Step, ...]:
        """Return the step that writes another endpoint, or other equates."""
        return changed(self, (endpoint, settings))

    def written(self, changes: Mapping[int, tuple[str, Mapping[str, str]] | None]) -> Step:
        """Return the step that writes the line."""
        endpoint, settings = changes[0] or (self.endpoint, self.settings)
        equates = ", ".join(f"{name}={value}" for name, value in {"S": endpoint, **settings}.items() if value)
        return Step(Kind.WRITE, f"X{self.name}, {equates}", self.file, self.line.number, self.line.count)

    def removed(self) -> tuple[Step, ...]:
        """Return the step that takes this filter out of the list."""
        assert self.lists is not None
        line, names = self.lists
        left = list(names)
        del left[len(left) - 1 - left[::-1].index(self.name)]
        return (Step(Kind.WRITE, f"O InputMailFilters={', '.join(left)}", self.file, line.number, line.count),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sendmail(Mta):
    """A Sendmail.

    Args:
        file: The path of sendmail.cf.
        options: By their names in lower case: the line and the value.
        unasked: Filters that are defined and that no list names.
        undefined: Names in lists that are not defined, with their line.
        asker: The daemon.
    """

    file: str
    options: Mapping[str, tuple[Line, str]]
    unasked: tuple[FilterPlace, ...]
    undefined: tuple[tuple[Line, str], ...]
    asker: Asker

    def option(self, name: str) -> str:
        """Return an option; "" if it is not set."""
        found = self.options.get(name.lower())
        return found[1] if found is not None else ""


def read_sendmail(path: str) -> Sendmail:
    """Return what a sendmail.cf sets up.

    Args:
        path: Of the file.

    Raises:
        NotReadable: There is no such file, or it is not sendmail.cf.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(_MOST).decode("utf-8", "surrogateescape").replace("\0", "")
    except (OSError, ValueError) as error:
        raise NotReadable(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    lines = list(_lines(text))
    if any(re.match(r"(INPUT_)?MAIL_FILTER\(|define\(`|include\(`|divert\(", line.text) for line in lines):
        raise NotReadable(f"{path} is the source for m4; name the sendmail.cf that is made from it")
    options = {
        found["name"].lower(): (line, found["value"].strip())
        for line in lines
        if (found := _OPTION.fullmatch(line.text)) is not None
    }
    asked = _lists_of(lines, options)
    filters: dict[str, FilterPlace] = {}
    for line in lines:
        if line.text.startswith("X"):
            name, *equates = (part.strip() for part in line.text[1:].split(","))
            values = {key.strip(): value.strip() for key, _, value in (one.partition("=") for one in equates)}
            lists = next(((where, names) for where, names in asked if name in names), None)
            others = {key: value for key, value in values.items() if key != "S"}
            filters[name] = FilterPlace(path, name, line, lists, values.get("S", ""), others)
    user = options["runasuser"][1].partition(":")[0] if "runasuser" in options else ""
    asker = Asker("", "sendmail", user=user or None)
    milters = {name: _milter(place, asker) for name, place in filters.items() if place.lists}
    order = tuple(milters[name] for _, names in asked[:1] for name in names if name in milters)
    return Sendmail(
        "sendmail",
        tuple(milters.values()),
        {asker: order},
        _reload(options),
        file=path,
        options=options,
        unasked=tuple(place for place in filters.values() if place.lists is None),
        undefined=tuple((line, name) for line, names in asked for name in names if name not in filters),
        asker=asker,
    )


def _lines(text: str) -> Iterator[Line]:
    """Yield the lines that say something, continued ones as one."""
    number, parts = 0, [""]
    for at, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if line[:1] in (" ", "\t") and number:
            parts.append(line.strip())
            continue
        if number:
            yield Line(number, len(parts), " ".join(part for part in parts if part))
        number, parts = (0, [""]) if not line or line.startswith("#") else (at, [line.rstrip()])
    if number:
        yield Line(number, len(parts), " ".join(part for part in parts if part))


def _lists_of(lines: Sequence[Line], options: Mapping[str, tuple[Line, str]]) -> list[tuple[Line, tuple[str, ...]]]:
    """Return the lists of filters: that of all ports, then those of ports with their own."""
    found = []
    if "inputmailfilters" in options:
        line, value = options["inputmailfilters"]
        found.append((line, _names(value, ",")))
    for line in lines:
        option = _OPTION.fullmatch(line.text)
        if option is not None and option["name"].lower() == "daemonportoptions":
            for part in option["value"].split(","):
                name, _, value = part.partition("=")
                if name.strip().lower() == "inputmailfilters":
                    found.append((line, _names(value, ";")))
    return found


def _names(value: str, separator: str) -> tuple[str, ...]:
    return tuple(name for part in value.split(separator) if (name := part.strip()))


def _milter(place: FilterPlace, asker: Asker) -> Milter:
    return Milter(place.endpoint, of_sendmail(place.endpoint), place.settings, place, (asker,), "InputMailFilters")


def _reload(options: Mapping[str, tuple[Line, str]]) -> tuple[Step, ...]:
    """Return the step that starts the daemon anew; none if it does not run."""
    path = options["pidfile"][1] if "pidfile" in options else "/var/run/sendmail.pid"
    try:
        pid = Path(path).read_bytes()[:20].split(b"\n")[0].decode("ascii")
    except (OSError, ValueError):
        return ()
    running = pid.isdigit() and os.path.exists(f"/proc/{pid}/comm")
    return (run("kill", "-HUP", pid),) if running else ()
