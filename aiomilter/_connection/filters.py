"""What one filter of several that serve a connection together asks of its session."""

from dataclasses import replace
from typing import Any, Protocol

from aiomilter._connection.answers import answer_text, cause_text, failure_answer, temporary_cause
from aiomilter._connection.details import MessageDetails
from aiomilter._connection.shadow_reports import ShadowedSession, ShadowReports
from aiomilter._connection.suspension import Suspension
from aiomilter.observe import CallbackFailed, CallbackTimedOut, CallbackWaited, Misuse, TemporaryFailed, Where
from aiomilter.observe.message_log import MessageLog
from aiomilter.wire.replies import Response

__all__ = ["FilterReports", "SharedSession"]


class SharedSession(ShadowedSession, Protocol):
    """The session that several filters share."""

    callback: str

    @property
    def suspension(self) -> Suspension:
        """Has the deadlines."""
        ...

    def where(self) -> Where:
        """Return where the session is."""
        ...

    def macro(self, name: str) -> str | None:
        """Return the value of a macro."""

    def progress(self) -> bool:
        """Send PROGRESS."""
        ...

    @property
    def details(self) -> MessageDetails:
        """Of the message, for reports."""
        ...

    def on_error(self, own: Any = None) -> Response:
        """Return the answer for a failure."""
        ...

    def on_timeout(self, own: Any = None, own_error: Any = None) -> Response:
        """Return the answer for a callback that timed out."""
        ...


class FilterReports:
    """The :class:`aiomilter.context.FilterSource` of one filter.

    Args:
        session: The connection's.
        name: The filter's, for the reports.
    """

    __slots__ = ("_name", "_session")

    def __init__(self, session: SharedSession, name: str) -> None:
        self._session = session
        self._name = name

    def _where(self) -> Where:
        return replace(self._session.where(), filter=self._name)

    def macro(self, name: str) -> str | None:
        """Return the value of a macro."""
        return self._session.macro(name)

    def progress(self) -> bool:
        """Send PROGRESS for a callback that asks for it, and return whether that was possible."""
        return self._session.progress()

    def set_reason(self, reason: str) -> None:
        """Keep the reason of the filter for its answer."""
        self._session.details.set_reason(self._name, reason)

    def log(self) -> MessageLog:
        """Return a logger for the filter."""
        return self._session.details.log(self._name)

    def report_misuse(self, what: str) -> None:
        """Report a call of the filter that has no effect, or another than intended."""
        self._session.observer.tell(Misuse(self._where(), what))

    def for_filter(self, name: str) -> "FilterReports":
        """Return the same for another filter."""
        return FilterReports(self._session, name)

    def for_shadow(self) -> ShadowReports:
        """Return the same for a filter whose answers are not sent."""
        return ShadowReports(self._session, self._name)

    def answer_failure(self, own: object, what: str, error: BaseException | None = None) -> Response:
        """Report that a callback failed, and return the answer; see :class:`aiomilter.context.FilterSource`."""
        self._session.details.forget_reason(self._name)
        temporary = None if error is None else temporary_cause(error)
        if temporary is not None:
            self._session.observer.tell(TemporaryFailed(self._where(), cause_text(temporary), temporary))
        else:
            self._session.observer.tell(CallbackFailed(self._where(), what, error))
        return failure_answer(self._session.on_error(own), temporary)

    def answer_timeout(self, own_timeout: object, own_error: object, what: str) -> Response:
        """Report that a callback timed out, and return the answer; see :class:`aiomilter.context.FilterSource`."""
        self._session.details.forget_reason(self._name)
        response = self._session.on_timeout(own_timeout, own_error)
        answer = answer_text(response)
        self._session.observer.tell(CallbackTimedOut(self._where(), f"{what}; cancelled, answered {answer}", answer))
        return response

    def report_time(self, seconds: float) -> None:
        """Report how long a callback of the filter took."""
        if self._session.observer.timing:
            self._session.observer.tell(CallbackWaited(self._where(), seconds))

    def time_limit(self) -> float:
        """Return the seconds that the callback of the handler may take, from its begin."""
        return self._session.suspension.time_limit(self._session.callback)
