"""The answers of callbacks besides verdicts and replies, and the text of failures and answers: values only."""

import re
from functools import lru_cache
from typing import Any, Final, cast

from aiomilter.exceptions import ResolverError, StoreError, TemporaryFailure
from aiomilter.failures import FailurePolicy
from aiomilter.observe import Answer
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Connect
from aiomilter.wire.framing import packet
from aiomilter.wire.modifications import Progress
from aiomilter.wire.replies import CONTINUE, REJECT, TEMPFAIL, Refusal, Reply, Response, Verdict
from aiomilter.wire.state import is_legal

__all__ = [
    "CANCELLED",
    "NOT_EXPECTED",
    "PROGRESS_PACKET",
    "Cancelled",
    "TimedOut",
    "answer_of",
    "answer_text",
    "cause_text",
    "continue_packets_for",
    "error_text",
    "failure_answer",
    "policy_answer",
    "reason_of",
    "temporary_cause",
    "with_reason",
]

PROGRESS_PACKET: Final = packet(Progress.CODE)
_CONTINUE: Final = CONTINUE.packet
_REPLY_LINE: Final = re.compile(r"[0-9]{3}(?:[ -](?:([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$))?(.*))?", re.DOTALL)
_CAUSE_LENGTH: Final = 500
"""Characters of the text of an error."""


class Cancelled:
    """The answer of a cancelled callback, which has none of its own; the message stays open for ``abort``."""

    __slots__ = ("expected",)

    def __init__(self, expected: bool) -> None:
        self.expected = expected


CANCELLED: Final = Cancelled(expected=True)
"""The MTA still waits for an answer."""
NOT_EXPECTED: Final = Cancelled(expected=False)
"""The MTA waits for no answer any more."""


class TimedOut:
    """The answer that was given for a callback whose time was up.

    Args:
        response: The answer.
        sent: Whether it has left; if not, the callback's stage has no answer, and it is deferred.
    """

    __slots__ = ("response", "sent")

    def __init__(self, response: Response, sent: bool) -> None:
        self.response = response
        self.sent = sent


@lru_cache(maxsize=64)
def continue_packets_for(silent: frozenset[Stage]) -> dict[Stage, bytes]:
    """Return what CONTINUE is at each stage: nothing where no answer was agreed on."""
    return {stage: b"" if stage in silent else _CONTINUE for stage in Stage}


def temporary_cause(error: BaseException) -> BaseException | None:
    """Return the failure of something that the filter depends on, which may be over soon; None if there is more to it.

    Of a group, as a TaskGroup raises it, the first, if all are such.
    """
    if isinstance(error, BaseExceptionGroup):
        causes = [temporary_cause(each) for each in error.exceptions]
        return causes[0] if None not in causes else None
    return error if isinstance(error, TemporaryFailure | ResolverError | StoreError) else None


def policy_answer(policy: Any, client: Connect, authenticated: bool, stage: Stage) -> Response:
    """Return the answer of a policy on failures for a client, or TEMPFAIL if the stage does not take that answer."""
    if isinstance(policy, FailurePolicy):
        policy = policy.answer(client, authenticated)
    if isinstance(policy, Verdict | Reply | Refusal) and is_legal(stage, policy):
        return cast(Response, policy)
    return TEMPFAIL


def failure_answer(policy: Response, temporary: BaseException | None) -> Response:
    """Return the answer to a failure: one that may soon be over must not bounce mail for good.

    Args:
        policy: The answer to failures.
        temporary: As of :func:`temporary_cause`.
    """
    return TEMPFAIL if temporary is not None and (policy.code or 0) >= 500 else policy


def cause_text(error: BaseException) -> str:
    """Return the failure of something that the filter depends on as the log shows it: its kind, and its text if it has one."""
    kind = "temporary failure" if isinstance(error, TemporaryFailure) else type(error).__name__
    text = error_text(error)
    if not text:
        return f"{kind}, without a reason"
    shown = ascii(text)
    if len(shown) <= _CAUSE_LENGTH:
        return f"{kind}: {shown}"
    return f"{kind}: {shown[:_CAUSE_LENGTH]}... ({len(text)} characters)"


def error_text(error: BaseException) -> str:
    """Return the text of an error; its class may be a filter's own, and raise as well."""
    try:
        return str(error)
    except Exception:
        return ""


def answer_text(response: Any) -> str:
    """Return an answer as the log shows it, in one line."""
    if isinstance(response, Refusal):
        response = response.verdict
    return response.name.lower() if isinstance(response, Verdict) else str(response).replace("\r\n", " / ")


def answer_of(response: Any, length: int | None = None) -> Answer:
    """Return an answer for a report.

    Args:
        response: The answer; None for the end of a message without one.
        length: Most characters of the line, and of the text; None for all.
    """
    if response is None:
        return Answer("abort")
    line = answer_text(response)[:length]
    if isinstance(response, Reply):
        # Those of a classic filter have their codes in the text alone.
        lines = [found for each in str(response).split("\r\n") if (found := _REPLY_LINE.fullmatch(each)) is not None]
        text = " / ".join(found[2] or "" for found in lines)[:length]
        return Answer(
            line,
            "tempfail" if response.temporary else "reject",
            response.code,
            (lines[0][1] or "") if lines else "",
            text,
        )
    return Answer(line, code=response.code if isinstance(response, Verdict | Refusal) else None)


def with_reason(response: Response, reason: str) -> Response:
    """Return an answer with its reason, where it has a place for one."""
    return Refusal(response, reason=reason) if reason and (response is REJECT or response is TEMPFAIL) else response


def reason_of(response: Any) -> str:
    """Return the reason that a filter gave for its answer; "" without one."""
    return response.reason if isinstance(response, Reply | Refusal) else ""
