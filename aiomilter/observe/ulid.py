"""Names for messages that sort by time."""

import os
from typing import Final

__all__ = ["ulid"]

_DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = [first + second for first in _DIGITS for second in _DIGITS]
_PLACES: Final = range(120, -1, -10)
"""Of the 13 pairs of digits, in bits."""
_RANDOM_SIZE: Final = 10


def ulid(milliseconds: int) -> str:
    """Return a new ULID: 48 bits of time and 80 random ones, in 26 digits of Crockford's base 32.

    Args:
        milliseconds: Since 1970, UTC.
    """
    number = (milliseconds & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(_RANDOM_SIZE))
    return "".join([_PAIRS[number >> place & 1023] for place in _PLACES])
