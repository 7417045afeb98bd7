"""Errors of a command: one line for the user, and an exit code."""

import errno
import sys
from collections.abc import Sequence
from typing import Final

from aiomilter._cli.terminal import safe

__all__ = ["FAILED", "MISSING", "UNEXPECTED", "USAGE", "Trouble", "Troubles", "smtp_trouble", "tell"]

FAILED: Final = 1
"""The filter failed, or the command could not do what it was asked to."""
USAGE: Final = 2
"""The arguments are wrong."""
UNEXPECTED: Final = 3
"""``check``: the outcome is not the expected one."""
MISSING: Final = 4
"""There is no such file, it cannot be read, or nothing listens there."""


_IN_ONE_LINE: Final = 20
"""Mistakes that a record of the log names."""


class Trouble(Exception):
    """A mistake of the user, or in the environment: its message names the cause and the remedy.

    Args:
        message: One line.
        status: The exit code.
        details: Printed above the line: the traceback of the user's own code.
    """

    def __init__(self, message: str, *, status: int = FAILED, details: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.details = details


class Troubles(Trouble):
    """Several mistakes of a user, each with its own place, as in a configuration file.

    Args:
        lines: One for each.
        status: The exit code.
    """

    def __init__(self, lines: Sequence[str], *, status: int = USAGE) -> None:
        more = len(lines) - _IN_ONE_LINE
        texts = [*lines[:_IN_ONE_LINE], f"and {more} more"] if more > 0 else lines
        super().__init__("; ".join(texts), status=status)
        self.lines: tuple[str, ...] = tuple(lines)


def tell(trouble: Trouble) -> None:
    """Write it to stderr."""
    if isinstance(trouble, Troubles):
        # As compilers write them, with the place in front, so that editors find it.
        for line in trouble.lines:
            print(safe(line), file=sys.stderr)
        return
    if trouble.details:
        print(safe(trouble.details.rstrip(), also="\n\t"), file=sys.stderr)
    print(f"aiomilter: {safe(str(trouble))}", file=sys.stderr)


_MENDS: Final = {
    errno.EADDRINUSE: "another process listens there; stop it, or choose another",
    errno.EACCES: "choose a port above 1023",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


def smtp_trouble(error: OSError) -> Trouble:
    """Return the error message for an SMTP server that cannot listen, with a remedy."""
    what = error.strerror or str(error)
    mend = _MENDS.get(error.errno or 0)
    return Trouble(f"{what}; {mend}" if mend else what)
