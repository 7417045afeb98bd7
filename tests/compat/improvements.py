"""The table of what ours does otherwise than pymilter; its format is said in its head, improvements.txt."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Improvement", "block", "difference", "improvements", "listed"]

TABLE: Final = Path(__file__).parent / "improvements.txt"


class Improvement(NamedTuple):
    """A block of the table.

    Args:
        row: Begin of its row in the table of ``aiomilter help pymilter``.
        pymilter: What it does.
        aiomilter: What we do instead.
        differences: Where that is seen: lines of a difference by name of what was played.
    """

    row: str
    pymilter: str
    aiomilter: str
    differences: Mapping[str, tuple[str, ...]]


@lru_cache(maxsize=1)
def improvements() -> tuple[Improvement, ...]:
    """Return the whole table."""
    return tuple(_read(TABLE.read_text("ascii")))


def _read(text: str) -> Iterator[Improvement]:
    for part in text.split("\n\n")[1:]:
        row, pymilter, aiomilter, *body = part.splitlines()
        found: dict[str, tuple[str, ...]] = {}
        lines: list[str] = []
        named = False
        for line in body:
            if line.startswith("= "):
                assert line[2:] not in found, line
                found[line[2:]] = tuple(lines)
                named = True
            else:
                if named:
                    lines, named = [], False
                lines.append(line)
        row, pymilter, aiomilter = (line.partition(": ")[2] for line in (row, pymilter, aiomilter))
        yield Improvement(row, pymilter, aiomilter, found)


@lru_cache(maxsize=1)
def _all() -> Mapping[str, tuple[str, ...]]:
    return {name: lines for improvement in improvements() for name, lines in improvement.differences.items()}


def listed(name: str) -> tuple[str, ...]:
    """Return what is listed for what has that name."""
    return _all().get(_line(name), ())


def _line(name: str) -> str:
    return name.replace("\n", "\\n")


def difference(pymilter: Sequence[str], aiomilter: Sequence[str]) -> tuple[str, ...]:
    """Return the lines that only one of two has, as the table has them."""
    lines = difflib.unified_diff(pymilter, aiomilter, n=0, lineterm="")
    return tuple(f"{line[0]} {line[1:]}" for line in list(lines)[2:] if not line.startswith("@@"))


def block(differences: Mapping[str, tuple[str, ...]]) -> str:
    """Write differences as the body of a block, names with the same difference together."""
    same: dict[tuple[str, ...], list[str]] = {}
    for name, lines in differences.items():
        same.setdefault(lines, []).append(name)
    return "\n".join(
        line for lines, names in same.items() for line in [*lines, *(f"= {_line(name)}" for name in names)]
    )
