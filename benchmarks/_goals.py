"""What is to be reached, printed beside what was measured; how far apart it was; how many rounds fit into a time."""

import statistics
import time
from collections.abc import Iterator, Sequence


def judged(found: float, goal: float, *, least: bool = False) -> str:
    """Return the goal, and whether it was reached or by how much it was missed.

    Args:
        found: What was measured.
        goal: The most it may be.
        least: The goal is the least it may be instead.
    """
    sign = ">=" if least else "<="
    if found != found:
        return f"goal {sign} {goal:g}, not measured"
    if found >= goal if least else found <= goal:
        return f"goal {sign} {goal:g}, reached"
    return f"goal {sign} {goal:g}, missed by {abs(found / goal - 1):.0%}"


def spread(values: Sequence[float]) -> float:
    """Return the distance between the quartiles, of fewer than four values between the ends, as a share of the median."""
    if not statistics.median(values):
        return float("nan")  # where the process's clock is not to be had, the system counts hundredths of a second
    if len(values) < 4:
        return (max(values) - min(values)) / statistics.median(values)
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / statistics.median(values)


def rounds(most: int, minutes: float | None) -> Iterator[int]:
    """Yield the numbers of rounds: as many as fit into the time if one is given, else so many; never none.

    Args:
        most: Without a time.
        minutes: What all rounds may take; the last begins only if one like the longest so far would fit.
    """
    started = time.monotonic()
    number, longest = 0, 0.0
    while True:
        begun = time.monotonic()
        yield number
        number += 1
        now = time.monotonic()
        longest = max(longest, now - begun)
        if number >= most if minutes is None else now - started + longest > minutes * 60:
            return
