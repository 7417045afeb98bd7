"""Logging for the commands: the library never sets it up, a daemon has to."""

import atexit
import io
import logging
import sys
import warnings
from pathlib import Path
from typing import TextIO

from aiomilter._cli.terminal import safe
from aiomilter._cli.unread import Unread

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

    From then on nothing that Python code writes to stderr waits for a reader.

    Args:
        level: "debug", "info", "warning" or "error".
        process: Whether to name the process, too, as syslog does.
    """
    name = "%(name)s[%(process)d]" if process else "%(name)s"
    form = OneLine(f"%(asctime)s %(levelname)s {name}: %(message)s")
    _never_wait(form)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(form)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())
    warnings.showwarning = _show_warning
    if level != "debug":
        # What aiosmtpd logs at INFO, command by command, and asyncio, listener by listener, our own lines say better.
        for name in ("mail.log", "asyncio"):
            logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _never_wait(form: logging.Formatter) -> None:
    """Replace stderr by a stream that waits for nobody; what tests have put in its place stays."""
    try:
        fd = sys.stderr.fileno()
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        return

    def notice(count: int) -> str:
        what = "%d records were dropped: nobody read them from stderr"
        return form.format(logging.LogRecord("aiomilter", logging.WARNING, __file__, 0, what, (count,), None))

    unread = Unread(fd, notice)
    unread.follow_forks()
    atexit.register(unread.finish)
    before = sys.stderr
    sys.stderr = io.TextIOWrapper(unread, before.encoding, before.errors, write_through=True)


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
