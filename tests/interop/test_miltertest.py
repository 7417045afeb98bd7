"""A filter as OpenDKIM's miltertest meets it: an MTA's side that shares no code with Sendmail, Postfix or us."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest

import aiomilter
from aiomilter import (
    ACCEPT,
    CONTINUE,
    DISCARD,
    SKIP,
    TEMPFAIL,
    Connect,
    Context,
    EndOfMessageContext,
    Header,
    Helo,
    Mail,
    Milter,
    Rcpt,
    Reply,
    Response,
    Unknown,
)
from tests.programs import needed

pytestmark = pytest.mark.interop

SCRIPT = Path(__file__).with_name("conversation.lua")


class Answering(Milter):
    """Does to each message what its sender says; conversation.lua checks it."""

    events: list[str]

    def __init__(self) -> None:
        self.chunks = 0

    async def connect(self, ctx: Context, connect: Connect) -> None:
        self.events.append("connect")

    async def helo(self, ctx: Context, helo: Helo) -> None:
        self.events.append("helo")

    async def envfrom(self, ctx: Context, mail: Mail) -> Response:
        self.events.append(f"envfrom {mail.address}")
        self.chunks = 0
        return TEMPFAIL if mail.address == "nobody@client.test" else CONTINUE

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response:
        return Reply(550, "5.1.1", "not here") if rcpt.address == "refused@example.test" else CONTINUE

    async def header(self, ctx: Context, header: Header) -> Response:
        await asyncio.sleep(0)
        assert ctx.sender is not None
        return ACCEPT if ctx.sender.address == "accept@client.test" else CONTINUE

    async def eoh(self, ctx: Context) -> None:
        self.events.append("eoh")

    async def body(self, ctx: Context, chunk: bytes) -> Any:
        self.chunks += 1
        return SKIP if self.chunks == 2 else CONTINUE

    async def eom(self, ctx: EndOfMessageContext) -> Response:
        assert ctx.sender is not None
        what = ctx.sender.address.partition("@")[0]
        self.events.append(f"eom {ctx.queue_id}")
        to = " ".join(rcpt.address for rcpt in ctx.recipients)
        ctx.add_header(
            "X-Seen", f"{ctx.queue_id} {ctx.client.hostname} {ctx.client.ip} {ctx.helo} {ctx.sender.address} {to}"
        )
        ctx.insert_header("X-Top", "top")
        ctx.delete_header("X-Number", 1)
        ctx.change_header("X-Number", 2, "changed")
        ctx.replace_body(b"new body\r\n")
        ctx.add_recipient("<carol@example.test>")
        ctx.delete_recipient("<bob@example.test>")
        ctx.quarantine("for review")
        match what:
            case "refuse":
                return Reply(554, "5.7.1", "refused")
            case "discard":
                return DISCARD
        return CONTINUE

    async def unknown(self, ctx: Context, unknown: Unknown) -> Reply:
        self.events.append(f"unknown {unknown.line}")
        return Reply(502, "5.5.1", "what?")

    async def abort(self, ctx: Context) -> None:
        self.events.append("abort")

    async def close(self, ctx: Context) -> None:
        self.events.append("close")


@pytest.mark.parametrize("transport", ["inet", "unix"])
async def test_a_whole_conversation(transport: str) -> None:
    """P-015, P-017, P-020, P-031, P-047, P-060, P-067, P-068, P-090, P-092, P-108, P-110 to P-122."""
    program = needed("miltertest")
    Answering.events = []
    with tempfile.TemporaryDirectory() as directory:
        socket = "inet:0@127.0.0.1" if transport == "inet" else f"unix:{directory}/filter"
        async with aiomilter.serve(Answering, socket) as server:
            process = await asyncio.create_subprocess_exec(
                program,
                "-D",
                f"socket={server.addresses[0]}",
                "-s",
                str(SCRIPT),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await process.communicate()

    assert process.returncode == 0, output.decode()
    assert Answering.events == [
        "connect",
        "helo",
        "envfrom edit@client.test",
        "eoh",
        "eom ID1",
        "envfrom refuse@client.test",
        "eoh",
        "eom ID2",
        "envfrom abort@client.test",
        "abort",
        "envfrom accept@client.test",
        "unknown FOOO bar",
        "envfrom nobody@client.test",
        "envfrom discard@client.test",
        "eoh",
        "eom ID6",
        "close",
    ]
