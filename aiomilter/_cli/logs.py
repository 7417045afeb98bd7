"""Logging for the commands: the library never sets it up, a daemon has to."""

import logging
import sys
import warnings
from pathlib import Path
from typing import TextIO

from aiomilter._cli.terminal import safe

__all__ = ["OneLine", "set_up"]

_PACKAGE = str(Path(__file__).parent.parent)


class OneLine(logging.Formatter):
    """A record is one line, whatever its text holds; only a traceback or a stack takes more."""

    default_msec_format = "%s.%03d"

    def formatMessage(self, record: logging.LogRecord) -> str:
        return safe(super().formatMessage(record))

    def formatException(self, exception: object) -> str:
        return safe(super().formatException(exception), also="\n\t")  # type: ignore[arg-type]  # typeshed's alias is private

    def formatStack(self, stack_info: str) -> str:
        return safe(super().formatStack(stack_info), also="\n\t")


def set_up(level: str, *, process: bool = False) -> None:
    """Write records of this level and above to stderr, a line each, with the time.

    Args:
        level: "debug", "info", "warning" or "error".
        process: Whether to name the process, too, as syslog does.
    """
    handler = logging.StreamHandler(sys.stderr)
    name = "%(name)s[%(process)d]" if process else "%(name)s"
    handler.setFormatter(OneLine(f"%(asctime)s %(levelname)s {name}: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())
    warnings.showwarning = _show_warning
    if level != "debug":
        # What aiosmtpd logs at INFO, command by command, and asyncio, listener by listener, our own lines say better.
        for name in ("mail.log", "asyncio"):
            logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Write a warning as a record: ours says what is wrong, others also where in the code."""
    ours = category is RuntimeWarning and filename.startswith(_PACKAGE)
    text = str(message) if ours else f"{filename}:{lineno}: {category.__name__}: {message}"
    logging.getLogger("aiomilter").warning("%s", text)
