"""What a report says of a message besides its envelope: made when something asks for it, not for each message."""

from time import time
from typing import Any, Protocol

from aiomilter._connection.answers import reason_of
from aiomilter.context import Transaction
from aiomilter.observe import Where
from aiomilter.observe.message_log import MessageLog
from aiomilter.observe.ulid import ulid
from aiomilter.wire.replies import checked_reason

__all__ = ["DetailedSession", "MessageDetails", "names_of"]


class DetailedSession(Protocol):
    """The session that the message belongs to."""

    callback: str

    @property
    def transaction(self) -> Transaction:
        """The SMTP connection and the message."""
        ...

    def where(self) -> Where:
        """Return where the session is."""
        ...


class MessageDetails:
    """The name of a message, the reasons that filters give, what has failed; outside of a message, of the connection.

    Args:
        session: The connection's.
    """

    __slots__ = ("_id", "_last", "_logs", "_reasons", "_session", "failed", "in_message", "waited")

    def __init__(self, session: DetailedSession) -> None:
        self.in_message: bool = session.transaction.in_message
        """Whether it is about a message."""
        self.failed: bool = False
        """A callback has failed."""
        self.waited: float = 0.0
        """Seconds that callbacks were suspended."""
        self._session: DetailedSession | None = session
        self._id = ""
        # By filter, "" for one that is alone: the reason, and of which callback it is.
        self._reasons: dict[str, tuple[str, str, int]] = {}
        self._last: dict[str, object] = {}
        # Whether a logger was asked for.
        self._logs = False

    @property
    def id(self) -> str:
        """A ULID, new for each message; "" outside of one."""
        if not self._id and self.in_message:
            self._id = ulid(int(time() * 1000))
        return self._id

    # ------------------------------------------------------------------------------------------------------- reasons

    def set_reason(self, name: str, reason: str) -> None:
        """Keep the reason that a filter gives for the answer of the callback that runs.

        Raises:
            LocalProtocolError: It is not one word.
        """
        session = self._session
        assert session is not None
        self._reasons[name] = checked_reason(reason), session.callback, self._recipients()

    def reason(self, name: str, response: Any, *, counted: bool = False) -> str:
        """Return the reason of an answer, or else that which the callback that ran last has given; "" without one.

        Args:
            name: The filter's; "" for the last that any has given.
            response: The answer.
            counted: Whether the recipient at hand is among those of the message already.
        """
        if own := reason_of(response):
            return own
        session, found = self._session, self._reasons.get(name)
        if found is None and not name and self._reasons:
            found = next(reversed(self._reasons.values()))
        if found is None or session is None:
            return ""
        reason, callback, recipients = found
        # A reason for one recipient is none for the next.
        of_this = callback != "envrcpt" or recipients == self._recipients() - counted
        return reason if callback == session.callback and of_this else ""

    def forget_reason(self, name: str) -> None:
        """Forget the reason of a filter that has failed: its answer is another."""
        self._reasons.pop(name, None)

    def _recipients(self) -> int:
        assert self._session is not None
        transaction = self._session.transaction
        return len(transaction.recipients) + transaction.refused

    # ----------------------------------------------------------------------------------------------------------- log

    def log(self, name: str) -> MessageLog:
        """Return a logger for a filter; "" for one that is alone."""
        self._logs = True
        return MessageLog(lambda: self._names(name))

    def _names(self, name: str) -> dict[str, object]:
        if self._session is None:
            return {**self._last, "filter": name or self._last["filter"]}
        return {**names_of(self._session.where(), name), "id": self.id}

    def end(self) -> None:
        """Keep the names for records that are still to come: the session goes on with another message."""
        if self._logs:
            self._last = self._names("")
        self._session = None


def names_of(where: Where, name: str = "") -> dict[str, object]:
    """Return where a session is, as attributes of a log record.

    Args:
        where: The session's.
        name: A filter of several; "" for the one that acts.
    """
    return {
        "connection": where.connection,
        "client": where.client,
        "queue_id": where.queue_id,
        "stage": where.callback,
        "peer": where.peer,
        "server": where.server,
        "listener": where.listener,
        "filter": name or where.filter,
    }
