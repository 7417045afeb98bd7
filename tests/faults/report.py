"""The closing table: what became of the messages, fault by fault."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import pytest

from tests.faults.load import Books

__all__ = ["REPORT", "Report"]


@dataclass
class Report:
    """What is said at the end of the run."""

    rows: list[tuple[str, ...]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def add(self, mta: str, fault: str, books: Books) -> None:
        """Enter what a fault has come to."""
        counts = (
            len(books.replies),
            len(books.by("2")),
            sum(books.delivered.values()),
            books.held,
            len(books.by("4")),
            len(books.by("5")),
            len(books.unanswered),
        )
        self.rows.append((mta, fault, *map(str, counts)))

    def table(self) -> Iterable[str]:
        """The lines to print."""
        heads = ("MTA", "fault", "sent", "accepted", "delivered", "held", "4xx", "5xx", "no reply")
        rows = [heads, *sorted(self.rows, key=lambda row: row[0])]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows if self.rows else ():
            texts = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
            yield "  ".join(texts + [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)])
        yield from self.lines


REPORT: Final = pytest.StashKey[Report]()
