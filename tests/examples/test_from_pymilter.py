"""One program in three states, from pymilter to aiomilter: each answers the same."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aiomilter import ACCEPT, CONTINUE, Reply
from aiomilter.mta import connect
from aiomilter.wire.modifications import AddHeader
from tests.listening import listens
from tests.patience import PATIENCE

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "from_pymilter"
STATES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    domain = await reader.readline()
    writer.write(b"listed\n" if domain == b"spam.example\n" else b"clean\n")
    writer.close()


@pytest.fixture
async def reputation() -> AsyncIterator[int]:
    """Serve a reputation service and return its port."""
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as service:
        yield service.sockets[0].getsockname()[1]


def test_there_are_three_states() -> None:
    assert STATES == ["classic", "mixed", "native"]


@pytest.mark.parametrize("state", STATES)
async def test_each_state_answers_the_same(state: str, reputation: int, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/sock"
    script = str(EXAMPLES / f"{state}.py")
    command = ["run", script, "--listen", address] if state == "native" else ["compat", script, address]
    environment = {**os.environ, "REPUTATION_PORT": str(reputation)}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "aiomilter", *command, env=environment)
    try:
        async with asyncio.timeout(PATIENCE):
            while not listens(address):
                assert process.returncode is None
                await asyncio.sleep(0.01)
            async with connect(address) as session:
                await session.negotiate()
                await session.connect("client.example", "192.0.2.1")
                await session.helo()
                refused = await session.mail("<a@SPAM.example>")
                passed = await session.mail("<a@ham.example>")
                await session.rcpt("<b@b.example>")
                await session.rcpt("<c@b.example>")
                result = await session.message(b"Subject: hi\r\n\r\nHello\r\n")
                await session.quit()
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert refused == Reply(550, "5.7.1", "Your domain is listed")
    assert passed is CONTINUE
    assert result.answer in (ACCEPT, CONTINUE)
    assert result.modifications == (AddHeader("X-Recipients", "2"),)
