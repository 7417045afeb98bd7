"""What is done with mail, in words that are the same in all filters, and how a refusal is told."""

from typing import Final, Literal, TypeAlias

from aiomilter.compose.sparing import Spared
from aiomilter.context import Context, EndOfMessageContext
from aiomilter.message import Message
from aiomilter.wire.replies import DISCARD, Reply, Response

__all__ = ["Action", "accepted", "act", "act_on", "is_refusal", "refusal"]

Action: TypeAlias = Literal["note", "header", "quarantine", "tempfail", "reject", "discard"]
"""note: go on.  header: mark it, see the setting ``header``.  quarantine: have the
MTA hold it.  tempfail: refuse it for now.  reject: refuse it for good.  discard: take it, and drop it."""
_YES: Final = "YES"


def accepted(ctx: Context) -> bool:
    """Return whether a rule of ``access`` lets the message by: nothing that is found out about it has consequences."""
    return any(each.names is None for each in ctx.results.all(Spared))


def is_refusal(action: Action) -> bool:
    """Return whether an action refuses, and so can be taken before the message has come."""
    return action in ("tempfail", "reject")


def refusal(action: Action, text: str, *, reason: str, detail: str = "7.1", code: int = 550) -> Reply:
    """Return the reply of an action that refuses.

    Args:
        action: tempfail or reject.
        text: For the client.
        reason: For log and metrics.
        detail: Of the enhanced code, without its class.
        code: If it is for good.
    """
    if action == "tempfail":
        return Reply(451, f"4.{detail}", text, reason=reason)
    return Reply(code, f"5.{detail}", text, reason=reason)


def act(
    ctx: EndOfMessageContext, action: Action, text: str, *, reason: str, header: str, detail: str = "7.1"
) -> Response | None:
    """Take an action at the end of a message, and return the answer to that.

    Args:
        ctx: Of the message.
        action: What to do.
        text: Why, for the client or the MTA's log.
        reason: The same in a word.
        header: The name of the field that marks a message.
        detail: As for :func:`refusal`.
    """
    if is_refusal(action):
        return refusal(action, text, reason=reason, detail=detail)
    if action == "discard":
        ctx.reason(reason)
        return DISCARD
    if action == "quarantine":
        ctx.reason(reason)
        ctx.quarantine(text)
    elif action == "header":
        ctx.insert_header(header, _YES)
    return None


def act_on(
    ctx: Context, message: Message, action: Action, text: str, *, reason: str, header: str, detail: str = "7.1"
) -> Response | None:
    """Take an action on a whole message, as :func:`act` does."""
    if is_refusal(action):
        return refusal(action, text, reason=reason, detail=detail)
    if action == "discard":
        ctx.reason(reason)
        return DISCARD
    if action == "quarantine":
        ctx.reason(reason)
        message.quarantine(text)
    elif action == "header":
        message.headers.prepend(header, _YES)
    return None
