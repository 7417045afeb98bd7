"""The first argument of every callback: the client, the envelope, the macros; and at end of message the edits."""

import difflib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, cast, overload

from aiomilter._context_hints import ELSEWHERE
from aiomilter._security import TLS, Auth, auth_of, tls_of
from aiomilter.edits import Body, Edits
from aiomilter.exceptions import LocalProtocolError
from aiomilter.observe.message_log import MessageLog
from aiomilter.results import Results
from aiomilter.wire.events import Connect, Mail, Rcpt
from aiomilter.wire.replies import Response

__all__ = ["MTA", "TLS", "Auth", "Context", "EndOfMessageContext"]


@dataclass(frozen=True, slots=True)
class MTA:
    """The MTA, as identified by its macro ``v``.

    Args:
        kind: "unknown" if the MTA sends no ``v``; Sendmail sends it only if configured or asked to.
        version: Such as ``3.7.11``; "" if unknown.
        name: The MTA's host name, macro ``j``; "" if unknown.
    """

    kind: Literal["postfix", "sendmail", "unknown"]
    version: str
    name: str


_UNKNOWN_CLIENT: Final = Connect("")
_NOBODY: Final = cast(list[Rcpt], ())
"""The recipients outside a message: one object for all contexts; adding to it raises."""
_VERSION: Final = re.compile(r"(Postfix )?([0-9][^ /]*)?")


class Source(Protocol):
    """Where a context gets what is not part of an event."""

    def macro(self, name: str) -> str | None:
        """Return the value of a macro."""

    def progress(self) -> bool:
        """Send PROGRESS for a callback that asks for it, and return whether that was possible."""
        ...

    def report_misuse(self, what: str) -> None:
        """Have something logged as a WARNING."""

    def set_reason(self, reason: str) -> None:
        """Keep the reason that the filter gives for the answer of the callback that runs."""

    def log(self) -> MessageLog:
        """Return a logger whose records name the message."""
        ...

    def for_filter(self, name: str) -> "FilterSource":
        """Return the same for one of the filters that a handler has."""
        ...


class FilterSource(Source, Protocol):
    """The same for one filter of several that serve a connection together: what is reported names it."""

    def answer_failure(self, own: object, what: str, error: BaseException | None = None) -> Response:
        """Report that a callback of the filter failed, and return the answer to that.

        Args:
            own: The filter's ``on_error``; None for the server's.
            what: A sentence for the log.
            error: What the callback raised; None if it returned.
        """
        ...

    def answer_timeout(self, own_timeout: object, own_error: object, what: str) -> Response:
        """Report that a callback of the filter timed out, and return the answer to that.

        Args:
            own_timeout: The filter's ``on_timeout``; None for ``own_error``, or else the server's.
            own_error: Its ``on_error``; None for the server's.
            what: A sentence for the log.
        """
        ...

    def report_time(self, seconds: float) -> None:
        """Report how long a callback of the filter took."""

    def time_limit(self) -> float:
        """Return the seconds that the callback of the handler may take, from its begin."""
        ...


class Transaction:
    """The data behind the contexts of one SMTP connection; the session keeps it, callbacks see it through a context.

    Between messages it holds nothing that only a message needs.
    """

    __slots__ = (
        "client",
        "edits",
        "endings",
        "failed",
        "helo",
        "in_message",
        "notes",
        "recipients",
        "refused",
        "results",
        "sender",
        "shadow",
        "source",
    )

    def __init__(self, source: Source) -> None:
        self.source: Source = source
        self.client: Connect = _UNKNOWN_CLIENT
        self.helo: str = ""
        self.in_message: bool = False
        self.sender: Mail | None = None
        self.recipients: list[Rcpt] = _NOBODY
        self.results: Results | None = None
        self.failed: Collection[str] = ()
        """The names of those filters of the connection that have failed."""
        self.shadow: bool = False
        """Whether the answers of the filter are not sent."""
        self._clear()

    @property
    def size(self) -> int:
        """Octets of memory for the SMTP client and the sender."""
        size = len(self.client.hostname) + len(self.client.raw_address) + len(self.helo)
        if self.sender is not None:
            path, params = self.sender
            size += len(path) + sum(map(getsizeof, params))
        return size

    def begin(self, sender: Mail | None) -> None:
        """Start a message: forget everything of the one before."""
        if self.in_message:
            self._clear()
        self.sender = sender
        self.recipients = []
        self.in_message = True

    def end(self) -> None:
        """Forget the message."""
        if self.in_message:
            self._clear()

    def leave(self) -> None:
        """Forget the SMTP client: another may follow on the same socket."""
        self._clear()
        self.client = _UNKNOWN_CLIENT
        self.helo = ""
        self.results = None

    def _clear(self) -> None:
        self.sender = None
        self.recipients = _NOBODY
        self.refused: int = 0
        self.notes: dict[str, Any] | None = None
        self.endings: list[tuple[Callable[..., object], tuple[Any, ...]]] | None = None
        self.edits: Edits | None = None
        self.in_message = False


class Context:
    """The first argument of every callback: the SMTP client, the message so far, and what the MTA sends.

    It is valid until the callback returns; a context kept for longer raises :class:`LocalProtocolError` on every use, since
    it would show another stage or another message.
    """

    __slots__ = ("_transaction",)

    _transaction: Transaction | None

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            """Name the right attribute; hidden from type checkers, so that they refuse the name."""
            if name in EndOfMessageContext.__dict__:
                raise AttributeError(f"{name}: edits are made in eom only, found it in another callback")
            door = _door(name)
            if door is None:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            only = ", which only eom has" if door[4:] in EndOfMessageContext.__dict__ and type(self) is Context else ""
            raise AttributeError(f"{name}: expected {door}{only}")

    def _live(self) -> Transaction:
        transaction = self._transaction
        if transaction is None:
            raise LocalProtocolError("expected a context inside its callback, found one whose callback has returned")
        return transaction

    @property
    def client(self) -> Connect:
        """The SMTP client; host name "" and family UNKNOWN if the MTA has not sent them."""
        return self._live().client

    @property
    def helo(self) -> str:
        """The name of the last HELO or EHLO, "" if there was none."""
        return self._live().helo

    @property
    def sender(self) -> Mail | None:
        """The envelope sender of this message; None outside one."""
        return self._live().sender

    @property
    def recipients(self) -> tuple[Rcpt, ...]:
        """The envelope recipients so far that this filter did not refuse."""
        return tuple(self._live().recipients)

    @property
    def notes(self) -> dict[str, Any]:
        """This filter's own dict for this message, empty at MAIL, readable in ``abort`` too.

        Keep connection state in attributes of the filter.

        Raises:
            LocalProtocolError: There is no message: this is ``connect``, ``helo`` or ``close``.
        """
        transaction = self._live()
        if transaction.notes is None:
            if not transaction.in_message:
                raise LocalProtocolError("notes: expected a message, found none; keep connection state on self")
            transaction.notes = {}
        return transaction.notes

    @property
    def results(self) -> Results:
        """What the filters of this connection have found, by type; those of the message, and those put at connect or helo.

        Alone, a filter finds its own here; composed (:mod:`aiomilter.compose`), those of the others, too.
        """
        transaction = self._live()
        found = transaction.results
        if found is None:
            found = transaction.results = Results()
        if transaction.in_message and not found.in_message:
            found.in_message = True
            self.on_end(found.end_message)
        return found

    def failed(self, name: str) -> bool:
        """Return whether another filter of this connection has failed with this message, by its name in the composition."""
        return name in self._live().failed

    @property
    def shadow(self) -> bool:
        """Whether this filter runs as a shadow: its answers and edits are never sent, so it must not act in any other way."""
        return self._live().shadow

    @overload
    def macro(self, name: str) -> str | None: ...

    @overload
    def macro(self, name: str, default: str) -> str: ...

    def macro(self, name: str, default: str | None = None) -> str | None:
        """Return a value that the MTA sends, of the latest stage that has it.

        Args:
            name: With or without braces: ``"{auth_type}"`` and ``"auth_type"`` are the same.
            default: What to return if the MTA sent none.

        Source: libmilter/docs/smfi_getsymval.html; aiomilter/help/protocol.rst, P-080 to P-085.
        """
        value = self._live().source.macro(name)
        return default if value is None else value

    @property
    def queue_id(self) -> str | None:
        """The MTA's name for this message, macro ``i``; Postfix has none before the first recipient was accepted."""
        return self._live().source.macro("i") or None

    @property
    def auth(self) -> Auth | None:
        """The login of the SMTP client; None if it has not logged in."""
        return auth_of(self._live().source.macro)

    @property
    def tls(self) -> TLS | None:
        """How the session is encrypted; None if it is not."""
        return tls_of(self._live().source.macro)

    @property
    def mta(self) -> MTA:
        """The MTA, as identified by its macros."""
        macro = self._live().source.macro
        version = macro("v") or ""
        match = _VERSION.match(version)
        kind: Literal["postfix", "sendmail", "unknown"] = "unknown"
        if match and match[1]:
            kind = "postfix"
        elif match and match[2]:
            kind = "sendmail"
        return MTA(kind, (match[2] or "") if match else "", macro("j") or "")

    @property
    def log(self) -> MessageLog:
        """A ``LoggerAdapter`` whose records name connection, client, message and filter: ``ctx.log.info("greylisted")``.

        A new one for each use; a function that :meth:`on_end` calls may use one that it was given.  Outside a message, in
        ``connect`` or ``close``, its records name none.  Its logger is ``aiomilter.filter``.
        """
        return self._live().source.log()

    def reason(self, reason: str) -> None:
        """Give the reason for the answer of this callback, or for a quarantine, for logs and metrics; it is never sent.

        For answers that have no place for it, ``DISCARD`` or ``ACCEPT`` for example; that of a ``Reply`` or ``Refusal`` has
        precedence.  The reason of a callback that fails is forgotten.

        Args:
            reason: A word such as ``"trap"``: 1 to 64 of ``a`` to ``z``, digits and ``_``.  Take it from a small set: metrics
                count by it.

        Raises:
            LocalProtocolError: It is not such a word.
        """
        self._live().source.set_reason(reason)

    def on_end(self, function: Callable[..., object], *args: Any) -> None:
        """Have a plain function called once, after this message's last answer has left, however it ended.

        Raises:
            LocalProtocolError: There is no message: this is ``connect``, ``helo`` or ``close``.
        """
        transaction = self._live()
        if not transaction.in_message:
            raise LocalProtocolError("on_end: expected a message to wait for, found none")
        if transaction.endings is None:
            transaction.endings = []
        transaction.endings.append((function, args))

    def progress(self) -> bool:
        """Send a PROGRESS packet, which extends the MTA's wait, and return whether that was possible.

        Seldom needed: while a callback waits, one is sent every ``progress_interval`` seconds.  Postfix takes it at any stage
        it waits at; any other MTA only at end of message, where Sendmail restarts its read timeout but not the total one.

        Source: libmilter/docs/smfi_progress.html; aiomilter/help/protocol.rst, "PROGRESS", P-093.
        """
        return self._live().source.progress()


class EndOfMessageContext(Context):
    """The context of ``eom``, which can change the message.

    Edits are checked when they are made, queued, and sent with the verdict if that lets the message pass; with any other
    verdict, or after a failure, none is sent.  Each raises :class:`LocalProtocolError` for values that must not reach an MTA,
    and :class:`NotNegotiatedError` if the MTA does not offer the action.
    """

    __slots__ = ()

    def _edits(self) -> Edits:
        edits = self._live().edits
        if edits is None:
            raise LocalProtocolError("expected edits inside eom, found them elsewhere")
        return edits

    def add_header(self, name: str, value: str) -> None:
        """Add a header field: Postfix puts it last, Sendmail before the first of the same name.

        Args:
            name: Printable ASCII without colon and blank.
            value: Without the leading space; a fold is a line end before a space or tab.

        Source: libmilter/docs/smfi_addheader.html; RFC 5322 section 2.2.
        """
        self._edits().add_header(name, value)

    def insert_header(self, name: str, value: str, index: int = 0) -> None:
        """Insert a header field at a position.

        Args:
            name: As for :meth:`add_header`.
            value: As for :meth:`add_header`.
            index: 0 is above everything, 1 below the MTA's own Received, a large number last; positions between these differ
                from MTA to MTA.

        Source: libmilter/docs/smfi_insheader.html.
        """
        self._edits().insert_header(name, value, index)

    def change_header(self, name: str, occurrence: int, value: str) -> None:
        """Give a header field another value.

        Args:
            name: Letter case does not matter.
            occurrence: 1 for the first field of that name, counted as this filter saw them, whatever else is queued; past the
                last one, the field is added.
            value: As for :meth:`add_header`; "" deletes the field.

        A second change of the same field replaces the first.

        Source: libmilter/docs/smfi_chgheader.html.
        """
        self._edits().change_header(name, occurrence, value)

    def delete_header(self, name: str, occurrence: int) -> None:
        """Delete a header field, counted as for :meth:`change_header`; does nothing if there is none.

        Source: libmilter/docs/smfi_chgheader.html.
        """
        self._edits().change_header(name, occurrence, "")

    def replace_body(self, body: Body) -> None:
        """Replace the whole body.

        Args:
            body: Octets with CRLF line ends; or an async iterator of them, which runs after ``eom`` has returned, at the
                pace of the MTA, so it must not use ``ctx``.  If it fails the message is answered with TEMPFAIL.

        Source: libmilter/docs/smfi_replacebody.html.
        """
        self._edits().replace_body(body)

    def change_sender(self, address: str, *params: str) -> None:
        """Change the envelope sender.

        Args:
            address: With or without angle brackets; "" or ``<>`` for the null sender.
            params: ESMTP parameters; Postfix knows RET and ENVID.

        Source: libmilter/docs/smfi_chgfrom.html.
        """
        self._edits().change_sender(address, params)

    def add_recipient(self, address: str, *params: str) -> None:
        """Add an envelope recipient.

        Args:
            address: One mailbox, with or without angle brackets.
            params: ESMTP parameters; Postfix knows NOTIFY and ORCPT.

        Source: libmilter/docs/smfi_addrcpt.html, smfi_addrcpt_par.html.
        """
        self._edits().add_recipient(address, params)

    def delete_recipient(self, address: str) -> None:
        """Delete an envelope recipient; if the message has no such recipient, only a WARNING is logged.

        The MTA gets the address in its own spelling, which both Postfix and Sendmail compare letter by letter.

        Args:
            address: As in ``Rcpt.path`` or ``Rcpt.address``.  The letter case of the domain does not matter, that of the
                local-part only if it distinguishes two recipients.

        Source: libmilter/docs/smfi_delrcpt.html; RFC 5321 section 2.4.
        """
        transaction, edits = self._live(), self._edits()
        missed = edits.missed
        edits.delete_recipient(address, transaction.recipients)
        if not missed < edits.missed == 1:
            return
        transaction.source.report_misuse(f"delete_recipient: the message has no recipient {address!a:.200}")

    def quarantine(self, reason: str) -> None:
        """Have the message held in the MTA's queue.

        Args:
            reason: For the MTA's log or queue, one line.

        Source: libmilter/docs/smfi_quarantine.html.
        """
        self._edits().quarantine(reason)


def _door(name: str) -> str | None:
    """Return the attribute that a wrong name probably means; None if no name is similar."""
    if name.startswith("_") or len(name) > 40:
        return None
    found = ELSEWHERE.get(name.lower().replace("_", "").removeprefix("smfi"))
    if found is None:
        names = [known for known in dir(EndOfMessageContext) if not known.startswith("_")]
        found = next((f"ctx.{close}" for close in difflib.get_close_matches(name, names, n=1, cutoff=0.8)), None)
    return found
