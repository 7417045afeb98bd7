"""Filters that come late, go, are killed and come back, while clients are connected: no message is lost or unmarked."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.interop.client import MESSAGE, RECIPIENTS, SENDER, accepted, connect
from tests.interop.recorder import Script
from tests.interop.scene import Scene
from tests.listening import listens
from tests.patience import PATIENCE

pytestmark = pytest.mark.interop

BOB, CAROL = RECIPIENTS


@asynccontextmanager
async def standalone(scene: Scene, mark: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a filter in a process of its own where the MTA looks for it; killed at the end if it still runs."""
    (socket,) = scene.sockets
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.interop.standalone", socket, mark, cwd=Path(__file__).parents[2]
    )
    try:
        await scene.rig.until(lambda: listens(socket) or process.returncode is not None, PATIENCE, "filter")
        assert process.returncode is None
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_client_that_comes_before_the_filter_must_come_again(scene: Scene) -> None:
    """Protocol.md 7.4: the MTA refuses for now; as soon as the filter is there the next session passes."""
    async with scene.connect() as early:
        replies = await early.send()
        assert [reply[:2] for reply in replies.values()][-1] == "45"
        async with scene.filters(Script(edit=lambda ctx: ctx.add_header("X-Late", "no"))):
            still = await early.send()
            async with scene.connect() as client:
                later = await client.send()
    (delivery,) = await scene.deliveries()

    assert not any(accepted(reply) for reply in list(still.values())[-1:])
    assert accepted(later["."])
    assert delivery.values("X-Late") == [" no"]


async def test_a_killed_filter_loses_no_mail_and_its_successor_goes_on(scene: Scene) -> None:
    """P-132: the session under way is refused for now; the socket that the dead left is no hindrance."""
    async with standalone(scene, "first") as first, connect(scene.port) as client:
        await client.send()
        await client.say(f"MAIL FROM:<{SENDER}>")
        assert accepted(await client.say(f"RCPT TO:<{BOB}>"))
        first.kill()
        await first.wait()
        refused = await client.say(f"RCPT TO:<{CAROL}>")
        data = await client.say("DATA")
        if accepted(data):
            data = await client.content(MESSAGE)
    async with standalone(scene, "second"), connect(scene.port) as client:
        again = await client.send()
    deliveries = await scene.deliveries()

    assert refused[:1] == "4"
    assert data[:1] in ("4", "5")
    assert accepted(again["."])
    assert sorted(delivery.values("X-Filter") for delivery in deliveries) == [[" first"], [" second"]]


async def test_a_stopped_filter_lets_open_sessions_end(scene: Scene) -> None:
    """P-134: after SIGTERM the session goes on until QUIT, nobody new comes in, and the exit status is 0."""
    async with standalone(scene, "last") as process:
        async with connect(scene.port) as client:
            await client.say(f"MAIL FROM:<{SENDER}>")
            await client.say(f"RCPT TO:<{BOB}>")
            os.kill(process.pid, signal.SIGTERM)
            await scene.rig.until(lambda: not listens(scene.sockets[0]), PATIENCE, "end of listening")
            async with connect(scene.port) as other:
                refused = await other.send()
            assert accepted(await client.say("DATA"))
            assert accepted(await client.content(MESSAGE))
            next_message = await client.send()
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    deliveries = await scene.deliveries()

    assert list(refused.values())[-1][:1] == "4"
    assert accepted(next_message["."])
    assert [delivery.values("X-Filter") for delivery in deliveries] == [[" last"], [" last"]]
    assert not scene.sockets[0].startswith("unix:") or not Path(scene.sockets[0].removeprefix("unix:")).exists()
