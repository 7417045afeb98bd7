"""All that is asked about odd messages: a real MTA, and each of our own sides that plays one."""

import asyncio
import base64
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiomilter.mta import Style
from aiomilter.testing import session
from tests.interop import shown as shown_module
from tests.interop.client import Client, connect
from tests.interop.odd_messages import MESSAGES, Odd, Refused, Taken, on_the_wire, own_fields_cut
from tests.interop.scene import Scene
from tests.interop.shown import SHOWN, Shown
from tests.patience import PATIENCE

Facts = Mapping[str, Taken | Refused]
"""What became of each message, by its name."""

FILTER = f"{shown_module.__file__}:to_file"
SENDER = "alice@client.test"


def recipient(message: Odd) -> str:
    """An address by which the next hop tells messages apart."""
    return f"odd{MESSAGES.index(message)}@example.test"


async def by_mta(scene: Scene) -> Facts:
    """Ask a real MTA: all messages after each other, on a new connection once one was refused."""
    seen: dict[str, bytes] = {}
    replies: dict[str, str] = {}
    kept: list[bytes] = []
    waiting = list(MESSAGES)
    async with scene.filters(lambda: Shown(kept.append)):
        while waiting:
            async with scene.connect() as client:
                while waiting:
                    message = waiting.pop(0)
                    reply = replies[message.name] = await sent(client, message)
                    if not reply.startswith("2"):
                        break
                    (seen[message.name],) = kept
                    kept.clear()
    assert kept == []
    delivered = {next(iter(delivery.recipients)): delivery.content for delivery in await scene.deliveries()}
    found: dict[str, Taken | Refused] = {}
    for message in MESSAGES:
        content = delivered.pop(recipient(message), None)
        if content is None:
            found[message.name] = Refused(replies[message.name])
        else:
            shown = seen[message.name]
            found[message.name] = Taken(shown, own_fields_cut(content, shown))
    assert delivered == {}
    return found


async def sent(client: Client, message: Odd) -> str:
    """Send a message and return the reply at its end."""
    for command in (f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{recipient(message)}>", "DATA"):
        reply = await client.say(command)
        assert reply[:1] in "23", (message.name, command, reply)
    await client.write(on_the_wire(message.octets))
    return await client.reply()


async def by_session(style: Style) -> Facts:
    """Ask ``aiomilter.testing.session``."""
    found: dict[str, Taken | Refused] = {}
    kept: list[bytes] = []
    async with session(lambda: Shown(kept.append), mta=style) as played:
        for message in MESSAGES:
            await played.mail(f"<{SENDER}>")
            await played.rcpt(f"<{recipient(message)}>")
            result = await played.message(message.octets)
            if result.passed:
                found[message.name] = Taken(kept.pop(), result.octets)
            else:
                found[message.name] = Refused(str(result.answer))
    assert kept == []
    return found


async def by_check(style: Style, directory: Path) -> Facts:
    """Ask ``aiomilter check``, all messages in one run."""
    files = []
    for number, message in enumerate(MESSAGES):
        file = directory / f"{number}.eml"
        file.write_bytes(message.octets)
        files.append(str(file))
    kept = directory / "shown"
    async with command(kept, "check", FILTER, *files, "--json", "--mta", style) as process:
        out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    shown = lines_of(kept)
    found: dict[str, Taken | Refused] = {}
    for message, played in zip(MESSAGES, json.loads(out)["messages"], strict=True):
        if played["delivered"] is None:
            found[message.name] = Refused(played["reply"])
        else:
            found[message.name] = Taken(shown.pop(0), octets(played["delivered"]["message"]))
    assert shown == []
    return found


async def by_smtp(directory: Path) -> Facts:
    """Ask ``aiomilter run --smtp``, all messages in one SMTP session; it plays Postfix."""
    kept, store = directory / "shown", directory / "store"
    found: dict[str, Taken | Refused] = {}
    async with command(kept, "run", FILTER, "--smtp", "127.0.0.1:0", "--store", str(store)) as process:
        assert process.stderr is not None
        async with connect(await port(process.stderr)) as client:
            replies = [await sent(client, message) for message in MESSAGES]
        process.terminate()
        await process.communicate()
    assert process.returncode == 0
    shown = lines_of(kept)
    for message, reply in zip(MESSAGES, replies, strict=True):
        queue_id = re.fullmatch(r"250 2\.0\.0 Ok: queued as (\w+)", reply)
        if queue_id is None:
            found[message.name] = Refused(reply)
        else:
            found[message.name] = Taken(shown.pop(0), (store / f"{queue_id[1]}.eml").read_bytes())
    assert shown == []
    return found


@asynccontextmanager
async def command(kept: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command of ours, with a filter that keeps what it is shown in a file."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "aiomilter", *arguments),
        env={**os.environ, SHOWN: str(kept)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def port(log: asyncio.StreamReader) -> int:
    """Where ``run --smtp`` says that it listens."""
    while line := await log.readline():
        if match := re.search(rb"127\.0\.0\.1:(\d+) for SMTP", line):
            return int(match[1])
    raise AssertionError("expected a port in the log, found none")


def lines_of(kept: Path) -> list[bytes]:
    """What the filter of a command was shown."""
    return [base64.b64decode(line) for line in kept.read_bytes().splitlines()]


def octets(text: Any) -> bytes:
    """Octets as ``check --json`` writes them."""
    return text.encode("utf-8") if isinstance(text, str) else base64.b64decode(text["base64"])
