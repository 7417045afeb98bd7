"""Texts that grow: made from a seed out of a parser's own delimiters, of any size that is asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

__all__ = ["HOLE", "NUMBER", "Shape", "shapes"]

NUMBER: Final = "\ue000"
"""In a unit that is repeated: the number of the repetition."""
HOLE: Final = "\ue001"
"""In an atom: where a run of anything may be; elsewhere nothing is there."""
_ANYWHERE: Final = (
    *("a", "1", " ", "\t", "\r\n", "\r", "\n", "\0", "\x0c", "\x85", "\xa0", "\xe9", "\u20ac", "\udcff"),
    NUMBER,
)
"""What every parser may meet."""
_RUNS: Final = ("0", "1", "a", " ", "=", ".", "\xe9")
"""What fills a hole, if no atom does."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A text of any size: a beginning, blocks of a unit each that is repeated, and an end.

    Two blocks are what is opened and then closed, or an alternation; one that nothing closes is left open.

    Args:
        begin: Before the blocks.
        units: One for each block; all are repeated as often.
        middle: Between two blocks.
        end: Behind them.
    """

    begin: str
    units: tuple[str, ...]
    middle: str = ""
    end: str = ""

    def text(self, size: int) -> str:
        """Return a text of about this many characters."""
        unit = sum(map(len, self.units))
        count = max(1, (size - len(self.begin) - len(self.end)) // unit)
        blocks = [
            "".join([unit.replace(NUMBER, str(number)) for number in range(count)]) if NUMBER in unit else unit * count
            for unit in self.units
        ]
        return self.begin + self.middle.join(blocks) + self.end


def shapes(seed: str, atoms: Sequence[str]) -> Iterator[Shape]:
    """Yield shapes without end.

    Args:
        seed: The same one yields the same shapes.
        atoms: What the parser takes for something.
    """
    random = Random(seed)
    whole = [atom.replace(HOLE, "") for atom in atoms]
    holes = [atom for atom in atoms if HOLE in atom] or [f'"{HOLE}"', f"({HOLE})"]

    def some(least: int, most: int) -> str:
        chosen = (
            random.choice(whole if random.random() < 0.8 else _ANYWHERE) for _ in range(random.randint(least, most))
        )
        return "".join(chosen)

    while True:
        begin, end = some(0, random.choice((0, 1, 3))), some(0, random.choice((0, 0, 2)))
        middle = some(0, 1)
        units: tuple[str, ...] = (some(1, 1),)
        # Most of what hurts is simple: one thing again and again, or two, or one where there is to be little.
        kind = random.random()
        if 0.3 <= kind < 0.5:
            units = (some(2, 3),)
        elif 0.5 <= kind < 0.65:
            units = (units[0], some(1, 1))
        elif 0.65 <= kind < 0.8:
            units = (some(1, 4), some(1, 4))
        elif kind >= 0.8:
            before, _, behind = random.choice(holes).partition(HOLE)
            begin, end = begin + before, behind.replace(HOLE, "") + end
            units = (random.choice(_RUNS),) if random.random() < 0.7 else units
        yield Shape(begin.replace(NUMBER, "0"), units, middle.replace(NUMBER, "0"), end.replace(NUMBER, "0"))
