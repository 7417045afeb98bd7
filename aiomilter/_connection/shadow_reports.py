"""What a shadow, a filter whose answers are not sent, asks of its session: now for macros, and later for reports."""

from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

from aiomilter._connection.answering import Channel
from aiomilter._connection.answers import answer_text, cause_text, reason_of, temporary_cause
from aiomilter._connection.sent import sent_edits
from aiomilter._serving.memory import MemoryLimit
from aiomilter.edits import Edits
from aiomilter.observe import CallbackFailed, CallbackTimedOut, Misuse, TemporaryFailed, Where
from aiomilter.observe.guard import Guard
from aiomilter.options import Options
from aiomilter.wire.connection import Connection
from aiomilter.wire.macros import MacroStore

__all__ = ["ShadowReports", "ShadowedSession"]


class ShadowedSession(Protocol):
    """The session that a shadow looks at."""

    observer: Guard
    channel: Channel
    wire: Connection
    options: Options


class ShadowReports:
    """The source of the contexts of one shadow, which lags behind its session.

    Args:
        session: The connection's.
        name: The shadow's, for the reports.
    """

    __slots__ = ("_name", "_session", "callback", "client", "macros")

    def __init__(self, session: ShadowedSession, name: str) -> None:
        self._session = session
        self._name = name
        self.macros: MacroStore = MacroStore(exact=False)
        """Those of the event that the shadow is at."""
        self.callback: str = ""
        """The callback that it is at."""
        self.client: str = ""
        """Its SMTP client, for the reports."""

    @property
    def memory(self) -> MemoryLimit:
        """Counts what waits for the shadow."""
        return self._session.channel.memory

    @property
    def current(self) -> MacroStore:
        """The macros of the event that the session is at."""
        return self._session.wire.macros

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

    def text_of(self, answer: Any) -> tuple[str, str]:
        """Return an answer in one line, and the reason given for it."""
        return answer_text(answer), reason_of(answer)
