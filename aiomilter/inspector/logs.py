"""Log records that callbacks write, noted with the message at hand."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiomilter.inspector.recording import CURRENT, Note

__all__ = ["log_records", "take_log_records"]

_OURS: Final = "aiomilter"
"""The logger of what observers hear as well."""
_LONGEST: Final = 4_000
_LONGEST_TRACEBACK: Final = 20_000


class _Notes(logging.Handler):
    """Notes a record of a callback with the message of its connection; all others are none of its business."""

    takes_messages: Final = False
    """It has those from the observer: their lines need no record for this handler."""

    def emit(self, record: logging.LogRecord) -> None:
        """Note a record."""
        connection = CURRENT.get()
        if connection is None or record.name == _OURS:
            return
        try:
            text = record.getMessage()[:_LONGEST]
            lines = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        except Exception:  # noqa: BLE001  # arguments that do not fit, as logging itself has it
            self.handleError(record)
            return
        connection.note(Note(record.created, record.levelname, record.name, text, lines[-_LONGEST_TRACEBACK:]))


@contextmanager
def log_records() -> Iterator[None]:
    """Take the log records that callbacks write, while the block runs; which ones there are is as logging is set up."""
    handler = take_log_records()
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def take_log_records() -> logging.Handler:
    """Take the log records that callbacks write, from now on; return what takes them."""
    handler = _Notes()
    logging.getLogger().addHandler(handler)
    return handler
