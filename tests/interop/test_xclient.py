"""XCLIENT in the embedded SMTP front, beside Postfix: a filter sees the same, and the client gets the same replies."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

import aiomilter
from aiomilter import Context, Milter
from aiomilter.smtp import front
from tests.interop.client import Client, accepted, connect
from tests.interop.scene import Scene

pytestmark = pytest.mark.interop


class Seen(NamedTuple):
    """What a filter was shown at MAIL."""

    hostname: str
    address: str
    helo: str
    auth: tuple[str, str] | None


class Watching(Milter):
    """Keeps it."""

    seen: list[Seen]

    async def envfrom(self, ctx: Context, mail: Any) -> None:
        auth = (ctx.auth.login, ctx.auth.mechanism) if ctx.auth is not None else None
        self.seen.append(Seen(ctx.client.hostname, str(ctx.client.ip), ctx.helo, auth))


@asynccontextmanager
async def through(side: str, postfix: Scene, factory: type[Milter]) -> AsyncIterator[Client]:
    """Be a client of one of the two."""
    if side == "postfix":
        async with postfix.filters(factory), postfix.connect() as client:
            yield client
        return
    async with (
        aiomilter.serve(factory, "inet:0@127.0.0.1") as server,
        front("127.0.0.1:0", server.addresses[0]) as smtp,
        connect(smtp.port) as client,
    ):
        yield client


@pytest.mark.parametrize(
    "commands",
    [
        ["XCLIENT ADDR=192.0.2.7 NAME=mail.client.test PORT=4711", "EHLO a.test"],
        ["XCLIENT ADDR=192.0.2.7 NAME=[UNAVAILABLE]", "EHLO a.test"],
        ["XCLIENT NAME=mail.client.test ADDR=192.0.2.7", "EHLO a.test"],
        ["XCLIENT ADDR=IPV6:2001:db8::7 NAME=six.client.test LOGIN=al+2Bice", "HELO a.test"],
        ["XCLIENT ADDR=[UNAVAILABLE] NAME=[UNAVAILABLE]", "EHLO a.test"],
        ["XCLIENT LOGIN=alice", "EHLO a.test", "XCLIENT LOGIN=[UNAVAILABLE]", "EHLO b.test"],
        ["XCLIENT HELO=other.test PROTO=ESMTP", "EHLO a.test"],
        ["XCLIENT ADDR=192.0.2.7", "EHLO a.test"],
        ["XCLIENT", "XCLIENT COLOUR=red", "XCLIENT ADDR=me", "XCLIENT PORT=x", "xclient name=x.test", "EHLO a.test"],
    ],
)
async def test_a_filter_sees_the_same_client_and_a_client_gets_the_same_replies(
    postfix: Scene, commands: list[str]
) -> None:
    sides = {}
    for side in ("postfix", "front"):
        seen: list[Seen] = []
        watching = type("Watching", (Watching,), {"seen": seen})
        async with through(side, postfix, watching) as client:
            replies = [(await client.say(command))[:4] for command in commands]
            assert accepted(await client.say("MAIL FROM:<alice@client.test>"))
            replies.append((await client.say("XCLIENT ADDR=192.0.2.8"))[:4])
            await client.say("RSET")
        sides[side] = replies, seen
    assert sides["front"] == sides["postfix"]
