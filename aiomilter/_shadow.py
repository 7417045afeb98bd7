"""Whether the code that runs belongs to a shadow: a filter that is asked, and whose answers are not sent."""

from contextvars import ContextVar
from typing import Final

__all__ = ["IN_SHADOW", "in_shadow"]

IN_SHADOW: Final[ContextVar[bool]] = ContextVar("aiomilter.shadow", default=False)
"""True in the callbacks of a shadow, in its factory, and in all tasks that these start."""


def in_shadow() -> bool:
    """Return whether the code that runs belongs to a shadow: its callbacks, its factory, or tasks that these have started.

    For factories and for what knows no context; in a callback, ``ctx.shadow`` says the same.
    """
    return IN_SHADOW.get()
