"""What the doctor finds: a mistake, why it matters, and the steps that mend it."""

import enum
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["Finding", "Kind", "Severity", "Step", "run", "worst"]


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


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a mend.

    Args:
        kind: What is to be done.
        text: The command or line, exactly.
        file: Of a line: the file it belongs in.
        replaces: Of a line: the number of the first line that it replaces, from 1; 0 to add it at the end.
        lines: Of a line: how many lines it replaces.
    """

    kind: Kind
    text: str
    file: str = ""
    replaces: int = 0
    lines: int = 1


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


def worst(findings: Iterable[Finding]) -> Severity | None:
    """Return the worst severity; None without findings."""
    found = {finding.severity for finding in findings}
    return next((severity for severity in Severity if severity in found), None)
