"""An observer that writes records of the logger ``aiomilter``.

ERROR: a callback failed.  WARNING: the MTA broke the protocol, or a limit was hit.  INFO: listeners, and a line per message.
DEBUG: what the MTA tells, step by step.  Text from outside appears as ``repr``; bodies and header values never.

A line says who was at the other end of the connection.  What any peer can bring about as often as it likes is a record once
a minute a kind, with how many more there were.
"""

import logging
from collections.abc import Callable
from time import monotonic
from typing import Final

from aiomilter.observe import LACKING, SERVER, MessageSummary, Stall, Where, last_resort
from aiomilter.observe.seldom import Seldom
from aiomilter.wire.events import BodyChunk, Header

__all__ = ["LogObserver"]

_LOGGER: Final = logging.getLogger("aiomilter")


class LogObserver:
    """Write what happens to the logger ``aiomilter``, which the application configures.

    Args:
        logger: Another logger.
        time: The time now, in seconds.
        insists: Whether to write to stderr what the system has no more of, threads or descriptors, if no handler takes the
            record, for whatever reason: the program has set up logging for its own sake, or not at all.  If not, that is
            done for a logger only that was disabled, as ``dictConfig`` does by default with those it does not name.
    """

    def __init__(
        self, logger: logging.Logger = _LOGGER, time: Callable[[], float] = monotonic, *, insists: bool = False
    ) -> None:
        self._logger = logger
        self._insists = insists
        self._seldom = Seldom(self.remarked, time)
        self._seldom_lacking = Seldom(self._lacks, time)

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
        self._logger.debug("connection %d: %s%s", where.connection, shown, _peer(where), extra=_extra(where))

    def refused(self, where: Where, answer: str) -> None:
        """Write an answer that concerns a client, not a message."""
        text = "client=%r %s: %s%s"
        self._logger.info(text, where.client, where.callback, answer, _peer(where), extra=_extra(where))

    def message_ended(self, summary: Callable[[], MessageSummary]) -> None:
        """Write the line of a message."""
        if not self._logger.isEnabledFor(logging.INFO):
            return
        message = summary()
        recipients = list(message.recipients[:10])
        self._logger.info(
            "client=%r helo=%r sender=%r recipients=%r%s%s queue_id=%r %s: %s edits=%d time=%.3f%s",
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
            f" peer={message.where.peer!r}" if message.where.peer else "",
            extra=_extra(message.where),
        )

    def failed(self, where: Where, what: str, error: BaseException | None) -> None:
        """Write a failure, with its traceback."""
        if where.connection == SERVER.connection:
            self._logger.error("%s", what, exc_info=error)
            return
        self._logger.error(
            "%s failed for client=%r queue_id=%r: %s%s",
            where.callback or "server",
            where.client,
            where.queue_id,
            what,
            _peer(where),
            exc_info=error,
            extra=_extra(where),
        )

    def remarked(self, where: Where, what: str) -> None:
        """Write a warning."""
        if where.connection == SERVER.connection:
            self._logger.warning("%s%s", what, _peer(where), extra=_extra(where))
        elif where.peer and not (where.client or where.callback):
            # A stranger: more is not known.
            self._logger.warning("peer=%r: %s", where.peer, what, extra=_extra(where))
        else:
            peer = f"peer={where.peer!r} " if where.peer else ""
            text = "%sclient=%r queue_id=%r %s: %s"
            args = peer, where.client, where.queue_id, where.callback, what
            self._logger.warning(text, *args, extra=_extra(where))

    def peer_error(self, where: Where, kind: str, what: str) -> None:
        """Write a warning, unless one of its kind was written less than a minute ago."""
        (self._seldom_lacking if kind in LACKING else self._seldom)(kind, what, where)

    def _lacks(self, where: Where, what: str) -> None:
        """Write a warning where it is seen."""
        self.remarked(where, what)
        if (self._insists or self._logger.disabled) and not last_resort.is_taken(self._logger, logging.WARNING):
            last_resort.write(f"{what}{_peer(where)}")

    def stalled(self, stall: Stall) -> None:
        """Write who blocks the event loop, with the stack; and how long it took."""
        where = stall.where
        if stall.over:
            text = "%s blocked the event loop for %.1f s in all, client=%r queue_id=%r%s"
        else:
            text = "%s has blocked the event loop for %.1f s, client=%r queue_id=%r; all sessions wait%s"
        what = f"{stall.filter}.{where.callback}" if where.callback else "something that is no callback of a filter"
        args = (what, stall.duration, where.client, where.queue_id, _peer(where))
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
    return {
        "connection": where.connection,
        "queue_id": where.queue_id,
        "stage": where.callback,
        "peer": where.peer,
    }


def _peer(where: Where) -> str:
    """Return what a line ends in that does not begin with it."""
    return f", peer={where.peer!r}" if where.peer else ""
