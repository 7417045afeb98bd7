"""What is wrong with a configuration: all of it at once, each with its place and the mend."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from aiomilter._config.lines import Path

__all__ = ["MANY", "Fault", "Faults", "shown_key"]

MANY: Final = 100
"""Faults that are shown; of more only the number."""
_LONGEST: Final = 200
"""Characters of a key in a fault."""


class Fault(NamedTuple):
    """One mistake.

    Args:
        where: The file, by the name that the user has for it, or a variable of the environment.
        line: In the file, from 1; 0 if it has no line.
        what: What is wrong, and the mend.
    """

    where: str
    line: int
    what: str

    def __str__(self) -> str:
        """Return it as compilers write mistakes, so that editors find the line."""
        return f"{self.where}:{self.line}: {self.what}" if self.line else f"{self.where}: {self.what}"


class Faults(Exception):
    """A configuration cannot be used.

    Args:
        faults: Why, at least one.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: fault.line))
        super().__init__("; ".join(self.lines()))

    def lines(self) -> list[str]:
        """Return a line for each, of very many only the first ones."""
        lines = [str(fault) for fault in self.faults[:MANY]]
        rest = len(self.faults) - MANY
        return [*lines, f"{self.faults[0].where}: and {rest} more"] if rest > 0 else lines


def shown_key(path: "Path") -> str:
    """Return a key as errors name it: ``[limits] max_edits``, ``[filter.settings] tag``, ``listen[1]``."""
    text = ""
    tables: list[str] = []
    for part in path:
        if isinstance(part, int):
            text += f"[{part + 1}]"
            continue
        if text:
            tables.append(text)
        text = part if part.isprintable() else ascii(part)
    text = f"[{'.'.join(tables)}] {text}" if tables else text
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
