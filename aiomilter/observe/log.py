"""An observer that writes records of the logger ``aiomilter``.

ERROR: a callback failed.  WARNING: the MTA broke the protocol, or a limit was hit.  INFO: listeners, and a line per message.
DEBUG: what the MTA tells, step by step.  Text from outside appears as ``repr``; bodies and header values never.
"""

import logging
from collections.abc import Callable
from typing import Final

from aiomilter.observe import SERVER, MessageSummary, Stall, Where
from aiomilter.wire.events import BodyChunk, Header

__all__ = ["LogObserver"]

_LOGGER: Final = logging.getLogger("aiomilter")


class LogObserver:
    """Write what happens to the logger ``aiomilter``, which the application configures."""

    def __init__(self, logger: logging.Logger = _LOGGER) -> None:
        self._logger = logger

    @property
    def debug(self) -> bool:
        """Whether the logger takes DEBUG records."""
        return self._logger.isEnabledFor(logging.DEBUG)

    def started(self, address: str, everywhere: bool) -> None:
        """Write where the filter listens."""
        self._logger.info("listening on %s%s", address, " (all addresses)" if everywhere else "")

    def stopped(self, address: str) -> None:
        """Write where it no longer does."""
        self._logger.info("no longer listening on %s", address)

    def event(self, where: Where, event: object) -> None:
        """Write an event, its size in place of content."""
        if isinstance(event, Header):
            shown = f"Header {event.name!r}, {len(event.value)} characters"
        elif isinstance(event, BodyChunk):
            shown = f"BodyChunk, {len(event.chunk)} octets"
        else:
            shown = repr(event)
        self._logger.debug("connection %d: %s", where.connection, shown, extra=_extra(where))

    def refused(self, where: Where, answer: str) -> None:
        """Write an answer that concerns a client, not a message."""
        self._logger.info("client=%r %s: %s", where.client, where.callback, answer, extra=_extra(where))

    def message_ended(self, summary: Callable[[], MessageSummary]) -> None:
        """Write the line of a message."""
        if not self._logger.isEnabledFor(logging.INFO):
            return
        message = summary()
        recipients = list(message.recipients[:10])
        self._logger.info(
            "client=%r helo=%r sender=%r recipients=%r%s%s queue_id=%r %s: %s edits=%d time=%.3f",
            message.where.client,
            message.helo,
            message.sender,
            recipients,
            f" (+{len(message.recipients) - 10} more)" if len(message.recipients) > 10 else "",
            f" refused={message.refused}" if message.refused else "",
            message.where.queue_id,
            message.where.callback,
            message.answer,
            message.edits,
            message.duration,
            extra=_extra(message.where),
        )

    def failed(self, where: Where, what: str, error: BaseException | None) -> None:
        """Write a failure, with its traceback."""
        if where.connection == SERVER.connection:
            self._logger.error("%s", what, exc_info=error)
            return
        self._logger.error(
            "%s failed for client=%r queue_id=%r: %s",
            where.callback or "server",
            where.client,
            where.queue_id,
            what,
            exc_info=error,
            extra=_extra(where),
        )

    def remarked(self, where: Where, what: str) -> None:
        """Write a warning."""
        if where.connection == SERVER.connection:
            self._logger.warning("%s", what)
            return
        self._logger.warning(
            "client=%r queue_id=%r %s: %s", where.client, where.queue_id, where.callback, what, extra=_extra(where)
        )

    def stalled(self, stall: Stall) -> None:
        """Write who blocks the event loop, with the stack; and how long it took."""
        where = stall.where
        if stall.over:
            text = "%s blocked the event loop for %.1f s in all, client=%r queue_id=%r"
        else:
            text = "%s has blocked the event loop for %.1f s, client=%r queue_id=%r; all sessions wait"
        what = f"{stall.filter}.{where.callback}" if where.callback else "something that is no callback of a filter"
        args = (what, stall.duration, where.client, where.queue_id)
        if self._logger.isEnabledFor(logging.WARNING):
            # Not self._logger.warning(): that has no way to say of whom the stack is.
            stack = None if stall.over else f"Stack (most recent call last):\n{stall.stack}"
            name, level = self._logger.name, logging.WARNING
            record = self._logger.makeRecord(
                name, level, __file__, 0, text, args, None, "stalled", _extra(where), sinfo=stack
            )
            self._logger.handle(record)

    def noted(self, what: str) -> None:
        """Write what has become of the server."""
        self._logger.info("%s", what)


def _extra(where: Where) -> dict[str, object]:
    return {"connection": where.connection, "queue_id": where.queue_id, "stage": where.callback}
