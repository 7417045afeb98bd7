"""The load generator of the benchmarks writes to a filter as the real Postfix does: the same packets in the same writes."""

import asyncio
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aiomilter import Milter
from benchmarks.filters import End, Noop, Sender, Typical
from tests.interop.rigs.mta import run
from tests.interop.rigs.postfix import Postfix
from tests.interop.scene import Scene
from tests.patience import PATIENCE
from tests.programs import needed

pytestmark = [pytest.mark.interop, pytest.mark.slow]

SOURCE = Path(__file__).parents[2] / "benchmarks" / "milterload.c"
# As many recipients and fields as the client's message has, and two of them.
LOAD = ["--connections", "1", "--reuse", "2", "--messages", "2", "--rcpts", "2", "--headers", "5", "--body", "100"]
STRACE = ["-f", "-yy", "-xx", "-s", "100000", "-e", "trace=write,sendto,setsockopt"]


@asynccontextmanager
async def traced(trace: Path, rig: Postfix) -> AsyncIterator[None]:
    """Trace a Postfix and all that it has started."""
    master = int((rig.queue / "pid" / "master.pid").read_text())
    children = [path.parent.name for path in Path("/proc").glob("[0-9]*/stat") if parent(path) == master]
    pids = [option for pid in (str(master), *children) for option in ("-p", pid)]
    process = subprocess.Popen(
        [needed("strace"), *STRACE, "-o", str(trace), *pids], stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stderr is not None
        for _ in range(len(children) + 1):
            assert b"attached" in await asyncio.to_thread(process.stderr.readline)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        await asyncio.to_thread(process.communicate, timeout=PATIENCE)


def parent(stat: Path) -> int | None:
    """Return the process that has started another, None if that is gone."""
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def writes(trace: str, port: str) -> list[str]:
    """Return the commands of the packets in each write to a port."""
    found = []
    for octets in re.findall(rf"->127\.0\.0\.1:{port}\]>, \"([^\"]*)\"", trace):
        rest, commands = bytes.fromhex(octets.replace("\\x", "")), ""
        while rest:
            size = int.from_bytes(rest[:4])
            assert 0 < size <= len(rest) - 4
            commands += chr(rest[4])
            rest = rest[4 + size :]
        found.append(commands)
    return found


@pytest.mark.parametrize("filter_", [Noop, Typical, Sender, End])
async def test_the_generator_writes_as_postfix_does(postfix: Scene, filter_: type[Milter], tmp_path: Path) -> None:
    (socket,) = postfix.sockets
    port = socket.partition(":")[2].partition("@")[0]
    load = tmp_path / "milterload"
    await run(needed("cc", "gcc"), "-O2", "-pthread", "-o", str(load), str(SOURCE))
    assert isinstance(postfix.rig, Postfix)
    async with postfix.filters(filter_):
        async with traced(tmp_path / "postfix", postfix.rig):
            async with postfix.connect() as client:
                for _ in range(2):
                    assert (await client.send())["."][:3] == "250"
            await postfix.deliveries()
        await run(needed("strace"), *STRACE, "-o", str(tmp_path / "load"), str(load), *LOAD, socket)
    theirs, ours = ((tmp_path / name).read_text() for name in ("postfix", "load"))

    assert writes(theirs, port)[0] == "O"
    assert writes(theirs, port)[-1] == "AAQ"
    assert writes(ours, port) == writes(theirs, port)
    # Both leave Nagle's algorithm on.
    assert "TCP_NODELAY" not in ours + theirs
