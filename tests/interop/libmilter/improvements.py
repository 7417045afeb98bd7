"""The table of what aiomilter does otherwise than libmilter; its format is said in its head, improvements.txt."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from tests.interop.libmilter.playing import Played, canonical

__all__ = ["Difference", "Improvement", "differences", "improvements", "listed"]

TABLE: Final = Path(__file__).parent / "improvements.txt"


class Difference(NamedTuple):
    """One packet that the two took otherwise, as the table has it."""

    step: int
    libmilter: str
    aiomilter: str

    def __str__(self) -> str:
        """Write a line of the table."""
        return f"{self.step} | {self.libmilter} | {self.aiomilter}"


class Improvement(NamedTuple):
    """A block of the table.

    Args:
        rule: Numbers of rules, and sections of the project's documents, separated by commas.
        libmilter: What it does.
        aiomilter: What we do instead.
        differences: Where that is seen, by conversation.
    """

    rule: str
    libmilter: str
    aiomilter: str
    differences: Mapping[str, tuple[Difference, ...]]


@lru_cache(maxsize=1)
def improvements() -> tuple[Improvement, ...]:
    """Return the whole table."""
    return tuple(_read(TABLE.read_text("ascii")))


def _read(text: str) -> Iterator[Improvement]:
    for block in text.split("\n\n")[1:]:
        head, body = [], dict[str, tuple[Difference, ...]]()
        name = ""
        for line in block.splitlines():
            if line.startswith("= "):
                name = line[2:]
            elif name:
                step, theirs, ours = line.split(" | ")
                body[name] = (*body.get(name, ()), Difference(int(step), theirs, ours))
            else:
                head.append(line.partition(": ")[2])
        rule, libmilter, aiomilter = head
        yield Improvement(rule, libmilter, aiomilter, body)


def listed(name: str) -> list[Difference]:
    """Return what is listed for a conversation, in the order of its packets."""
    return sorted(difference for block in improvements() for difference in block.differences.get(name, ()))


def differences(libmilter: Played, aiomilter: Played) -> list[Difference]:
    """Return where two have taken a conversation otherwise."""
    found = []
    for step, (theirs, ours) in enumerate(zip(libmilter.steps, aiomilter.steps, strict=True)):
        theirs = theirs._replace(answers=tuple(canonical(theirs.answers)))
        if theirs != ours:
            found.append(Difference(step, str(theirs), str(ours)))
    return found
