"""The events of messages and clients: how each has ended, as far as this filter decides."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Self, TypeAlias, cast, get_args

from aiomilter._security import TLS, Auth, auth_of, tls_of
from aiomilter.observe.shadow import AnswerVerdict, ShadowOutcome
from aiomilter.observe.where import Where

__all__ = [
    "MOST_EDITS",
    "MOST_REFUSED",
    "Answer",
    "AnswerVerdict",
    "ClientRefused",
    "Edit",
    "EditKind",
    "MessageCount",
    "MessageEnded",
    "RefusedRecipient",
]

MOST_REFUSED: Final = 100
"""Refused recipients that :class:`MessageEnded` names; ``refused_count`` counts all."""
MOST_EDITS: Final = 100
"""Edits that :class:`MessageEnded` names; ``edit_count`` counts all."""

EditKind: TypeAlias = Literal[
    "add_header",
    "insert_header",
    "change_header",
    "delete_header",
    "change_sender",
    "add_recipient",
    "delete_recipient",
    "quarantine",
    "replace_body",
]
_VERDICTS: Final = frozenset(get_args(AnswerVerdict))

_SIZE: Final = "msg_size"
_NUMBER: Final = re.compile(r"[0-9]{1,20}")


class Answer(str):
    """An answer in one line, ``"reject"`` or ``"550 5.1.1 no such mailbox"``, and its parts.

    Args:
        line: The line.
        verdict: What the answer does; without one, that of the line.
        code: SMTP reply code; for a verdict the one that it stands for; None for "abort".
        enhanced: Enhanced code of a reply; "" without one.
        text: Text of a reply without the codes, its lines separated by " / "; "" for a verdict, whose text is the MTA's.
    """

    __slots__ = ("code", "enhanced", "text", "verdict")

    verdict: AnswerVerdict
    code: int | None
    enhanced: str
    text: str

    def __new__(
        cls,
        line: str,
        verdict: AnswerVerdict | None = None,
        code: int | None = None,
        enhanced: str = "",
        text: str = "",
    ) -> Self:
        """Make one."""
        answer = super().__new__(cls, line)
        if verdict is None:
            by_code: AnswerVerdict = "reject" if line.startswith("5") else "tempfail"
            verdict = cast(AnswerVerdict, line) if line in _VERDICTS else by_code
        answer.verdict, answer.code, answer.enhanced, answer.text = verdict, code, enhanced, text
        return answer


class Edit(NamedTuple):
    """One edit that was sent; the values of header fields are not kept.

    Args:
        kind: The method that asked for it.
        name: Name of the header field, or the mailbox; "" for a new body and for a quarantine.
    """

    kind: EditKind
    name: str = ""


class RefusedRecipient(NamedTuple):
    """An envelope recipient that the filter refused.

    Args:
        address: Without brackets, cut at 320 characters.
        answer: The answer, cut at 512 characters.
        reason: The reason that the filter gave for its answer; "" without one.
        filter: In a composition, the name of the filter that refused it.
    """

    address: str
    answer: Answer
    reason: str = ""
    filter: str = ""


def _no_macro(name: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class MessageEnded:
    """A message has ended, as far as this filter decides.

    Args:
        where: ``where.callback`` is the callback that decided, ``where.filter`` in a composition the filter that did, "" if
            none has refused the message.
        helo: Name of the last HELO.
        sender: Envelope sender without brackets; None if the MTA was not asked for it.
        recipients: Envelope recipients that this filter did not refuse; None if the MTA was not asked for them.
        refused: Those that it refused, the first :data:`MOST_REFUSED`.
        refused_count: How many it refused.
        answer: The answer that ended the message, ``"abort"`` if it ended without one.
        reason: The reason that the filter gave for its answer, or for a quarantine; "" without one.
        edits: The edits that were sent, in that order, the first :data:`MOST_EDITS`.
        edit_count: How many were sent.
        quarantine: Why the message is held; None if it is not.
        duration: Seconds from MAIL to the answer.
        id: Name of the message among all that any filter sees, a ULID: it sorts by time.
        declared: Octets of the message as the client declared them (SIZE of RFC 1870); None if it did not.
        macro: Returns the value of a macro of the message by its name without braces; None for one that the MTA did not send.
        durations: Seconds that callbacks of the message waited for something, by filter.  A callback that never waits is not
            measured, except in a composition at end of message.
        results: What filters have put into ``ctx.results``, oldest first.
        failed: Names of the filters that failed with the message.
        shadow: What each filter that was asked as a shadow would have done.
        generation: How often the server has been reloaded when the connection began, from 1.
    """

    where: Where
    helo: str
    sender: str | None
    recipients: tuple[str, ...] | None
    refused: tuple[RefusedRecipient, ...]
    refused_count: int
    answer: Answer
    reason: str
    edits: tuple[Edit, ...]
    edit_count: int
    quarantine: str | None
    duration: float
    id: str = ""
    declared: int | None = None
    macro: Callable[[str], str | None] = field(default=_no_macro, repr=False, compare=False)
    durations: Mapping[str, float] = field(default_factory=dict)
    results: tuple[object, ...] = ()
    failed: tuple[str, ...] = ()
    shadow: tuple[ShadowOutcome, ...] = ()
    generation: int = 1

    # These are read from macros when they are asked for: most observers do not.

    @property
    def auth(self) -> Auth | None:
        """The login of the SMTP client; None if it has not logged in."""
        return auth_of(self.macro)

    @property
    def tls(self) -> TLS | None:
        """How the SMTP session is encrypted; None if it is not."""
        return tls_of(self.macro)

    @property
    def size(self) -> int | None:
        """Octets of the message as declared, or as Sendmail counted them (macro ``{msg_size}``); None if neither is known."""
        counted = (self.macro(_SIZE) or "") if self.declared is None else ""
        return int(counted) if _NUMBER.fullmatch(counted) else self.declared

    @property
    def connection(self) -> int:
        """Number of the connection."""
        return self.where.connection

    @property
    def client(self) -> str:
        """Address of the SMTP client, or its host name; "" if not known."""
        return self.where.client

    @property
    def queue_id(self) -> str | None:
        """The MTA's name for the message; None without one."""
        return self.where.queue_id

    @property
    def stage(self) -> str:
        """Name of the callback that decided, which stands for its stage."""
        return self.where.callback

    @property
    def filter(self) -> str:
        """The filter's class; in a composition the name of the filter that decided, "" for none."""
        return self.where.filter


class MessageCount(NamedTuple):
    """The end of a message, for counting: what :class:`MessageEnded` has besides costs more than many a message itself.

    Args:
        listener: As in ``where``.
        filter: As in ``where``.
        callback: As in ``where``.
        verdict: What the answer does.
        code: Its SMTP reply code; None for none.
        reason: As in :class:`MessageEnded`.
        edits: The kinds of the edits that were sent.
        refused: As in :class:`MessageEnded`.
        refused_count: As in :class:`MessageEnded`.
        duration: As in :class:`MessageEnded`.
        size: Octets that the client has declared; None if it has not.
        authors: In a composition, the names of the filters that asked for the edits, the first :data:`MOST_EDITS`; "" where
            that is not known, and none without edits.
    """

    listener: str
    filter: str
    callback: str
    verdict: AnswerVerdict
    code: int | None
    reason: str
    edits: Sequence[EditKind]
    refused: Sequence[RefusedRecipient]
    refused_count: int
    duration: float
    size: int | None
    authors: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ClientRefused:
    """A filter answered ``connect`` or ``helo`` with something other than CONTINUE.

    Args:
        where: On which connection; ``where.callback`` is ``"connect"`` or ``"helo"``.
        answer: The answer, in one line.
        reason: The reason that the filter gave for it; "" without one.
    """

    where: Where
    answer: Answer
    reason: str = ""
