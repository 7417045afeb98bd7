"""What a store keeps, written down: to look at it, and to move it to another store.

Lines of text: ``KIND HASH EXPIRY A B C``, below a first line that says so.  They hold hashes and numbers, and no address.
"""

import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol, runtime_checkable

from aiomilter.policy.stores.operations import State

__all__ = ["FIRST_LINE", "Movable", "Row", "is_key", "line", "read_lines"]

FIRST_LINE: Final = "aiomilter state 1"
_LINE: Final = re.compile(r"([a-z][a-z0-9_]{0,31}) ([0-9a-f]{32}) (\d{1,19}) (\d{1,19}) (\d{1,19}) (\d{1,19})\s*")
_KEY: Final = re.compile(rb"[a-z][a-z0-9_]{0,31}:.{16}", re.DOTALL)
_MOST: Final = 1 << 53


class Row(NamedTuple):
    """What is kept of a subject.

    Args:
        key: As :class:`~aiomilter.policy.stores.keys.Keys` makes it.
        state: Its state.
    """

    key: bytes
    state: State


@runtime_checkable
class Movable(Protocol):
    """A store that can be looked at as a whole."""

    async def fetch(self, keys: Sequence[bytes]) -> list[State | None]:
        """Return the states of some keys.

        Raises:
            StoreError: It could not.
        """

    def rows(self) -> AsyncIterator[Sequence[Row]]:
        """Yield all that is kept, some at a time.

        Raises:
            StoreError: It could not.
        """

    async def load(self, rows: Sequence[Row]) -> int:
        """Write rows, unless what is there has a later expiry, and return how many were written.

        Raises:
            StoreError: It could not.
        """


def is_key(octets: bytes) -> bool:
    """Return whether octets are a key, not what stands behind a longer prefix."""
    return _KEY.fullmatch(octets) is not None


def line(row: Row) -> str:
    """Return a row as a line."""
    return " ".join([row.key[:-17].decode("ascii"), row.key[-16:].hex(), *map(str, row.state)])


def read_lines(lines: Iterable[str]) -> Iterator[Row]:
    """Yield the rows of lines, the first line already read.

    Raises:
        ValueError: A line is not as :func:`line` makes them.
    """
    for number, text in enumerate(lines, 2):
        if (found := _LINE.fullmatch(text)) is None:
            raise ValueError(f"line {number}: expected a kind, a hash and four numbers, found {text[:60]!r}")
        numbers = tuple(map(int, found.groups()[2:]))
        if max(numbers) > _MOST:
            raise ValueError(f"line {number}: expected numbers up to {_MOST}, found {max(numbers)}")
        yield Row(f"{found[1]}:".encode("ascii") + bytes.fromhex(found[2]), State(*numbers))
