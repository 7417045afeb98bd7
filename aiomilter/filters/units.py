"""Times and rates as settings write them: ``"5 min"``, ``"200/h, burst 50"``."""

import re
from typing import Final

from aiomilter._config.values import duration
from aiomilter.policy import Rate

__all__ = ["rate", "seconds"]

_RATE: Final = re.compile(
    r"([0-9]{1,7}) ?/ ?(?:([0-9]{1,6}) ?)?(s|min|m|h|d|second|minute|hour|day)(?:, ?burst ([0-9]{1,7}))?"
)
_PER: Final = {
    "s": 1,
    "second": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86_400,
    "day": 86_400,
}


def seconds(name: str, given: float | str) -> float:
    """Return a time in seconds.

    Raises:
        ValueError: It is none; the text begins with the name of the setting.
    """
    try:
        return duration(str(given))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def rate(name: str, text: str) -> Rate:
    """Return a rate: ``200/h``, ``30/min, burst 10``, ``5/10 min``.

    Raises:
        ValueError: It is none; the text begins with the name of the setting.
    """
    found = _RATE.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"{name}: expected a rate as in '200/h' or '200/h, burst 50', found {text!r:.80}")
    limit, number, unit, burst = found.groups()
    try:
        return Rate(int(limit), per=int(number or 1) * _PER[unit], burst=None if burst is None else int(burst))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
