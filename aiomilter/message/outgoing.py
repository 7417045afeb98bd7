"""The edits that lead to what filters have made of a message."""

from aiomilter.context import EndOfMessageContext
from aiomilter.message.header_edits import at_ends, plan, queue
from aiomilter.message.message import Message

__all__ = ["queue_edits"]


def queue_edits(ctx: EndOfMessageContext, message: Message) -> None:
    """Queue the smallest edits that lead from the message that the MTA has to this one."""
    edits, headers = ctx._edits(), message.headers
    if headers.changed:
        asked = at_ends(headers.original, headers[:])
        if asked is None:
            postfix, spaced = ctx.mta.kind == "postfix", edits.leading_space
            asked = plan(headers.original, headers.entries(), postfix=postfix, leading_space=spaced)
        queue(asked, edits)
        for field in asked.misplaced:
            what = f"header field {field.name!a:.80} is above all others: fields below its place cannot be moved on this MTA"
            ctx._live().source.report_misuse(what)
    if message.body_changed:
        edits.replace_body(message.new_body())
    message.queue_envelope().queue(edits)
