"""Refuse one recipient, send another's mail elsewhere, and hold what a third gets."""

from collections.abc import Mapping

from aiomilter import Context, EndOfMessageContext, Milter, Rcpt, Reply, Response


class Recipients(Milter):
    """Each recipient is treated for itself; the others get the message as it came.

    Args:
        gone: Addresses that are refused, and what to tell the client; in lower case, as are the others.
        moved: Addresses whose mail goes elsewhere.
        watched: Addresses for which a message is held until somebody has looked at it.
    """

    def __init__(self, gone: Mapping[str, str], moved: Mapping[str, str], watched: frozenset[str]) -> None:
        self.gone = gone
        self.moved = moved
        self.watched = watched

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        text = self.gone.get(rcpt.address.lower())
        return Reply(550, "5.1.6", text) if text else None

    async def eom(self, ctx: EndOfMessageContext) -> None:
        for rcpt in ctx.recipients:
            address = rcpt.address.lower()
            if address in self.moved:
                ctx.delete_recipient(rcpt.path)
                ctx.add_recipient(self.moved[address])
            if address in self.watched:
                ctx.quarantine(f"mail to {address} is looked at first")
