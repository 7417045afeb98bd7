"""Blocking callbacks: connections run side by side, each as on a thread of its own, and nobody waits for who is idle."""

import asyncio
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from aiomilter import ACCEPT, CONTINUE
from aiomilter.mta import Session, connect
from aiomilter.wire.modifications import AddHeader
from tests.compat.playing import ROOT, SCRIPTS, connected, ours
from tests.patience import PATIENCE


@contextmanager
def blocking(number: int, *options: str) -> Iterator[str]:
    """Serve the program whose senders wait for each other, so many at a time."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/s"
        command = [*ours().command, *options, str(SCRIPTS / "blocking.py"), path, str(number)]
        out = Path(directory, "out")
        with out.open("wb") as file:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            with Path(f"{path}.said").open("wb") as said:
                process = subprocess.Popen(command, stdout=file, stderr=said, env=environment)
        try:
            connected(path, process).close()
            yield path
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
            assert out.read_text() == ""
        finally:
            process.kill()
            process.wait()


async def opened(stack: AsyncExitStack, path: str) -> Session:
    session = await stack.enter_async_context(connect(path, timeout=PATIENCE))
    assert await session.connect() is CONTINUE
    return session


async def message(session: Session, sender: str) -> dict[str, str]:
    """Send a message and return the fields that were added."""
    assert await session.mail(sender) is CONTINUE
    assert await session.rcpt("<bob@example.net>") is CONTINUE
    result = await session.message(b"Subject: x\r\n\r\nHello\r\n")
    assert result.answer is ACCEPT
    return {edit.name: edit.value for edit in result.modifications if isinstance(edit, AddHeader)}


@pytest.mark.slow
async def test_five_hundred_connections_block_side_by_side() -> None:
    with blocking(500) as path:
        async with AsyncExitStack() as stack:
            sessions = [await opened(stack, path) for _ in range(500)]
            added = await asyncio.gather(*(message(session, "<a@b>") for session in sessions))

    assert {(fields["X-Local"], fields["X-Main"]) for fields in added} == {("kept", "False")}
    assert max(int(fields["X-Most"]) for fields in added) == 500


@pytest.mark.slow
async def test_a_bound_on_threads_is_one_on_callbacks_and_idle_connections_starve_nobody() -> None:
    with blocking(2, "--threads", "2") as path:
        async with AsyncExitStack() as stack:
            idle = [await opened(stack, path) for _ in range(50)]
            quick = await opened(stack, path)
            assert (await message(quick, "<quick@example.org>"))["X-Local"] == "kept"
            # Those that were idle go on, by twos: no third one gets in while two are held.
            held = [asyncio.create_task(message(session, "<hold@example.org>")) for session in idle]
            async with asyncio.timeout(PATIENCE):
                while Path(f"{path}.said").read_text().count("inside") < 2:
                    await asyncio.sleep(0.01)
            Path(f"{path}.go").touch()
            added = await asyncio.gather(*held)

    assert {fields["X-Local"] for fields in added} == {"kept"}
    assert max(int(fields["X-Most"]) for fields in added) == 2
