"""Logging for the commands: the library never sets it up, a daemon has to."""

import atexit
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from aiomilter._cli.target import own_frames
from aiomilter._cli.terminal import safe
from aiomilter._cli.unread import Unread
from aiomilter.exceptions import MilterError

__all__ = ["Kept", "OneLine", "go_on", "set_up"]

_PACKAGE = str(Path(__file__).parent.parent)
_LOGGER: Final = logging.getLogger("aiomilter")


class OneLine(logging.Formatter):
    """A record is one line, whatever its text holds; only a traceback or a stack takes more."""

    default_msec_format = "%s.%03d"

    def formatMessage(self, record: logging.LogRecord) -> str:
        return safe(super().formatMessage(record))

    def formatException(self, exception: Any) -> str:
        kind, error, frames = exception
        if isinstance(error, MilterError | TypeError):
            # Where our own code refuses what a filter asks for, the filter's lines are what helps.
            frames = own_frames(error) or frames
        return safe(super().formatException((kind, error, frames)), also="\n\t")

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
    _OURS[:] = [handler]
    # What sets up logging for a filter (dictConfig, fileConfig) disables all loggers that it does not name.
    _LOGGER.__class__ = _NeverDisabled
    root.addHandler(handler)
    root.setLevel(level.upper())
    warnings.showwarning = _show_warning
    if level != "debug":
        # What aiosmtpd logs at INFO, command by command, and asyncio, listener by listener, our own lines say better.
        for name in ("mail.log", "asyncio"):
            logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _never_wait(form: logging.Formatter) -> None:
    """Replace stderr by a stream that never waits; a stream that tests have put in its place stays."""
    try:
        fd = sys.stderr.fileno()
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        return

    def notice(count: int) -> str:
        what = "%d records were dropped: stderr was not read"
        return form.format(logging.LogRecord("aiomilter", logging.WARNING, __file__, 0, what, (count,), None))

    unread = Unread(fd, notice)
    unread.follow_forks()
    atexit.register(unread.finish)
    before = sys.stderr
    sys.stderr = io.TextIOWrapper(unread, before.encoding, before.errors, write_through=True)


_OURS: Final[list[logging.Handler]] = []
"""The handler that the command has set up."""


class _NeverDisabled(logging.Logger):
    """A logger that goes on when others are disabled."""

    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, _: bool) -> None:
        """Do nothing."""


def go_on(level: str) -> None:
    """Have our records written although the filter has set logging up for itself: by its handlers, or else by ours.

    A level that it has set for the logger ``aiomilter`` holds.

    Args:
        level: As for :func:`set_up`.
    """
    if not _OURS:
        return
    wanted = logging.getLevelName(level.upper())
    if _LOGGER.level == logging.NOTSET and _LOGGER.getEffectiveLevel() > wanted:
        _LOGGER.setLevel(wanted)
    if not any(handler.level <= _LOGGER.getEffectiveLevel() for handler in _handlers(_LOGGER)):
        _LOGGER.addHandler(_OURS[0])


def _handlers(logger: logging.Logger | None) -> Iterator[logging.Handler]:
    """Yield what writes the records of a logger."""
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None


class Kept:
    """How logging is set up now, to be put back."""

    def __init__(self) -> None:
        root = logging.getLogger()
        others = [each for each in list(root.manager.loggerDict.values()) if isinstance(each, logging.Logger)]
        self._loggers = [
            (each, each.level, each.handlers[:], each.filters[:], each.propagate, each.disabled)
            for each in (root, *others)
        ]

    def put_back(self) -> None:
        """Have it as it was."""
        for logger, level, handlers, filters, propagate, disabled in self._loggers:
            logger.setLevel(level)
            logger.handlers[:] = handlers
            logger.filters[:] = filters
            logger.propagate, logger.disabled = propagate, disabled


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Write a warning as a record: one of ours in a sentence, another with its place in the code."""
    ours = category is RuntimeWarning and filename.startswith(_PACKAGE)
    text = str(message) if ours else f"{filename}:{lineno}: {category.__name__}: {message}"
    logging.getLogger("aiomilter").warning("%s", text)
