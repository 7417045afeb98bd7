"""An observer that writes records of the logger ``aiomilter``.

ERROR: a callback, a worker or a reload failed.  WARNING: the MTA broke the protocol, a limit was reached, a dependency is down.
INFO: listeners, and a line per message.  DEBUG: what the MTA tells and what it is answered.  Text from outside appears as
``repr``; bodies and header values never.

A line says who was at the other end of the connection, which filter it is about, and which server where that has a name.
What any peer can cause as often as it likes is a record once a minute a kind, with how many more there were; other observers
hear all.
"""

import logging
from collections.abc import Callable
from time import monotonic
from typing import Final, TypeAlias

from aiomilter.observe import last_resort
from aiomilter.observe.address_policy import AddressPolicy
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
    LifecycleKind,
    Limit,
    LimitReached,
    LoopStalled,
    MessageEnded,
    Misuse,
    PeerError,
    PeerErrorKind,
    RefusedRecipient,
    ResourceExhausted,
    TemporaryFailed,
    Where,
)
from aiomilter.observe.observer import Observer
from aiomilter.observe.seldom import Seldom
from aiomilter.observe.shadow import ShadowOutcome
from aiomilter.wire.events import BodyChunk, Header, Mail, Rcpt, Unknown

__all__ = ["LogObserver", "hint_at_setup"]

_LOGGER: Final = logging.getLogger("aiomilter")
_SHOWN: Final = 10
"""Recipients, refused ones, and kinds of edits, that a line names."""
_LENGTH: Final = 512
"""Characters of a text from outside that a line shows; a cut one ends in how many there are."""
_SHADOW_SHOWN: Final = 3
"""Of each shadow, edits and recipients that a line names."""
_ALL: Final = ("filter", "peer", "server")
_OF_EDITS: Final = frozenset({Limit.EDITS, Limit.EDITS_SIZE, Limit.NEW_BODY_SIZE})
_LEVELS: Final = {
    LifecycleKind.RELOAD_FAILED: logging.ERROR,
    LifecycleKind.FACTORY_FAILED: logging.ERROR,
    LifecycleKind.WORKER_FAILED: logging.ERROR,
    LifecycleKind.RELOAD_CANCELLED: logging.WARNING,
}

_Failure: TypeAlias = CallbackFailed | CallbackTimedOut | InternalError | LimitReached
_Warning: TypeAlias = TemporaryFailed | Misuse | LimitReached | ResourceExhausted | PeerError | ConnectionRefused


def hint_at_setup() -> None:
    """Log, where nothing takes the records of the logger, how a program sets that up; Python writes this one to stderr.

    A handler of any kind, even a ``NullHandler``, makes it silent.
    """
    if not _LOGGER.hasHandlers():
        _LOGGER.warning("messages are not logged: call logging.basicConfig(level=logging.INFO) for a line per message")


class LogObserver(Observer):
    """Write what happens to the logger ``aiomilter``, which the application configures.

    Args:
        logger: Another logger.
        time: The time now, in seconds.
        insists: Whether to write to stderr what the system has no more of, threads or descriptors, if no handler takes the
            record, for whatever reason: the program has set up logging for its own sake, or not at all.  If not, that is
            done for a logger only that was disabled, as ``dictConfig`` does by default with those it does not name.
        addresses: How mail addresses and logins are shown; None for in full.
    """

    def __init__(
        self,
        logger: logging.Logger = _LOGGER,
        time: Callable[[], float] = monotonic,
        *,
        insists: bool = False,
        addresses: AddressPolicy | None = None,
    ) -> None:
        self._logger = logger
        self._addresses = AddressPolicy() if addresses is None else addresses
        self._insists = insists
        self._seldom = Seldom(self._warn, time)
        self._seldom_exhausted = Seldom(self._insist, time)

    @property
    def debug(self) -> bool:
        """Whether the logger takes DEBUG records."""
        return self._logger.isEnabledFor(logging.DEBUG)

    def wants_messages(self) -> bool:
        """Return whether the logger takes INFO records, and a handler writes them somewhere."""
        # In this order a message without a log costs no more calls.
        return self._logger.isEnabledFor(logging.INFO) and last_resort.is_taken(self._logger, logging.INFO)

    def message_ended(self, event: MessageEnded) -> None:
        """Write the line of a message."""
        event = self._addresses.event(event)
        self._logger.info("%s", _Line(event), extra=_extra(event.where, event, reason=event.reason))

    def client_refused(self, event: ClientRefused) -> None:
        """Write an answer that concerns a client, not a message."""
        where = event.where
        reason = f" reason={event.reason}" if event.reason else ""
        text = "client=%s %s: %s%s%s"
        args = _text(where.client), where.callback, event.answer, reason, _ending(where)
        self._logger.info(text, *args, extra=_extra(where, event, reason=event.reason))

    def callback_failed(self, event: CallbackFailed) -> None:
        """Write a failure, with its traceback."""
        self._error(event, event.error)

    def callback_timed_out(self, event: CallbackTimedOut) -> None:
        """Write which limit was passed."""
        self._error(event, None)

    def callback_waited(self, event: CallbackWaited) -> None:
        """Write nothing: the line of a message has the time."""

    def internal_error(self, event: InternalError) -> None:
        """Write a failure, with its traceback."""
        self._error(event, event.error)

    def temporary_failed(self, event: TemporaryFailed) -> None:
        """Write a warning without a traceback."""
        self._warn(event)

    def misuse(self, event: Misuse) -> None:
        """Write a warning."""
        self._warn(event)

    def limit_reached(self, event: LimitReached) -> None:
        """Write a warning, seldom; a message of a filter with too many edits failed, however often it happens."""
        if event.limit in _OF_EDITS:
            self._error(event, None)
        else:
            self._seldom(f"{event.limit} {event.where.server}", event)

    def resource_exhausted(self, event: ResourceExhausted) -> None:
        """Write a warning, seldom, where it is seen."""
        self._seldom_exhausted(event.resource, event)

    def peer_error(self, event: PeerError) -> None:
        """Write a warning, seldom."""
        # What was expected is ours to say, what was found the peer's.
        detail = event.what.partition(" found")[0] if event.kind is PeerErrorKind.PROTOCOL else ""
        self._seldom(f"{event.kind} {event.where.server} {detail}", event)

    def connection_refused(self, event: ConnectionRefused) -> None:
        """Write a warning, seldom."""
        self._seldom(f"{event.cause} {event.where.server}", event)

    def health_checked(self, event: HealthChecked) -> None:
        """Write nothing: checks come every few seconds."""

    def lifecycle(self, event: Lifecycle) -> None:
        """Write what has become of the server."""
        event = self._addresses.event(event)
        level = _LEVELS.get(event.kind, logging.INFO)
        text = "%s%s", event.what, _ending(event.where)
        self._logger.log(level, *text, exc_info=event.error, extra=_extra(event.where, event, event.what))

    def event_seen(self, event: EventSeen) -> None:
        """Write an event, its size in place of content."""
        where, told = event.where, event.event
        if isinstance(told, Header):
            shown = f"Header {told.name!r}, {len(told.value)} characters"
        elif isinstance(told, BodyChunk):
            shown = f"BodyChunk, {len(told.chunk)} octets"
        elif isinstance(told, Mail | Rcpt | Unknown) and self._addresses.shown != "full":
            shown = type(told).__name__
        else:
            shown = _cut(repr(told))
        self._logger.debug(
            "connection %d: %s%s", where.connection, shown, _ending(where, "peer", "server"), extra=_extra(where, event)
        )

    def answer_sent(self, event: AnswerSent) -> None:
        """Write what was answered."""
        event = self._addresses.event(event)
        where = event.where
        text, ending = "connection %d: answered %s%s", _ending(where, "peer", "server")
        self._logger.debug(text, where.connection, event.answer, ending, extra=_extra(where, event))

    def loop_stalled(self, event: LoopStalled) -> None:
        """Write who blocks the event loop, with the stack; and how long it took."""
        where = event.where
        if event.over:
            text = "%s blocked the event loop for %.1f s in all, client=%s queue_id=%s%s"
        else:
            text = "%s has blocked the event loop for %.1f s, client=%s queue_id=%s; all sessions wait%s"
        what = f"{where.filter}.{where.callback}" if where.callback else "something that is no callback of a filter"
        args = (what, event.duration, _text(where.client), _text(where.queue_id), _ending(where, "peer", "server"))
        if self._logger.isEnabledFor(logging.WARNING):
            # Not self._logger.warning(): that has no way to say of whom the stack is.
            stack = None if event.over else f"Stack (most recent call last):\n{event.stack}"
            name, level = self._logger.name, logging.WARNING
            record = self._logger.makeRecord(
                name, level, __file__, 0, text, args, None, "loop_stalled", _extra(where, event), sinfo=stack
            )
            self._logger.handle(record)

    # ------------------------------------------------------------------------------------------------------- records

    def _error(self, event: _Failure, error: BaseException | None) -> None:
        """Write that something failed, with a traceback if there is an error."""
        event = self._addresses.event(event)
        where, what = event.where, event.what
        extra = _extra(where, event, what)
        if not where.connection:
            self._logger.error("%s%s", what, _ending(where), exc_info=error, extra=extra)
            return
        self._logger.error(
            "%s failed for client=%s queue_id=%s: %s%s",
            where.callback or "server",
            _text(where.client),
            _text(where.queue_id),
            what,
            _ending(where),
            exc_info=error,
            extra=extra,
        )

    def _warn(self, event: _Warning, more: str = "") -> None:
        """Write a warning."""
        event = self._addresses.event(event)
        where, what = event.where, f"{event.what}{more}"
        extra = _extra(where, event, what)
        if not where.connection:
            self._logger.warning("%s%s", what, _ending(where), extra=extra)
        elif where.peer and not (where.client or where.callback):
            # A stranger: more is not known.
            self._logger.warning("peer=%r: %s%s", where.peer, what, _ending(where, "server"), extra=extra)
        else:
            peer = f"peer={where.peer!r} " if where.peer else ""
            text = "%sclient=%s queue_id=%s %s: %s%s"
            ending = _ending(where, "filter", "server")
            args = peer, _text(where.client), _text(where.queue_id), where.callback, what, ending
            self._logger.warning(text, *args, extra=extra)

    def _insist(self, event: _Warning, more: str = "") -> None:
        """Write a warning where it is seen."""
        self._warn(event, more)
        if (self._insists or self._logger.disabled) and not last_resort.is_taken(self._logger, logging.WARNING):
            last_resort.write(f"{event.what}{more}{_ending(event.where)}")


class _Line:
    """The line of a message, made only if a handler writes it as text."""

    def __init__(self, event: MessageEnded) -> None:
        self._event = event

    def __str__(self) -> str:
        event = self._event
        where = event.where
        said = [f"client={_text(where.client)} helo={_text(event.helo)}"]
        if event.sender is not None:
            said.append(f"sender={_text(event.sender)}")
        if event.recipients is not None:
            recipients = ", ".join(map(_text, event.recipients[:_SHOWN]))
            said.append(f"recipients=[{recipients}]{_more(len(event.recipients))}")
        if event.refused_count:
            refused = ", ".join(map(_refused, event.refused[:_SHOWN]))
            said.append(f"refused=[{refused}]{_more(event.refused_count)}")
        said.append(f"queue_id={_text(where.queue_id)} {where.callback}: {event.answer}")
        if event.reason:
            said.append(f"reason={event.reason}")
        said.append(f"edits={_kinds(event) or 'none'}")
        if event.quarantine is not None:
            said.append(f"quarantine={_text(event.quarantine)}")
        said.append(f"time={event.duration:.3f}")
        said += [f"{name}={value!r}" for name in _ALL if (value := getattr(where, name))]
        if event.shadow:
            # Last, and with the queue id: there, nothing from outside can be taken for it.
            said.append(f"shadow=[{'; '.join(map(_outcome, event.shadow))}] of={_text(where.queue_id)}")
        return " ".join(said)


def _extra(where: Where, told: object, sentence: str = "", reason: str = "") -> dict[str, object]:
    return {
        # For the formatter of JSON.
        "told": told,
        "sentence": sentence,
        "connection": where.connection,
        "client": where.client,
        "queue_id": where.queue_id,
        "stage": where.callback,
        "peer": where.peer,
        "server": where.server,
        "listener": where.listener,
        "filter": where.filter,
        "reason": reason,
        "id": getattr(told, "id", ""),
    }


def _ending(where: Where, *names: str) -> str:
    """Return what a line ends in: which filter, peer and server it is about, or those of them that it does not name before."""
    return "".join(f", {name}={value!r}" for name in names or _ALL if (value := getattr(where, name)))


def _text(text: str | None) -> str:
    """Return a text from outside as a line shows it."""
    if text is None or len(text) <= _LENGTH:
        return repr(text)
    return f"{text[:_LENGTH]!r}... ({len(text)} characters)"


def _cut(shown: str) -> str:
    return shown if len(shown) <= _LENGTH else f"{shown[:_LENGTH]}... ({len(shown)} characters)"


def _more(count: int) -> str:
    return f" (+{count - _SHOWN} more)" if count > _SHOWN else ""


def _refused(recipient: RefusedRecipient) -> str:
    reason = f" ({recipient.reason})" if recipient.reason else ""
    by = f" by {recipient.filter!r}" if recipient.filter else ""
    return f"{_text(recipient.address)}: {recipient.answer}{reason}{by}"


def _outcome(outcome: ShadowOutcome) -> str:
    """Return what a shadow would have done; ``aiomilter shadow report`` reads it, so what is not a word is quoted."""
    said = [f"{outcome.filter!r} {outcome.live}->{outcome.shadow} time={outcome.duration:.3f}"]
    if outcome.differs:
        said.append("differs")
    if outcome.callback:
        said.append(f"at={outcome.callback}")
    if outcome.answer and outcome.answer != outcome.shadow:
        said.append(f"answer={_text(outcome.answer)}")
    if outcome.reason:
        said.append(f"reason={outcome.reason}")
    for name in ("refused", "accepted", "edits"):
        names: tuple[str, ...] = getattr(outcome, name)
        if names:
            count: int = getattr(outcome, f"{name.removesuffix('s')}_count" if name == "edits" else f"{name}_count")
            said.append(f"{name}={count} ({', '.join(map(_text, names[:_SHADOW_SHOWN]))})")
    return " ".join(said)


def _kinds(event: MessageEnded) -> str:
    """Return the kinds of the edits of a message, each once, in the order they were sent, with how many."""
    counts: dict[str, int] = {}
    for edit in event.edits:
        counts[edit.kind] = counts.get(edit.kind, 0) + 1
    kinds = ",".join(kind if count == 1 else f"{kind}*{count}" for kind, count in counts.items())
    return kinds + _unnamed(event.edit_count - len(event.edits))


def _unnamed(count: int) -> str:
    return f" (+{count} more)" if count else ""
