"""Logging for the commands: the library never sets it up, a daemon has to."""

import atexit
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from time import localtime, strftime, time
from typing import Any, Final, TextIO, cast

from aiomilter._cli.shortened import shortened
from aiomilter._cli.terminal import safe
from aiomilter._cli.trouble import USAGE, Trouble
from aiomilter._cli.unread import Unread
from aiomilter.exceptions import StoreSettingsError
from aiomilter.observe.address_policy import AddressPolicy, Shown
from aiomilter.observe.events import MessageEnded
from aiomilter.observe.line_handler import LineHandler, MessageFormatter
from aiomilter.observe.log import line_of
from aiomilter.observe.message_log import FILTER_LOGGER

__all__ = ["Kept", "OneLine", "address_policy", "go_on", "set_up"]

_PACKAGE = str(Path(__file__).parent.parent)
_LOGGER: Final = logging.getLogger("aiomilter")


class OneLine(MessageFormatter):
    """A record is one line, whatever its text holds; only a traceback or a stack takes more.

    Args:
        process: Whether to name the process, too, as syslog does.
    """

    default_msec_format = "%s.%03d"

    def __init__(self, *, process: bool = False) -> None:
        name = "%(name)s[%(process)d]" if process else "%(name)s"
        super().__init__(f"%(asctime)s %(levelname)s {name}: %(message)s")
        self._process = process

    def message_line(self, logger: str, event: MessageEnded) -> str:
        """Return the line of a message."""
        created = time()
        process = f"[{os.getpid()}]" if self._process else ""
        begin = f"{_second(int(created))}.{int(created % 1 * 1000):03} INFO {logger}{process}: "
        return safe(begin + line_of(event))

    def formatMessage(self, record: logging.LogRecord) -> str:
        return safe(super().formatMessage(record) + _names(record))

    def formatException(self, exception: Any) -> str:
        return safe(super().formatException(shortened(exception)), also="\n\t")

    def formatStack(self, stack_info: str) -> str:
        return safe(super().formatStack(stack_info), also="\n\t")


@lru_cache(maxsize=1)
def _second(created: int) -> str:
    return strftime("%Y-%m-%d %H:%M:%S", localtime(created))


def _names(record: logging.LogRecord) -> str:
    """Return what the record of a filter is about, for the end of its line."""
    if record.name != FILTER_LOGGER.name:
        return ""
    found = ((name, getattr(record, name, None)) for name in ("client", "queue_id", "filter"))
    return "".join(f", {name}={value!r}" for name, value in found if value)


def address_policy(shown: str, key: str | None) -> AddressPolicy:
    """Return how the log shows mail addresses.

    Args:
        shown: The value of ``--log-addresses``.
        key: A file with the secret for hashes; None for none.

    Raises:
        Trouble: There is no such file, or hashes are asked for without one.
    """
    secret = b""
    if shown == "hash":
        if key is None:
            raise Trouble(
                "--log-addresses hash needs a secret: make one with (umask 077; head -c 24 /dev/urandom | base64 >log.key), "
                "and name it by --log-key log.key ([log] key)",
                status=USAGE,
            )
        # It takes time to import what reads them.
        from aiomilter.policy.stores.keys import read_keys

        try:
            secret = read_keys(key)[0]
        except StoreSettingsError as error:
            raise Trouble(f"--log-key: {error}", status=USAGE) from None
    return AddressPolicy(cast(Shown, shown), secret)


def set_up(level: str, *, process: bool = False, style: str = "text") -> None:
    """Write records of this level and above to stderr, a line each, with the time.

    From then on nothing that Python code writes to stderr waits for a reader.

    Args:
        level: "debug", "info", "warning" or "error".
        process: Whether to name the process, too, as syslog does.
        style: "text" or "json".
    """
    form: MessageFormatter = OneLine(process=process)
    if style == "json":
        from aiomilter._cli.json_log import OneObject

        form = OneObject()
    _never_wait(form)
    handler = LineHandler(sys.stderr, form)
    root = logging.getLogger()
    _OURS[:] = [handler]
    # What sets up logging for a filter (dictConfig, fileConfig) disables all loggers that it does not name.
    _LOGGER.__class__ = FILTER_LOGGER.__class__ = _NeverDisabled
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
