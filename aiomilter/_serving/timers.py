"""What timers can do: how far ahead they can be armed, and how early they fire."""

from typing import Final

__all__ = ["EARLY", "LONGEST_DELAY"]

LONGEST_DELAY: Final = 1_000_000.0
"""Seconds that any event loop and ``poll()`` can wait; whoever wants more is to wait again."""
EARLY: Final = 0.001
"""Seconds by which a timer may fire early: uvloop counts milliseconds."""
