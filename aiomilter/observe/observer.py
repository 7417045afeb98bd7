"""The base class of observers, and which of its methods hears which event."""

from collections.abc import Mapping
from typing import Final

from aiomilter.observe.events import (
    AnswerSent,
    CallbackFailed,
    CallbackTimedOut,
    CallbackWaited,
    ClientRefused,
    ConnectionRefused,
    EventSeen,
    HealthChecked,
    InternalError,
    Lifecycle,
    LimitReached,
    LoopStalled,
    MessageCount,
    MessageEnded,
    Misuse,
    ObserverEvent,
    PeerError,
    ResourceExhausted,
    TemporaryFailed,
)

__all__ = ["METHOD_OF", "Observer"]


class Observer:
    """What a server tells what happens; subclass it and override the methods of the events that you want.

    ``serve(..., observer=[LogObserver(), Mine()])`` keeps the log, :class:`aiomilter.observe.log.LogObserver`, beside an
    observer of your own; ``observer=Mine()`` replaces it.  All events come, however often they happen; only the log leaves some
    out.

    The methods are called in the event loop, so they must not block.  Two exceptions: the first :meth:`loop_stalled` of each
    time comes from the thread that watches the loop, and with :mod:`aiomilter.compat` events come from the thread of their
    connection.  A method that raises is logged once and is not called any more; the other methods, and other observers, go on.
    """

    @property
    def debug(self) -> bool:
        """Whether :meth:`event_seen` and :meth:`answer_sent` are to be called; read when a connection begins."""
        return False

    @property
    def timing(self) -> bool:
        """Whether :meth:`callback_waited` is to be called; read when the server is made."""
        return False

    def wants_messages(self) -> bool:
        """Return whether :meth:`message_ended` is to be called; asked at each end of a message, since the event costs time."""
        return True

    def message_ended(self, event: MessageEnded) -> None:
        """Take the end of a message."""

    def message_counted(self, event: MessageCount) -> None:
        """Take the end of a message in short; an observer that only counts saves time by this one."""

    def shadows_compared(self, event: MessageEnded) -> None:
        """Take the end of a message that shadows have seen, once they have; told to those that take :meth:`message_counted`."""

    def client_refused(self, event: ClientRefused) -> None:
        """Take an answer other than CONTINUE to a client, not to a message."""

    def callback_failed(self, event: CallbackFailed) -> None:
        """Take a failure of the filter."""

    def callback_timed_out(self, event: CallbackTimedOut) -> None:
        """Take a callback that took too long."""

    def callback_waited(self, event: CallbackWaited) -> None:
        """Take the end of a callback that waited, if ``timing``."""

    def temporary_failed(self, event: TemporaryFailed) -> None:
        """Take a failure of something that the filter depends on."""

    def misuse(self, event: Misuse) -> None:
        """Take something that has no effect, or is better closed."""

    def internal_error(self, event: InternalError) -> None:
        """Take a failure of aiomilter."""

    def loop_stalled(self, event: LoopStalled) -> None:
        """Take a blocked event loop: twice for each time, first while it lasts, then ``over``."""

    def limit_reached(self, event: LimitReached) -> None:
        """Take a limit that was reached."""

    def resource_exhausted(self, event: ResourceExhausted) -> None:
        """Take that the system has no more for another connection."""

    def peer_error(self, event: PeerError) -> None:
        """Take what a peer did that no MTA does."""

    def connection_refused(self, event: ConnectionRefused) -> None:
        """Take a connection that is not served."""

    def health_checked(self, event: HealthChecked) -> None:
        """Take a check that the filter answers; the log has no line for it."""

    def lifecycle(self, event: Lifecycle) -> None:
        """Take a change in the life of the server or of its processes."""

    def event_seen(self, event: EventSeen) -> None:
        """Take what the MTA told, if ``debug``."""

    def answer_sent(self, event: AnswerSent) -> None:
        """Take what was sent to the MTA, if ``debug``."""


METHOD_OF: Final[Mapping[type[ObserverEvent], str]] = {
    MessageEnded: "message_ended",
    ClientRefused: "client_refused",
    CallbackFailed: "callback_failed",
    CallbackTimedOut: "callback_timed_out",
    CallbackWaited: "callback_waited",
    TemporaryFailed: "temporary_failed",
    Misuse: "misuse",
    InternalError: "internal_error",
    LoopStalled: "loop_stalled",
    LimitReached: "limit_reached",
    ResourceExhausted: "resource_exhausted",
    PeerError: "peer_error",
    ConnectionRefused: "connection_refused",
    HealthChecked: "health_checked",
    Lifecycle: "lifecycle",
    EventSeen: "event_seen",
    AnswerSent: "answer_sent",
}
"""The method that hears each event."""
