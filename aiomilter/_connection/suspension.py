"""A suspended callback: its cancellation, its time-out, and the PROGRESS packets that extend the wait of the MTA."""

import enum
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final, Protocol

from aiomilter._connection.answers import CANCELLED, NOT_EXPECTED, PROGRESS_PACKET, TimedOut, answer_text
from aiomilter._connection.deadlines import Clock, Deadlines
from aiomilter._connection.details import MessageDetails
from aiomilter.context import Transaction
from aiomilter.handler import STAGE_OF
from aiomilter.observe import CallbackTimedOut, CallbackWaited, Where
from aiomilter.observe.guard import Guard
from aiomilter.options import Options
from aiomilter.wire.connection import Connection
from aiomilter.wire.constants import Command, Stage
from aiomilter.wire.replies import TEMPFAIL, Response

__all__ = ["OF_MESSAGE", "TURN", "Reason", "Suspension", "SuspensionChannel"]

TURN: Final = "turn"
"""In the place of a callback's name while other connections have their turn."""
OF_MESSAGE: Final = frozenset({"envfrom", "envrcpt", "data", "header", "eoh", "body", "eom"})
"""The callbacks that ABORT cancels; the others belong to the connection."""
_LAST: Final = frozenset({"abort", "close"})


class Reason(enum.Enum):
    """Why a callback that waits is cancelled."""

    ABORT = enum.auto()
    """The message is over, or the SMTP connection."""
    QUIT = enum.auto()
    """The connection is over, and the MTA counts no answers any more."""
    LOST = enum.auto()
    """The connection is lost."""
    STOP = enum.auto()
    """The server ends."""
    TIMEOUT = enum.auto()
    """It did not end in time."""


_ENDS_CONNECTION: Final = frozenset({Reason.LOST, Reason.STOP})
_EXPECTED: Final = frozenset({Reason.ABORT, Reason.STOP})


class SuspensionChannel(Clock, Protocol):
    """Cancels, writes and closes for a session whose callback waits."""

    def flush(self) -> None:
        """Write the packets in ``SuspendedSession.out`` now."""

    def cancel(self) -> None:
        """Cancel the callback."""

    def uncancel(self) -> None:
        """Record that the cancellation has arrived."""

    def give_up(self) -> None:
        """Close the connection at once, and stop waiting for the callback."""


class SuspendedSession(Protocol):
    """The session whose callback waits."""

    callback: str
    suspended: bool
    over: bool
    streaming: bool
    out: list[bytes]

    @property
    def continue_packets(self) -> Mapping[Stage, bytes]:
        """What CONTINUE is at each stage; empty at a no-reply stage."""
        ...

    @property
    def wire(self) -> Connection:
        """The received octets, and the state of the conversation."""
        ...

    @property
    def handler(self) -> object:
        """The filter."""
        ...

    @property
    def options(self) -> Options:
        """The time-outs."""
        ...

    @property
    def observer(self) -> Guard:
        """Gets the reports."""
        ...

    @property
    def channel(self) -> SuspensionChannel:
        """Cancels, writes and closes."""
        ...

    @property
    def transaction(self) -> Transaction:
        """Has the edits, which a failure drops."""
        ...

    @property
    def details(self) -> MessageDetails:
        """Of the message, for reports."""
        ...

    def on_timeout(self) -> Response:
        """Return the answer for a callback whose time is up."""
        ...

    def where(self) -> Where:
        """Return where the session is, for the observer."""
        ...


class Suspension:
    """The callbacks of one connection that wait, one at a time; made when the first of them does.

    Args:
        session: The connection's.
    """

    __slots__ = ("_deadlines", "_hurries", "_session", "_since", "_timed_out", "reason")

    def __init__(self, session: SuspendedSession) -> None:
        self._session = session
        self._deadlines = Deadlines(self, session.options, session.channel)
        # ``abort`` and ``close`` have no more than ``cancel_timeout``.
        self._hurries = False
        # Why the callback was cancelled, and the answer given for it then.
        self.reason: Reason | None = None
        self._timed_out: TimedOut | None = None
        # When the callback that waits was suspended.
        self._since = 0.0

    def begin(self) -> None:
        """Set the deadline of the callback, and cancel it if a packet that ends it is already here."""
        session = self._session
        name, wire = session.callback, session.wire
        self._since = monotonic()
        stage = STAGE_OF.get(name)
        seconds = None if name == TURN else self._callback_timeout(name)
        awaited = None
        if stage is not None:
            if name == "body" and wire.last_of_body:
                awaited = Stage.EOM  # it came in the packet of the end
            elif session.continue_packets[stage]:
                awaited = stage
        until = frozenset() if session.over else wire.answered
        abort, left = name in OF_MESSAGE, wire.waiting
        lookahead = self._deadlines.walker(abort, until, left) or wire.lookahead(abort, until)
        found = self._deadlines.suspended(name, seconds, awaited, lookahead, left)
        if found is not None:
            self._leaving(found)
        if self._hurries and name in _LAST:
            self._deadlines.hurry()

    def _callback_timeout(self, name: str) -> float:
        options = self._session.options
        stage = STAGE_OF.get(name)
        seconds = options.callback_timeout
        return seconds if stage is None else (options.callback_timeouts or {}).get(stage, seconds)

    def time_limit(self, name: str) -> float:
        """Return the seconds that a callback may take from its begin, by its own time-out and by that of its answer."""
        stage, seconds = STAGE_OF.get(name), self._callback_timeout(name)
        return (
            seconds if stage is None else min(seconds, self._deadlines.answer_limit(stage, self.takes_progress(stage)))
        )

    def arrived(self, data: bytes) -> None:
        """Record octets that come while the callback waits."""
        found = self._deadlines.arrived(data)
        if found is not None:
            self._leaving(found)

    def _note_time(self, seconds: float) -> None:
        session = self._session
        if session.transaction.in_message:
            session.details.waited += seconds
        # Those of several filters are measured one by one.
        if session.observer.timing and not hasattr(session.handler, "acting"):
            session.observer.tell(CallbackWaited(session.where(), seconds))

    def resumed(self, response: Any) -> Any:
        """Record that the callback has ended, and return its answer."""
        session = self._session
        self._deadlines.resumed()
        if session.callback != TURN:
            self._note_time(monotonic() - self._since)
        reason, self.reason = self.reason, None
        if reason is None:
            return response
        session.channel.uncancel()
        session.over = session.over or reason in _ENDS_CONNECTION
        if self._timed_out is not None:
            timed_out, self._timed_out = self._timed_out, None
            return timed_out
        return CANCELLED if reason in _EXPECTED else NOT_EXPECTED

    def caught_up(self) -> None:
        """Record that all received octets are handled."""
        self._deadlines.caught_up()

    def end(self) -> None:
        """Disarm the timer: no callback waits any more, and none will."""
        self._deadlines.end()

    # -------------------------------------------------------------------------------------------------- cancellation

    def cancel(self, reason: Reason) -> None:
        """Cancel the callback that waits, if it is one that ends for this reason."""
        session = self._session
        if not session.suspended or (session.callback in _LAST and reason is not Reason.TIMEOUT):
            return
        if self.reason is not None:
            self.reason = reason if reason is Reason.LOST else self.reason
            return
        self.reason = reason
        self._deadlines.cancelled()
        session.channel.cancel()

    def hurry(self) -> None:
        """Give ``abort`` and ``close`` no more than ``cancel_timeout`` from now on: the server ends."""
        self._hurries = True
        if self._session.callback in _LAST:
            self._deadlines.hurry()

    def _leaving(self, code: int) -> None:
        """Cancel the callback for an ABORT, QUIT or QUIT_NC that waits behind it."""
        # Only after QUIT does the MTA not count answers any more.
        self.cancel(Reason.QUIT if code == Command.QUIT else Reason.ABORT)

    # ------------------------------------------------------------------------------------------------ from the clock

    def expire(self, limit: str, unanswered: bool) -> None:
        """Answer for the callback that waits, at once, and cancel it; an answer that it still gives is ignored.

        Args:
            limit: The deadline that was missed, a sentence.
            unanswered: Whether the MTA still waits for the answer of its packet.
        """
        session = self._session
        transaction, name = session.transaction, session.callback
        session.details.failed = True
        # Edits, or part of a new body, may have been sent: that must not pass, even if on_timeout accepts.
        response = TEMPFAIL if name == "eom" and transaction.edits is None else session.on_timeout()
        transaction.edits = None  # after a failure none is sent, even if on_timeout accepts
        sent = unanswered and not (name == "body" and session.wire.last_of_body)
        self._timed_out = TimedOut(response, sent)
        if sent:
            session.out.append(response.packet)
            session.channel.flush()
        answer = answer_text(response) if sent else ""
        what = f"{limit}; cancelled{f', answered {answer}' if sent else ''}"
        session.observer.tell(CallbackTimedOut(session.where(), what, answer))
        self.cancel(Reason.TIMEOUT)

    def stuck(self) -> None:
        """Close the connection of a callback that was cancelled and has not ended."""
        session = self._session
        seconds = session.options.cancel_timeout
        what = f"the callback did not end within {seconds:g} s of its cancellation; closing"
        session.observer.tell(CallbackTimedOut(session.where(), what, stuck=True))
        session.over = True
        session.channel.give_up()

    def takes_progress(self, stage: Stage) -> bool:
        """Return whether the MTA, which waits for the answer of a stage, takes PROGRESS now.

        Postfix takes it anywhere except inside a new body; any other MTA counts as Sendmail, which takes it once it has sent
        the end of the message.

        Source: aiomilter/help/protocol.rst, "PROGRESS", P-093 and P-120.
        """
        session = self._session
        if session.over or session.streaming or self.reason not in (None, Reason.TIMEOUT):
            return False
        return stage is Stage.EOM or (session.wire.macros.value("v") or "").startswith("Postfix")

    def send_progress(self) -> None:
        """Send PROGRESS."""
        self._session.out.append(PROGRESS_PACKET)
        self._session.channel.flush()
