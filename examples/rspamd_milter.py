"""Do as rspamd says: refuse, hold back for now, or change the header section as it asks.

A message that rspamd cannot be asked about passes, marked as such; change that in ``message``::

    RSPAMD=inet:11333@127.0.0.1 aiomilter run examples/rspamd_milter.py --listen inet:8890@127.0.0.1
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiomilter import Context, Reply, Response, run
from aiomilter.message import Headers, Message, MessageMilter
from aiomilter.scan import Envelope, HeaderChanges, Rspamd


def envelope(ctx: Context, message: Message) -> Envelope:
    return Envelope(
        sender=message.sender.address if message.sender else None,
        recipients=tuple(rcpt.address for rcpt in ctx.recipients),
        ip=ctx.client.ip,
        hostname=ctx.client.hostname,
        helo=ctx.helo,
        login=ctx.auth.login if ctx.auth else "",
        queue_id=ctx.queue_id or "",
        mta_name=ctx.mta.name,
    )


def change(headers: Headers, changes: HeaderChanges) -> None:
    for removed in changes.remove:
        fields, nth = headers.get_all(removed.name), removed.occurrence
        first = nth - 1 if nth > 0 else nth  # below 0 it counts from the last
        for field in fields if nth == 0 else fields[first : first + 1 or None]:
            headers.remove(field)
    for added in changes.add:
        if added.order is not None and 0 <= added.order < len(headers):
            headers.insert_before(headers[added.order], added.name, added.value)
        else:
            headers.append(added.name, added.value)


class RspamdMilter(MessageMilter):
    def __init__(self, rspamd: Rspamd) -> None:
        self.rspamd = rspamd

    async def message(self, ctx: Context, message: Message) -> Response | None:
        found = await self.rspamd.scan(message.octets(), envelope=envelope(ctx, message))
        message.headers.remove_all("X-Spam")  # a sender may have put it there
        if found.problem:
            message.headers.prepend("X-Spam", "unknown")
        if found.action == "reject":
            return Reply(550, "5.7.1", found.reply or "Spam message rejected")
        if found.action in ("soft reject", "greylist"):
            return Reply(451, "4.7.1", found.reply or "Try again later")
        if found.subject:
            message.headers.set_text("Subject", found.subject)
        change(message.headers, found.headers)
        if found.action in ("add header", "rewrite subject"):
            message.headers.prepend("X-Spam", "yes")
        return None


@asynccontextmanager
async def milter() -> AsyncIterator[Callable[[], RspamdMilter]]:
    async with Rspamd(os.environ.get("RSPAMD", "inet:11333@127.0.0.1")) as rspamd:
        yield lambda: RspamdMilter(rspamd)


if __name__ == "__main__":
    run(milter, "inet:8890@127.0.0.1")
