"""The lines of messages without log records: where nothing but the line would come of a record, it costs more than the line."""

import logging
from typing import TYPE_CHECKING, Final, TextIO, TypeAlias

from aiomilter.observe.events import MessageEnded

__all__ = ["LineHandler", "MessageFormatter", "only_handler"]

if TYPE_CHECKING:
    _StreamHandler: TypeAlias = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler

_NAMES: Final = ("_log", "makeRecord", "handle", "callHandlers")


def _methods(kind: type[logging.Logger]) -> list[object]:
    return [getattr(kind, name) for name in _NAMES]


_OF_PYTHON: Final = [each for each in _methods(logging.Logger) if getattr(each, "__module__", "") == logging.__name__]
"""What records go through, unless a program that watches logging had put something else in its place before."""


class MessageFormatter(logging.Formatter):
    """A formatter that makes the line of a message without a record, too."""

    def message_line(self, logger: str, event: MessageEnded) -> str:
        """Return what :meth:`format` returns for the record of a message.

        Args:
            logger: Its name.
            event: The message.
        """
        raise NotImplementedError


class LineHandler(_StreamHandler):
    """Writes records to a stream, and lines of messages.

    A record takes place as ever where anything else may see it: another handler, a filter, a record factory.

    Args:
        stream: Where to.
        form: Makes all lines; another that is set later is asked for records alone.
    """

    def __init__(self, stream: TextIO, form: MessageFormatter) -> None:
        super().__init__(stream)
        self._form = form
        self.setFormatter(form)

    def write_message(self, logger: str, event: MessageEnded) -> bool:
        """Write the line of a message; return False if that takes a record.

        Args:
            logger: Name of the logger.
            event: The message.
        """
        form = self._form
        if self.formatter is not form:
            return False
        try:
            line = form.message_line(logger, event) + self.terminator
        except Exception:  # noqa: BLE001 - the record has the same trouble, and reports it
            return False
        lock = self.lock
        assert lock is not None
        with lock:
            try:
                self.stream.write(line)
                self.stream.flush()
            except Exception:  # noqa: BLE001 - as above
                return False
        return True


def only_handler(logger: logging.Logger) -> LineHandler | None:
    """Return the handler that alone would see the record of a message; None if there may be others.

    Args:
        logger: Takes records of the level INFO.
    """
    found: LineHandler | None = None
    each: logging.Logger | None = logger
    while each is not None:
        for handler in each.handlers:
            if type(handler) is LineHandler and found is None:
                found = handler
            elif getattr(handler, "takes_messages", True):
                return None
        each = each.parent if each.propagate else None
    if found is None or found.filters or found.level > logging.INFO or logger.filters:
        return None
    plain = logging.getLogRecordFactory() is logging.LogRecord and _methods(type(logger)) == _OF_PYTHON
    return found if plain else None
