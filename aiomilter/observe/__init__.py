"""What a server tells about itself while it works; :mod:`aiomilter.observe.log` makes log records of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

__all__ = ["LACKING", "SERVER", "MessageSummary", "Observer", "Stall", "Where"]


@dataclass(frozen=True, slots=True)
class Where:
    """Where something happened.

    Args:
        connection: Number of the connection, from 1, in the order they were accepted; 0 for the server as a whole.
        client: Address of the SMTP client, or its host name; "" if not known.
        callback: Name of the callback; "" outside one.
        queue_id: The MTA's name for the message; None without one.
        peer: Who is at the other end of the connection, an MTA or a stranger: ``"192.0.2.1:40312"``, or ``"uid 104 pid 2211"``
            for a UNIX-domain socket; "" if not known.
    """

    connection: int
    client: str
    callback: str
    queue_id: str | None
    peer: str = ""


SERVER: Final = Where(0, "", "", None)
"""Not on a connection: what concerns the server as a whole."""


LACKING: Final = frozenset({"descriptors", "threads"})
"""The kinds of :meth:`Observer.peer_error` that no peer is to blame for: the system has no more for a new connection."""


@dataclass(frozen=True, slots=True)
class MessageSummary:
    """What became of one message, as far as this filter decided.

    Args:
        where: Connection, client and queue id; ``callback`` is the step that decided.
        helo: Name of the last HELO.
        sender: Envelope sender without brackets; None if the MTA was not asked for it.
        recipients: Envelope recipients that this filter did not refuse.
        refused: How many it refused.
        answer: The answer that ended the message, ``"abort"`` if it ended without one.
        edits: How many edits were sent.
        duration: Seconds from MAIL to the answer.
    """

    where: Where
    helo: str
    sender: str | None
    recipients: tuple[str, ...]
    refused: int
    answer: str
    edits: int
    duration: float


@dataclass(frozen=True, slots=True)
class Stall:
    """The event loop is blocked, and every session with it.

    Args:
        where: The connection whose callback blocks it; :data:`SERVER` if it is no callback of a filter.
        filter: The filter's class, ``module.Name``; "" if it is none.
        stack: Where the callback is stuck, as in a traceback, its own frames only.
        duration: Seconds so far, or, once it is over, in all.
        over: Whether the loop goes on.
    """

    where: Where
    filter: str
    stack: str
    duration: float
    over: bool


class Observer(Protocol):
    """What a server calls; one that raises is dropped, after one log record.

    ``debug`` says whether :meth:`event` is wanted; it is read when a connection begins.
    """

    @property
    def debug(self) -> bool:
        """Whether to call :meth:`event`."""
        ...

    def started(self, address: str, everywhere: bool) -> None:
        """Note a listener; ``everywhere`` if it listens on all addresses."""

    def stopped(self, address: str) -> None:
        """Note the end of a listener."""

    def event(self, where: Where, event: object) -> None:
        """Note something the MTA told."""

    def refused(self, where: Where, answer: str) -> None:
        """Note an answer other than CONTINUE to a client, not to a message."""

    def message_ended(self, summary: Callable[[], MessageSummary]) -> None:
        """Note the end of a message; call ``summary`` to learn about it, before this returns or never."""

    def failed(self, where: Where, what: str, error: BaseException | None) -> None:
        """Note a failure of the filter, or of aiomilter, with its traceback if there is an error."""

    def remarked(self, where: Where, what: str) -> None:
        """Note that a limit was hit, or that something is odd."""

    def peer_error(self, where: Where, kind: str, what: str) -> None:
        """Note what a peer has done that no MTA does: broken the protocol, spoken another, read no answers, passed a limit.

        Also that the system lacks what another connection needs, see :data:`LACKING`.

        An observer without this method hears :meth:`remarked` instead.

        Args:
            where: On which connection; ``where.peer`` says who it is.
            kind: One of a few, whatever the peer sends: what to count by, or to log only now and then.
            what: A line for the log, nothing in it that the peer has sent but numbers.
        """
        self.remarked(where, what)

    def stalled(self, stall: Stall) -> None:
        """Note that the event loop is blocked: twice for each time, first while it lasts, then ``over``.

        The first call is the only one that comes from another thread: the loop's own is stuck.
        """

    def noted(self, what: str) -> None:
        """Note a turn in the life of the server: it is reloaded, or a worker process has come or gone."""
