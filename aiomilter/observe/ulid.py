"""Names for messages that sort by time."""

import os
from itertools import count
from typing import Final

__all__ = ["ulid"]

_DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = [first + second for first in _DIGITS for second in _DIGITS]
_RANDOM_PLACES: Final = range(50, -1, -10)
"""Of the six pairs of digits that are drawn, in bits."""
_RANDOM_SIZE: Final = 8
_MOST: Final = 1 << 20
"""Names for each number that is drawn: the last four digits count them."""


class _Series:
    """Names that begin with one random number: to ask the system for another costs more than to count on."""

    def __init__(self) -> None:
        self.begin()
        # Another process with the same number would give the same names.
        os.register_at_fork(after_in_child=self.begin)

    def begin(self) -> None:
        """Draw another number."""
        number = int.from_bytes(os.urandom(_RANDOM_SIZE))
        # One object: a thread that has it has a number and a count that belong together.
        self.now: tuple[str, count[int]] = (
            "".join([_PAIRS[number >> place & 1023] for place in _RANDOM_PLACES]),
            count(),
        )


_SERIES: Final = _Series()


def ulid(milliseconds: int) -> str:
    """Return a new ULID: 48 bits of time, 60 random ones of the process, and 20 that count, in 26 digits of base 32.

    Names of one process in the same millisecond sort as they were made.

    Args:
        milliseconds: Since 1970, UTC.
    """
    drawn, numbers = _SERIES.now
    number = next(numbers)
    while number >= _MOST:
        _SERIES.begin()
        drawn, numbers = _SERIES.now
        number = next(numbers)
    pairs = _PAIRS
    return (
        f"{pairs[milliseconds >> 40 & 255]}{pairs[milliseconds >> 30 & 1023]}{pairs[milliseconds >> 20 & 1023]}"
        f"{pairs[milliseconds >> 10 & 1023]}{pairs[milliseconds & 1023]}{drawn}{pairs[number >> 10]}{pairs[number & 1023]}"
    )
