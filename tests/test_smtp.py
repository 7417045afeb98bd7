"""The embedded SMTP front, from an SMTP client's side."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiomilter
from aiomilter import (
    ACCEPT,
    DISCARD,
    REJECT,
    TEMPFAIL,
    Context,
    EndOfMessageContext,
    Mail,
    Milter,
    Rcpt,
    Reply,
    Response,
)
from aiomilter.smtp import Front, Outcome, front


class Client:
    """An SMTP client that says exactly what a test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def reply(self) -> str:
        """Return the next reply, lines joined by LF; "" at the end of the connection."""
        lines = []
        while True:
            line = (await self.reader.readline()).decode()
            lines.append(line.removesuffix("\r\n"))
            if line[3:4] != "-":
                return "\n".join(lines)

    async def say(self, *lines: str | bytes) -> str:
        """Send lines at once, and return the last reply."""
        self.send(*lines)
        replies = [await self.reply() for _ in lines]
        return replies[-1]

    def send(self, *lines: str | bytes) -> None:
        octets = [line if isinstance(line, bytes) else line.encode() for line in lines]
        self.writer.write(b"".join(line + b"\r\n" for line in octets))

    async def message(self, content: bytes) -> str:
        """Send an envelope and a message, and return the reply to it."""
        assert (await self.say("MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>", "DATA"))[:3] == "354"
        return await self.say(content + b".")


@asynccontextmanager
async def connected(smtp: Front) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(smtp.host, smtp.port)
    client = Client(reader, writer)
    try:
        yield client
    finally:
        writer.close()
        await writer.wait_closed()


class Scene:
    """A filter, the front, and what came out of it."""

    def __init__(self, smtp: Front, outcomes: list[Outcome]) -> None:
        self.smtp = smtp
        self.outcomes = outcomes

    @property
    def octets(self) -> list[bytes]:
        return [outcome.result.delivered.octets for outcome in self.outcomes if outcome.result.delivered]


@asynccontextmanager
async def scene(factory: aiomilter.Factory, **options: int | float) -> AsyncIterator[Scene]:
    outcomes: list[Outcome] = []
    async with (
        aiomilter.serve(factory, "inet:0@127.0.0.1") as server,
        front("127.0.0.1:0", server.addresses[0], on_message=outcomes.append, **options) as smtp,  # type: ignore[arg-type]
    ):
        yield Scene(smtp, outcomes)


class Tag(Milter):
    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Seen", "yes")


async def test_a_message_comes_out_as_the_filter_wants_it() -> None:
    async with scene(Tag) as played, connected(played.smtp) as client:
        assert (await client.reply()).startswith("220 ")
        await client.say("EHLO me.example")
        reply = await client.message(b"Subject: hi\r\n\r\nbody\r\n..dot\r\n")

    assert reply.startswith("250 2.0.0 Ok")
    assert played.octets == [b"Subject: hi\r\nX-Seen: yes\r\n\r\nbody\r\n.dot\r\n"]


class AtSender(Milter):
    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        answers: dict[str, Response] = {
            "reject": REJECT,
            "tempfail": TEMPFAIL,
            "reply": Reply(550, "5.7.99", "not you"),
            "discard": DISCARD,
            "accept": ACCEPT,
        }
        return answers[mail.address.partition("@")[0]]

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        return None


async def test_answers_are_told_as_postfix_tells_them() -> None:
    async with scene(AtSender) as played, connected(played.smtp) as client:
        await client.reply()
        await client.say("EHLO me.example")
        replies = {
            name: await client.say(f"MAIL FROM:<{name}@x.example>", "RSET", f"MAIL FROM:<{name}@x.example>")
            for name in ("reject", "tempfail", "reply", "discard", "accept")
            if await client.say("RSET")
        }

    assert replies == {
        "reject": "550 5.7.1 Command rejected",
        "tempfail": "451 4.7.1 Service unavailable - try again later",
        "reply": "550 5.7.99 not you",
        "discard": "250 2.1.0 Ok",
        "accept": "250 2.1.0 Ok",
    }
