"""An SMTP client that says what it is told and keeps every reply as it came."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.patience import PATIENCE

SENDER = "alice@client.test"
RECIPIENTS = ("bob@example.test", "carol@example.test")
MESSAGE = b"""\
From: alice@client.test
To: bob@example.test
Date: Mon, 1 Jan 2024 00:00:00 +0000
Message-ID: <1@client.test>
Subject: hello

Hello Bob.
""".replace(b"\n", b"\r\n")


class Client:
    """One connection to an MTA.

    A reply is text, its lines separated by LF: ``"250-mx\\n250 PIPELINING"``; the empty string once the server has hung
    up.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.greeting = ""

    async def reply(self) -> str:
        """The next reply."""
        lines: list[str] = []
        async with asyncio.timeout(PATIENCE):
            while not lines or lines[-1][3:4] == "-":
                try:
                    line = await self._reader.readline()
                except ConnectionError:
                    line = b""
                if not line:
                    break
                lines.append(line.rstrip(b"\r\n").decode("utf-8", "surrogateescape"))
        return "\n".join(lines)

    async def write(self, octets: bytes) -> None:
        """Send octets as they are."""
        try:
            self._writer.write(octets)
            await self._writer.drain()
        except ConnectionError:
            pass  # the reply that comes next tells

    async def hang_up(self) -> None:
        """Go away without a word."""
        self._writer.close()
        await self._writer.wait_closed()

    async def say(self, line: str) -> str:
        """Send one command and return its reply."""
        await self.write(line.encode("utf-8", "surrogateescape") + b"\r\n")
        return await self.reply()

    async def content(self, message: bytes) -> str:
        """Send a message behind a 354, and return what is said at its end."""
        stuffed = message.replace(b"\r\n.", b"\r\n..")
        await self.write((b"." if stuffed[:1] == b"." else b"") + stuffed + b".\r\n")
        return await self.reply()

    async def send(
        self, message: bytes = MESSAGE, sender: str = SENDER, recipients: Sequence[str] = RECIPIENTS
    ) -> dict[str, str]:
        """Play one message as far as it goes and return the replies by step.

        The step of a recipient is its address, the end of the message is ``"."``.  The transaction ends with the first
        refusal; with RCPT only when nobody is left, or the server has gone.
        """
        replies = {"MAIL": await self.say(f"MAIL FROM:<{sender}>")}
        if not accepted(replies["MAIL"]):
            return replies
        for recipient in recipients:
            replies[recipient] = await self.say(f"RCPT TO:<{recipient}>")
            if replies[recipient][:3] in ("", "421"):
                return replies
        if not any(accepted(replies[recipient]) for recipient in recipients):
            return replies
        replies["DATA"] = await self.say("DATA")
        if accepted(replies["DATA"]):
            replies["."] = await self.content(message)
        return replies


def accepted(reply: str) -> bool:
    """Whether the server goes along."""
    return reply[:1] in ("2", "3")


@asynccontextmanager
async def connect(port: int, hello: str | None = "EHLO client.test") -> AsyncIterator[Client]:
    """Open a connection, greeting and EHLO said; QUIT at the end unless the block fails or the server has gone."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = Client(reader, writer)
    try:
        client.greeting = await client.reply()
        if hello is not None:
            await client.say(hello)
        yield client
        await client.say("QUIT")
    finally:
        writer.close()
