"""The logger that a filter writes its own records to, with the names of the message that they are about."""

import logging
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

__all__ = ["FILTER_LOGGER", "MessageLog"]

FILTER_LOGGER: Final = logging.getLogger("aiomilter.filter")
"""Has the records of filters."""


class MessageLog(logging.LoggerAdapter[logging.Logger]):
    """A ``LoggerAdapter`` over the logger ``aiomilter.filter`` whose records name connection, client, message and filter.

    They are attributes of the record: ``connection``, ``client``, ``queue_id``, ``id``, ``filter`` and ``stage``. The
    ``extra=`` of a call is kept besides them.  Queue id and stage are those at the time of the record.

    Args:
        names: Returns them.
    """

    def __init__(self, names: Callable[[], Mapping[str, object]]) -> None:
        self.logger = FILTER_LOGGER
        self._names = names

    @property
    def extra(self) -> Mapping[str, object]:  # type: ignore[override]  # the names of now, where the base has an attribute
        """What is added to a record."""
        return self._names()

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the names to what the caller gives."""
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **self._names()}
        return msg, kwargs
