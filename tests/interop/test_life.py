"""A filter that is reloaded, restarted and killed while mail comes in from many sessions, behind real MTAs."""

import os
import signal
import socket
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.interop.client import connect
from tests.interop.scene import Scene
from tests.interop.traffic import Traffic, flowing
from tests.life.daemon import Daemon, running, write_filter

pytestmark = [pytest.mark.interop, pytest.mark.slow]

SESSIONS = 8
TWO = ("--workers", "2")


class Brought(Traffic):
    """What became of messages."""

    def __init__(self) -> None:
        super().__init__()
        self.replies: Counter[str] = Counter()
        self.refused: list[dict[str, str]] = []

    @property
    def messages(self) -> int:
        return self.replies.total()

    async def bring(self, port: int) -> None:
        async with connect(port) as client:
            replies = await client.send(recipients=["bob@example.test"])
        last = list(replies.values())[-1]
        self.replies[last[:1]] += 1
        if last[:1] != "2":
            self.refused.append(replies)

    async def more(self, messages: int) -> None:
        """Wait until so many more have been brought."""
        wanted = self.messages + messages
        await self.until(lambda: self.messages >= wanted)


async def versions(scene: Scene) -> Counter[str]:
    """How many messages came out with each mark."""
    deliveries = await scene.deliveries()
    return Counter(",".join(value.strip() for value in delivery.values("X-Version")) for delivery in deliveries)


def bound(text: str) -> socket.socket:
    """Listen where the MTA looks, as systemd would."""
    kind, _, rest = text.partition(":")
    if kind == "unix":
        Path(rest).unlink(missing_ok=True)  # of a filter that was killed
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(rest)
        Path(rest).chmod(0o666)
    else:
        port, _, host = rest.partition("@")
        listening = socket.create_server((host, int(port)))
    listening.listen(128)
    return listening


@pytest.fixture(params=["postfix", "sendmail"])
def either(request: pytest.FixtureRequest) -> Scene:
    """Postfix over TCP, Sendmail over a UNIX-domain socket."""
    found: Scene = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("workers", [(), TWO], ids=["one process", "two workers"])
async def test_reloads_refuse_no_message(workers: tuple[str, ...], either: Scene, tmp_path: Path) -> None:
    write_filter(tmp_path / "f.py", "0")
    arguments = ("f.py", "--listen", either.sockets[0], "--socket-mode", "666", *workers)
    async with running(*arguments, directory=tmp_path) as daemon:
        await daemon.logged("serve new connections" if workers else "listening on")
        async with flowing(Brought(), either, SESSIONS) as mail:
            for number in (1, 2):
                await mail.more(20)
                write_filter(tmp_path / "f.py", str(number))
                daemon.send(signal.SIGHUP)
                pattern = "reloaded: workers" if workers else "INFO aiomilter: reloaded"
                await daemon.logged(pattern, number)
            await mail.more(20)
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    found = await versions(either)

    assert mail.refused == []
    assert found.keys() == {"0", "1", "2"}
    assert found.total() == mail.messages


@pytest.mark.parametrize("workers", [(), TWO], ids=["one process", "two workers"])
async def test_restarts_by_socket_activation_refuse_no_message(
    workers: tuple[str, ...], either: Scene, tmp_path: Path
) -> None:
    write_filter(tmp_path / "f.py", "0")
    with bound(either.sockets[0]) as listening:
        async with AsyncExitStack() as stack:

            async def start() -> Daemon:
                handed = [listening.fileno()]
                daemon = await stack.enter_async_context(running("f.py", *workers, directory=tmp_path, handed=handed))
                await daemon.logged("serve new connections" if workers else "listening on")
                return daemon

            first = await start()
            async with flowing(Brought(), either, SESSIONS) as mail:
                await mail.more(20)
                first.send(signal.SIGTERM)
                assert await first.ended() == 0
                write_filter(tmp_path / "f.py", "1")
                second = await start()
                await mail.more(20)
            second.send(signal.SIGTERM)
            assert await second.ended() == 0
    if either.sockets[0].startswith("unix:"):
        Path(either.sockets[0].removeprefix("unix:")).unlink()
    found = await versions(either)

    assert mail.refused == []
    assert found.keys() == {"0", "1"}
    assert found.total() == mail.messages


async def test_a_killed_worker_costs_no_more_than_what_it_held(either: Scene, tmp_path: Path) -> None:
    """The MTA asks these clients to come again; what it has accepted is there exactly once."""
    write_filter(tmp_path / "f.py", "0")
    arguments = ("f.py", "--listen", either.sockets[0], "--socket-mode", "666", *TWO)
    async with running(*arguments, directory=tmp_path) as daemon:
        match = await daemon.logged(r"workers (\d+), \d+ serve new connections")
        async with flowing(Brought(), either, SESSIONS) as mail:
            await mail.more(20)
            os.kill(int(match[1]), signal.SIGKILL)
            await daemon.logged(r"worker \d+ serves$")
            before = len(mail.refused)
            await mail.more(40)
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    found = await versions(either)

    assert before <= SESSIONS
    assert len(mail.refused) <= SESSIONS
    assert mail.replies.keys() <= {"2", "4"}
    assert found == {"0": mail.replies["2"]}
