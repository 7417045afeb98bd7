"""What a shadow, a filter whose answers are not sent, asks of its session: now for macros, and later for reports."""

from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

from aiomilter._connection.answering import Channel
from aiomilter._connection.answers import answer_of, cause_text, reason_of, temporary_cause
from aiomilter._connection.details import MessageDetails, names_of
from aiomilter._connection.sent import sent_edits
from aiomilter._serving.memory import MemoryLimit
from aiomilter.edits import Edits
from aiomilter.observe import Answer, CallbackFailed, CallbackTimedOut, Misuse, TemporaryFailed, Where
from aiomilter.observe.guard import Guard
from aiomilter.observe.message_log import MessageLog
from aiomilter.options import Options
from aiomilter.wire.connection import Connection
from aiomilter.wire.macros import MacroStore
from aiomilter.wire.replies import checked_reason

__all__ = ["ShadowReports", "ShadowedSession"]


class ShadowedSession(Protocol):
    """The session that a shadow looks at."""

    observer: Guard
    channel: Channel
    wire: Connection
    options: Options

    @property
    def details(self) -> MessageDetails:
        """Of the message, for reports."""
        ...


class ShadowReports:
    """The source of the contexts of one shadow, which lags behind its session.

    Args:
        session: The connection's.
        name: The shadow's, for the reports.
    """

    __slots__ = ("_name", "_reason", "_session", "callback", "client", "details", "macros")

    def __init__(self, session: ShadowedSession, name: str) -> None:
        self._session = session
        self._name = name
        self.macros: MacroStore = MacroStore(exact=False)
        """Those of the event that the shadow is at."""
        self.callback: str = ""
        """The callback that it is at."""
        self.client: str = ""
        """Its SMTP client, for the reports."""
        self.details: MessageDetails | None = None
        """Of the message that it is at."""
        self._reason: tuple[str, str] = "", ""

    @property
    def memory(self) -> MemoryLimit:
        """Counts what waits for the shadow."""
        return self._session.channel.memory

    @property
    def current(self) -> MacroStore:
        """The macros of the event that the session is at."""
        return self._session.wire.macros

    @property
    def current_details(self) -> MessageDetails:
        """The details of the message that the session is at."""
        return self._session.details

    def _where(self) -> Where:
        channel = self._session.channel
        return Where(
            connection=channel.number,
            client=self.client,
            callback=self.callback,
            queue_id=self.macros.value("i") or None,
            peer=channel.peer,
            server=self._session.options.name,
            listener=channel.listener,
            filter=self._name,
        )

    def macro(self, name: str) -> str | None:
        """Return the value of a macro."""
        return self.macros.value(name)

    def progress(self) -> bool:
        """Return False: no MTA waits for a shadow."""
        return False

    def set_reason(self, reason: str) -> None:
        """Keep the reason of the filter for its answer."""
        self._reason = self.callback, checked_reason(reason)

    def log(self) -> MessageLog:
        """Return a logger for the filter, whose records name the event that it is at."""
        return MessageLog(lambda: {**names_of(self._where()), "id": "" if self.details is None else self.details.id})

    def report_misuse(self, what: str) -> None:
        """Report a call of the filter that has no effect, or another than intended."""
        self._session.observer.tell(Misuse(self._where(), what))

    def for_filter(self, name: str) -> NoReturn:
        """Raise: a shadow is one filter."""
        raise TypeError(f"expected one filter as a shadow, found several, with {name!r} in them")

    def report_failure(self, what: str, error: BaseException | None = None) -> None:
        """Report that a callback failed."""
        temporary = None if error is None else temporary_cause(error)
        if temporary is not None:
            self._session.observer.tell(TemporaryFailed(self._where(), cause_text(temporary), temporary))
        else:
            self._session.observer.tell(CallbackFailed(self._where(), what, error))

    def report_timeout(self, what: str) -> None:
        """Report that a callback timed out."""
        self._session.observer.tell(CallbackTimedOut(self._where(), what, ""))

    def edits_of(self, edits: Edits) -> tuple[Sequence[str], int, str | None]:
        """Return edits, each as kind and name, how many there are, and why the message would be held."""
        named, count, quarantine = sent_edits(edits)
        return [f"{each.kind} {each.name}" if each.name else each.kind for each in named], count, quarantine

    def answer_of(self, response: Any) -> tuple[Answer, str]:
        """Return an answer for a report, and the reason that was given for it, by itself or in the callback that ran last."""
        callback, reason = self._reason
        return answer_of(response), reason_of(response) or (reason if callback == self.callback else "")
