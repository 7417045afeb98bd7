"""Events of a server, for logs and metrics.

In reading order: :mod:`~aiomilter.observe.observer` has the base class of observers,
:mod:`~aiomilter.observe.events` the events, with :mod:`~aiomilter.observe.shadow` for what filters would have done,
:mod:`~aiomilter.observe.log` the observer that writes log records, with
``seldom`` against floods, ``last_resort`` for records that no log takes, and ``line_handler`` for lines without a record.
:mod:`~aiomilter.observe.guard` keeps an observer that raises from disturbing the mail.
:mod:`~aiomilter.observe.metrics` counts, by the names of
:mod:`~aiomilter.observe.metric_table`, and :mod:`~aiomilter.observe.prometheus` shows that to Prometheus.  See ``aiomilter help
metrics`` and ``aiomilter help log``.
"""

from aiomilter.observe.events import (
    MOST_EDITS,
    MOST_REFUSED,
    OPTION_OF,
    SERVER,
    Answer,
    AnswerSent,
    AnswerVerdict,
    CallbackFailed,
    CallbackTimedOut,
    CallbackWaited,
    ClientRefused,
    ConnectionRefused,
    Edit,
    EditKind,
    EventSeen,
    HealthChecked,
    InternalError,
    Lifecycle,
    LifecycleKind,
    Limit,
    LimitReached,
    LoopStalled,
    MessageCount,
    MessageEnded,
    Misuse,
    ObserverEvent,
    PeerError,
    PeerErrorKind,
    RefusedRecipient,
    ResourceExhausted,
    TemporaryFailed,
    Where,
)
from aiomilter.observe.observer import Observer
from aiomilter.observe.shadow import MOST_SHADOW_NAMES, ShadowAnswer, ShadowOutcome

__all__ = [
    "MOST_EDITS",
    "MOST_REFUSED",
    "MOST_SHADOW_NAMES",
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
    "Observer",
    "ObserverEvent",
    "PeerError",
    "PeerErrorKind",
    "RefusedRecipient",
    "ResourceExhausted",
    "ShadowAnswer",
    "ShadowOutcome",
    "TemporaryFailed",
    "Where",
]
