"""What the system was asked, seen by strace: no MTA has to wait until what it wrote is acknowledged by itself, 40 ms later."""

import asyncio
import re
import sys
from pathlib import Path

import pytest

from aiomilter import Context, EndOfMessageContext, Header, Mail, Milter, no_reply
from tests.interop.scene import Scene
from tests.listening import listens
from tests.patience import PATIENCE
from tests.programs import needed

pytestmark = [pytest.mark.interop, pytest.mark.slow]

# asyncio's, then uvloop's.
READS = ("recvfrom", "read")
WRITES = ("sendto", "write", "writev", "sendmsg")
CALL = re.compile(rf"({'|'.join((*READS, *WRITES))}|setsockopt)\((\d+)<TCP:\[.*?\]>, (.*) = (-?\d+)")


class End(Milter):
    """Has neither DATA nor anything else before the end of a message sent."""

    async def eom(self, ctx: EndOfMessageContext) -> None: ...


class Sender(End):
    async def envfrom(self, ctx: Context, mail: Mail) -> None: ...


class Quiet(End):
    """Has DATA and the header sent, and answers neither."""

    @no_reply
    async def data(self, ctx: Context) -> None: ...

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None: ...


def reads(trace: str) -> list[tuple[int, list[str]]]:
    """Return the octets of each read on the connection that asked most, and what was done before the next."""
    connections: dict[str, list[tuple[int, list[str]]]] = {}
    for name, descriptor, arguments, result in CALL.findall(trace):
        done = connections.setdefault(descriptor, [])
        if name in READS:
            if int(result) > 0:
                done.append((int(result), []))
        elif done:
            done[-1][1].append("answered" if name in WRITES else re.findall(r"TCP_\w+", arguments)[0])
    return max(connections.values(), key=len)


async def traced(scene: Scene, filter_: type[Milter], loop: str, trace: Path) -> list[tuple[int, list[str]]]:
    """Send two messages past a filter in a process of its own, and return its reads."""
    (socket,) = scene.sockets
    calls = ",".join((*READS, *WRITES, "setsockopt"))
    # -D: the process is the filter, not strace, so that a signal ends it.
    strace = [needed("strace"), "-D", "-yy", "-o", str(trace), "-e", f"trace={calls}"]
    served = [sys.executable, "-m", "aiomilter", "run", loop, f"{__name__}:{filter_.__name__}", "--listen", socket]
    process = await asyncio.create_subprocess_exec(*strace, *served, cwd=Path(__file__).parents[2])
    try:
        await scene.rig.until(lambda: listens(socket) or process.returncode is not None, PATIENCE, "filter")
        async with scene.connect() as client:
            for _ in range(2):
                replies = await client.send()
                assert replies["."][:3] == "250", replies
        process.terminate()
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    await scene.rig.until(lambda: "+++ exited" in trace.read_text(), PATIENCE, "end of the trace")
    return reads(trace.read_text())


@pytest.mark.parametrize("loop", ["--no-uvloop", "--uvloop"])
@pytest.mark.parametrize("filter_", [End, Sender, Quiet])
@pytest.mark.parametrize("scene", ["postfix-tcp", "sendmail-tcp"], indirect=True)
async def test_each_read_over_tcp_is_answered_or_acknowledged(
    scene: Scene, filter_: type[Milter], loop: str, tmp_path: Path
) -> None:
    found = await traced(scene, filter_, loop, tmp_path / "trace")

    assert len(found) > 4
    assert any("answered" not in done for _, done in found[:-1])
    assert [(octets, done) for octets, done in found[:-1] if not {"answered", "TCP_QUICKACK"} & set(done)] == []
