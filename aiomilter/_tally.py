"""Counting what toolkits ask the network: a few numbers of the process, which metrics show.

It is a fact of the process: DNS, stores and scanners count here, whoever has made them, and know no metrics.
"""

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final

__all__ = ["SECONDS", "count", "counted", "took"]

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 60.0)
"""Upper bounds of the buckets of durations."""

_MOST: Final = 1000
"""Values; a name and its labels have few, so this is never reached."""
_numbers: Final[dict[tuple[str, ...], float]] = {}


def count(name: str, *labels: str) -> None:
    """Add one.

    Args:
        name: Of the metric.
        labels: The values of its labels, from code.
    """
    key = (name, *labels)
    if key in _numbers or len(_numbers) < _MOST:
        _numbers[key] = _numbers.get(key, 0) + 1


def took(name: str, seconds: float, *labels: str) -> None:
    """Add a duration to a histogram: one to its bucket, and the seconds to its sum.

    Args:
        name: Of the metric.
        seconds: The duration.
        labels: As for :func:`count`.
    """
    count(name, *labels, str(bisect_left(SECONDS, seconds)))
    key = (name, *labels, "sum")
    if key in _numbers or len(_numbers) < _MOST:
        _numbers[key] = _numbers.get(key, 0) + seconds


def counted() -> Mapping[tuple[str, ...], float]:
    """Return all of it, by name and labels."""
    return dict(_numbers)
