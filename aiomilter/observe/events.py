"""What a server tells its observers, as data: one frozen dataclass a kind, each with where it happened.

``what`` is a sentence for people, the text of the log line.  Programs go by the class of the event and by its other fields;
enums and literals among these take few values, whatever a peer sends.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, TypeAlias

from aiomilter.observe.messages import (
    MOST_EDITS,
    MOST_REFUSED,
    Answer,
    AnswerVerdict,
    ClientRefused,
    Edit,
    EditKind,
    MessageCount,
    MessageEnded,
    RefusedRecipient,
)
from aiomilter.observe.where import SERVER, Where

__all__ = [
    "MOST_EDITS",
    "MOST_REFUSED",
    "OPTION_OF",
    "SERVER",
    "Answer",
    "AnswerSent",
    "AnswerVerdict",
    "CallbackFailed",
    "CallbackTimedOut",
    "CallbackWaited",
    "ClientRefused",
    "ConnectionRefused",
    "Edit",
    "EditKind",
    "EventSeen",
    "HealthChecked",
    "InternalError",
    "Lifecycle",
    "LifecycleKind",
    "Limit",
    "LimitReached",
    "LoopStalled",
    "MessageCount",
    "MessageEnded",
    "Misuse",
    "ObserverEvent",
    "PeerError",
    "PeerErrorKind",
    "RefusedRecipient",
    "ResourceExhausted",
    "TemporaryFailed",
    "Where",
]


# ------------------------------------------------------------------------------------------------------------- failures


@dataclass(frozen=True, slots=True)
class CallbackFailed:
    """A callback raised, or returned something that is not an answer there.

    Args:
        where: In which callback.
        what: A sentence for the log.
        error: What it raised; None if it returned.
    """

    where: Where
    what: str
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class CallbackTimedOut:
    """A callback took too long, or did not end after it was cancelled.

    Args:
        where: In which callback.
        what: A sentence for the log.
        answer: What was answered for it; "" if no answer was due.
        stuck: Whether it did not even end when it was cancelled; its connection is closed.
    """

    where: Where
    what: str
    answer: str = ""
    stuck: bool = False


@dataclass(frozen=True, slots=True)
class CallbackWaited:
    """A callback that waited for something has ended; only told while an observer has ``timing``.

    Args:
        where: Which callback.
        duration: Seconds since it first waited; in a composition since it began.
    """

    where: Where
    duration: float


@dataclass(frozen=True, slots=True)
class TemporaryFailed:
    """Something that the filter depends on is down: TemporaryFailure, ResolverError or StoreError left a callback.

    Args:
        where: In which callback.
        what: A sentence for the log.
        error: What was raised.
    """

    where: Where
    what: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class Misuse:
    """The filter or an option asks for something that has no effect, or leaves something open that is better closed.

    Args:
        where: In which callback, or on which server.
        what: A sentence for the log.
    """

    where: Where
    what: str


@dataclass(frozen=True, slots=True)
class InternalError:
    """aiomilter itself failed.

    Args:
        where: On which connection.
        what: A sentence for the log.
        error: What was raised.
    """

    where: Where
    what: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class LoopStalled:
    """The event loop is blocked, and every session with it; reported twice, while it lasts and when it is over.

    Args:
        where: The connection whose callback blocks it; without a callback if no filter does.
        stack: Where the code is stuck, as in a traceback, its own frames only.
        duration: Seconds so far, or, once it is over, in all.
        over: Whether the loop goes on.
    """

    where: Where
    stack: str
    duration: float
    over: bool


# --------------------------------------------------------------------------------------------------------------- limits


class Limit(StrEnum):
    """What was limited; those called ``_SIZE`` in octets, the others in number."""

    CONNECTIONS = "connections"
    CONNECTIONS_PER_PEER = "connections_per_peer"
    REFUSED_CONNECTIONS = "refused_connections"
    REFUSED_CONNECTIONS_PER_PEER = "refused_connections_per_peer"
    MESSAGES = "messages"
    MEMORY = "memory"
    HANDSHAKES = "handshakes"
    HANDSHAKES_PER_PEER = "handshakes_per_peer"
    RECIPIENTS = "recipients"
    RECIPIENTS_SIZE = "recipients_size"
    HEADERS = "headers"
    HEADERS_SIZE = "headers_size"
    EDITS = "edits"
    EDITS_SIZE = "edits_size"
    NEW_BODY_SIZE = "new_body_size"


OPTION_OF: Final = {
    Limit.CONNECTIONS: "max_connections",
    Limit.CONNECTIONS_PER_PEER: "max_connections_per_peer",
    Limit.REFUSED_CONNECTIONS: "max_refused_connections",
    Limit.REFUSED_CONNECTIONS_PER_PEER: "max_refused_connections",
    Limit.MESSAGES: "max_messages",
    Limit.MEMORY: "max_memory",
    Limit.HANDSHAKES: "max_memory",
    Limit.HANDSHAKES_PER_PEER: "max_memory",
    Limit.RECIPIENTS: "max_recipients",
    Limit.RECIPIENTS_SIZE: "max_recipients",
    Limit.HEADERS: "max_headers",
    Limit.HEADERS_SIZE: "max_headers_size",
    Limit.EDITS: "max_edits",
    Limit.EDITS_SIZE: "max_edits_size",
    Limit.NEW_BODY_SIZE: "max_new_body_size",
}
"""The option that sets each limit."""


@dataclass(frozen=True, slots=True)
class LimitReached:
    """A limit was reached.

    Args:
        where: On which connection; the server as a whole for those that all connections share.
        limit: Which.
        number: Its value, in octets for those called ``_SIZE``.
        option: The option that sets it.
        what: A sentence for the log.
    """

    where: Where
    limit: Limit
    number: int
    option: str
    what: str


@dataclass(frozen=True, slots=True)
class ResourceExhausted:
    """The system has no more for another connection.

    Args:
        where: On which server, or connection.
        resource: Of what.
        what: A sentence for the log.
    """

    where: Where
    resource: Literal["descriptors", "threads", "recording"]
    what: str


# ---------------------------------------------------------------------------------------------------------------- peers


class PeerErrorKind(StrEnum):
    """What a peer did that no MTA does."""

    PROTOCOL = "protocol"
    """It broke a rule of the protocol, or speaks another one."""
    ORDER = "order"
    """A packet came where it means nothing."""
    NEGOTIATION = "negotiation"
    """Filter and MTA cannot agree."""
    SILENT = "silent"
    """It never sent anything."""
    UNFINISHED = "unfinished"
    """It did not send the rest of a packet in time."""
    IDLE = "idle"
    """It sent no packet for ``idle_timeout``."""
    WRITE_TIMEOUT = "write_timeout"
    """It read no answers."""
    LOST = "lost"
    """It was gone before the connection began; or TLS could not be agreed on."""


@dataclass(frozen=True, slots=True)
class PeerError:
    """A peer did what no MTA does; its connection is closed, except for :attr:`PeerErrorKind.ORDER`.

    Args:
        where: On which connection; ``where.peer`` says whose.
        kind: What it did.
        what: A sentence for the log, in which only numbers are the peer's.
    """

    where: Where
    kind: PeerErrorKind
    what: str


@dataclass(frozen=True, slots=True)
class ConnectionRefused:
    """A connection is not served.

    Args:
        where: Whose.
        cause: ``"access"``: the peer is not allowed, and was closed.  ``"factory"``: the factory has ended; it is answered
            TEMPFAIL.  Connections above a limit are :class:`LimitReached`.
        what: A sentence for the log.
    """

    where: Where
    cause: Literal["access", "factory"]
    what: str


@dataclass(frozen=True, slots=True)
class HealthChecked:
    """A peer agreed on the protocol and quit, without an SMTP client: as ``aiomilter health`` and others check a milter.

    Args:
        where: On which connection.
    """

    where: Where


# ------------------------------------------------------------------------------------------------------------ lifecycle


class LifecycleKind(StrEnum):
    """What happened to a server or to one of its processes."""

    LISTENER_STARTED = "listener_started"
    LISTENER_STOPPED = "listener_stopped"
    RELOADING = "reloading"
    RELOADED = "reloaded"
    RELOAD_FAILED = "reload_failed"
    RELOAD_CANCELLED = "reload_cancelled"
    FACTORY_FAILED = "factory_failed"
    WORKER_STARTED = "worker_started"
    WORKER_ENDED = "worker_ended"
    WORKER_FAILED = "worker_failed"


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """A server, its factory or one of its worker processes started, was reloaded, failed or ended.

    Args:
        where: On which server; ``where.listener`` is the socket of a listener.
        kind: What happened.
        what: A sentence for the log.
        error: What was raised, if it is more than the sentence says.
        pid: The process, for a worker.
    """

    where: Where
    kind: LifecycleKind
    what: str
    error: BaseException | None = None
    pid: int | None = None


# ---------------------------------------------------------------------------------------------------------------- debug


@dataclass(frozen=True, slots=True)
class EventSeen:
    """The MTA told something; only observers whose ``debug`` is true hear of it.

    Args:
        where: On which connection.
        event: What it told, a class of :mod:`aiomilter.wire.events`.
    """

    where: Where
    event: object


@dataclass(frozen=True, slots=True)
class AnswerSent:
    """A packet left for the MTA; only observers whose ``debug`` is true hear of it.

    Args:
        where: On which connection.
        answer: The answer, in one line, or the kind of an edit, ``"progress"`` or ``"negotiate"``.
    """

    where: Where
    answer: str


ObserverEvent: TypeAlias = (
    MessageEnded
    | ClientRefused
    | CallbackFailed
    | CallbackTimedOut
    | CallbackWaited
    | TemporaryFailed
    | Misuse
    | InternalError
    | LoopStalled
    | LimitReached
    | ResourceExhausted
    | PeerError
    | ConnectionRefused
    | HealthChecked
    | Lifecycle
    | EventSeen
    | AnswerSent
)
"""All there is; each goes to the method of :class:`aiomilter.Observer` that has its name."""
