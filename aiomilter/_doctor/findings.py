"""What the doctor finds: a mistake, why it matters, and the steps that mend it."""

import enum
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

__all__ = ["Change", "Entry", "Finding", "Kind", "Place", "Severity", "Step", "changed", "in_order", "run"]


class Severity(enum.Enum):
    """How bad a finding is."""

    ERROR = "error"
    """Mail is refused, lost, or passes without the filter."""
    WARNING = "warning"
    """It may be meant, or hurts only at times."""


class Kind(enum.Enum):
    """What is to be done with the text of a step."""

    RUN = "run"
    """A command of the shell, for root."""
    WRITE = "write"
    """A line of a file."""
    SERVE = "serve"
    """A command that serves the filter from now on, in place of the one that does."""


class Place(Protocol):
    """Where a filter is written, among others or alone."""

    @property
    def endpoint(self) -> str:
        """The endpoint of the filter, with the values of variables."""
        ...

    @property
    def settings(self) -> Mapping[str, str]:
        """Its own settings."""
        ...

    @property
    def number(self) -> int:
        """Which one it is of those that are written together, from 0."""
        ...

    @property
    def key(self) -> object:
        """What is the same for all that is written there together."""
        ...

    def written(self, changes: "Mapping[int, Entry | None]") -> "Step":
        """Return the step that writes it.

        Args:
            changes: The filters that are different, by their numbers; None for one that is taken out.
        """
        ...


Entry: TypeAlias = tuple[str, Mapping[str, str]]
"""A filter as it is written: its endpoint and its own settings."""


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A change of one filter.

    Args:
        place: Where it is written.
        entry: What is to be there; None for nothing.
    """

    place: Place
    entry: Entry | None

    def on(self, before: Entry | None) -> Entry | None:
        """Return what is to be there if something else has changed it before."""
        if self.entry is None or before is None:
            return None
        endpoint = self.entry[0] if self.entry[0] != self.place.endpoint else before[0]
        settings = dict(before[1])
        for name in self.place.settings.keys() - self.entry[1].keys():
            settings.pop(name, None)
        settings.update(
            {name: value for name, value in self.entry[1].items() if self.place.settings.get(name) != value}
        )
        return endpoint, settings


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a mend.

    Args:
        kind: What is to be done.
        text: The command or line, exactly.
        file: Of a line: the file it belongs in.
        replaces: Of a line: the number of the first line that it replaces, from 1; 0 to add it at the end.
        lines: Of a line: how many lines it replaces.
        change: The change of a filter that it writes; what comes before it in a report is written, too.
    """

    kind: Kind
    text: str
    file: str = ""
    replaces: int = 0
    lines: int = 1
    change: Change | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Args:
        check: The word that names it, the same in all versions.
        severity: How bad it is.
        where: The setting: ``"/etc/postfix/main.cf: smtpd_milters"``.
        what: What is wrong, one sentence.
        why: Why that matters.
        mend: The steps, in order.
    """

    check: str
    severity: Severity
    where: str
    what: str
    why: str
    mend: tuple[Step, ...]

    def as_json(self) -> Mapping[str, object]:
        """Return it as ``aiomilter doctor --json`` prints it."""
        return {
            "check": self.check,
            "severity": self.severity.value,
            "where": self.where,
            "what": self.what,
            "why": self.why,
            "mend": [
                {
                    "do": step.kind.value,
                    "text": step.text,
                    "file": step.file or None,
                    "replaces": step.replaces or None,
                    "lines": step.lines if step.replaces else None,
                }
                for step in self.mend
            ],
        }


def run(*words: str) -> Step:
    """Return a step that runs a command."""
    return Step(Kind.RUN, shlex.join(words))


def changed(place: Place, entry: Entry | None) -> tuple[Step, ...]:
    """Return the step that changes one filter."""
    return (replace(place.written({place.number: entry}), change=Change(place, entry)),)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings, the worst first, with steps that keep what those before them have written."""
    order = list(Severity)
    made: dict[object, dict[int, Entry | None]] = {}
    found = []
    for finding in sorted(dict.fromkeys(findings), key=lambda each: order.index(each.severity)):
        steps = []
        for step in finding.mend:
            if (change := step.change) is not None:
                place = change.place
                entries = made.setdefault(place.key, {})
                before = entries.get(place.number, (place.endpoint, place.settings))
                entries[place.number] = change.on(before)
                step = place.written(entries)
            steps.append(step)
        found.append(replace(finding, mend=tuple(steps)))
    return tuple(found)
