"""Children that a filter forks while it serves: they hold none of its sockets, and end when they are told to."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Final

import pytest

from aiomilter import Reply
from aiomilter.mta import connect
from tests.listening import listens
from tests.patience import PATIENCE

from .daemon import LOOPS, running
from .test_workers import gone

pytestmark = pytest.mark.slow
FORKING: Final = """
import asyncio, os, time
from aiomilter import Milter, Reply

class Forking(Milter):
    async def envfrom(self, ctx, mail):
        pid = os.fork()
        if pid == 0:
            try:
                os.closerange(0, 3)
                while True:
                    time.sleep(60)
            finally:
                os._exit(0)
        return Reply(550, None, str(pid))
"""
PROCESSES: Final = {"one": (), "workers": ("--workers", "2")}


async def fork(path: Path) -> int:
    """Have the filter fork a child, and return its number."""
    async with connect(f"unix:{path}", timeout=PATIENCE) as session:
        answer = await session.mail("<a@a.example>")
    assert isinstance(answer, Reply)
    return int(answer.lines[0])


@pytest.mark.parametrize("processes", PROCESSES)
@pytest.mark.parametrize("loop", LOOPS)
async def test_a_child_that_outlives_the_daemon_keeps_none_of_its_sockets(
    tmp_path: Path, loop: str, processes: str
) -> None:
    (tmp_path / "f.py").write_text(FORKING)
    path = tmp_path / "sock"
    options = (loop, *PROCESSES[processes], "--listen", f"unix:{path}", "--drain-timeout", "0.1")
    async with running("f.py", *options, directory=tmp_path) as daemon:
        await daemon.logged("listening on" if processes == "one" else "serve new connections")
        reader, writer = await asyncio.open_unix_connection(path)
        child = await fork(path)
        try:
            daemon.send(signal.SIGTERM)
            assert await daemon.ended() == 0
            async with asyncio.timeout(PATIENCE):
                assert await reader.read() == b""
            writer.close()
            assert not listens(str(path))
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("loop", LOOPS)
async def test_a_signal_ends_a_child_and_nothing_else(tmp_path: Path, loop: str, number: signal.Signals) -> None:
    (tmp_path / "f.py").write_text(FORKING)
    path = tmp_path / "sock"
    async with running("f.py", loop, "--listen", f"unix:{path}", directory=tmp_path) as daemon:
        await daemon.logged("listening on")
        child = await fork(path)
        os.kill(child, number)
        async with asyncio.timeout(PATIENCE):
            while not gone(child):
                await asyncio.sleep(0.01)
        other = await fork(path)  # the filter serves on
        os.kill(other, signal.SIGKILL)
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
        assert not [line for line in daemon.log if "reload" in line]
