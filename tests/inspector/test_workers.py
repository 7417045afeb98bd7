"""With workers the page shows the messages of all."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from aiomilter import mta
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow
FILTER = """
import logging
import os
from aiomilter import Milter
class Mine(Milter):
    async def eom(self, ctx):
        logging.getLogger("mine").warning("seen by %s", os.getpid())
        ctx.add_header("X-Process", str(os.getpid()))
"""


async def test_the_page_has_the_messages_of_all_workers(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FILTER)
    command = [sys.executable, "-m", "aiomilter", "run", str(tmp_path / "mine.py"), "--workers", "2"]
    command += ["--listen", "inet:0@127.0.0.1", "--inspect", "0", "--inspect-content"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        socket, url, token = await asyncio.wait_for(asyncio.to_thread(_started, process), PATIENCE)
        async with asyncio.timeout(PATIENCE), _client() as client:
            assert (await client.get(f"{url}api/messages")).status == 401
            headers = {"Origin": url.rstrip("/")}
            assert (await client.post(f"{url}api/login", json={"token": token}, headers=headers)).status == 200
            seen: set[str] = set()
            events = await client.get(f"{url}api/events?after=0")
            sent = 0
            while len(seen) < 2:  # which worker accepts is up to both
                await _send(socket, sent)
                sent += 1
                number = await _next_message(events)
                message = await (await client.get(f"{url}api/messages/{number}")).json()
                process_id = message["edits_made"][0]["value"]
                seen.add(process_id)
                assert [note["text"] for note in message["log"]] == [f"seen by {process_id}"]
                assert message["conversation"][-1]["answer"] == "continue"
            assert len((await (await client.get(f"{url}api/messages")).json())["messages"]) == sent
            assert not (await (await client.get(f"{url}api/about")).json())["play"]
            events.close()
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def _client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))  # which takes those of an address, too


def _started(process: "subprocess.Popen[str]") -> tuple[str, str, str]:
    socket = page = None
    assert process.stderr is not None
    for line in process.stderr:
        socket = socket or re.search(r"listening on (inet:\d+@127\.0\.0\.1)$", line.strip())
        page = page or re.search(r"the inspector is at (\S+)#token=(\S+)", line)
        if socket and page:
            return socket[1], page[1], page[2]
    raise AssertionError("it has ended")


async def _send(socket: str, number: int) -> None:
    async with mta.connect(socket) as played:
        await played.connect("client.example", "192.0.2.1")
        await played.helo("client.example")
        await played.send(b"Subject: hi\r\n\r\nHello\r\n", f"alice{number}@example.org", "bob@example.net")
        await played.quit()


async def _next_message(events: aiohttp.ClientResponse) -> int:
    """Return the number of the newest message in the next event of the stream that has one."""
    name = b""
    async for line in events.content:
        if line.startswith(b"event: "):
            name = line.strip()
        elif line.startswith(b"data: ") and name == b"event: messages":
            return int(json.loads(line[6:])[-1]["id"])
    raise AssertionError("the stream has ended")
