"""What must be known although no log takes it: a line on stderr."""

import logging
import select
import sys
from typing import Final

__all__ = ["is_taken", "write"]

_PIPE_BUF: Final = 4096
"""Octets that a pipe which is ready to be written takes without blocking, on Linux; POSIX has 512 as the least."""


def is_taken(logger: logging.Logger, level: int) -> bool:
    """Return whether a record of a level reaches any handler that writes it somewhere.

    Args:
        logger: Whose record it is.
        level: Of the record.
    """
    if not logger.isEnabledFor(level):
        return False
    found, current = False, logger
    while True:
        for handler in current.handlers:
            found = True
            if level >= handler.level and not isinstance(handler, logging.NullHandler):
                return True
        if not current.propagate or current.parent is None:
            break
        current = current.parent
    last = logging.lastResort
    return not found and last is not None and level >= last.level


def write(text: str) -> None:
    """Write a line to stderr, unless there is none, or it takes nothing now: that must not stop mail.

    Args:
        text: The line; what is too long for a pipe is cut.
    """
    try:
        if _takes_a_line():
            sys.stderr.write(f"aiomilter: {text[: _PIPE_BUF // 8]}\n")
            sys.stderr.flush()
    except (AttributeError, OSError, ValueError):  # there is none, nobody reads it, or it is closed
        pass


def _takes_a_line() -> bool:
    try:
        number = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return True  # the program's own object
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return any(event & select.POLLOUT for _, event in poll.poll(0))
