"""TLS handshakes under way: how many, whose, what they count, and what becomes of them."""

import asyncio
import contextlib
import os
import resource
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import uvloop

from aiomilter import serve
from aiomilter._serving import handshakes
from aiomilter._serving.access import peer_network
from aiomilter._serving.handshakes import Handshakes
from aiomilter.server import Server

from .clock import on_clock
from .patience import PATIENCE
from .peer import MESSAGE, OPENING, QUIT, Watcher, codes, filter_class

LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
HALF_A_HELLO: Final = b"\x16\x03\x01\x02\0\x01"
"""What begins a handshake, and never ends it."""
MEBIBYTE: Final = 1 << 20


def on(loop: str, main: Callable[[], Awaitable[None]]) -> None:
    """Run a test on a loop."""

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await main()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(bounded())


# Whose turn it is


class Scene:
    """Handshakes that last until they are told to end.

    Args:
        most: At once.
        most_of_peer: Of each of them.
        patience: Seconds.
    """

    def __init__(self, most: int, most_of_peer: int, patience: float = 30.0) -> None:
        self.kept = 0
        self.said: list[str] = []
        self.begun: list[str] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}
        self.handshakes = Handshakes(asyncio.get_running_loop(), 1 << 40, self._change, patience)
        self.handshakes.most, self.handshakes.most_of_peer = most, most_of_peer

    def _change(self, octets: int) -> None:
        self.kept += octets

    async def come(self, *names: str) -> None:
        """Have handshakes wanted: the first letter of a name is the peer."""
        for name in names:
            self._ends[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._shake(name))
        await self.settle()

    async def _shake(self, name: str) -> None:
        async with self.handshakes.turn(name[0], lambda limit, number, what: self.said.append(what)):
            self.begun.append(name)
            await self._ends[name].wait()

    async def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
            await self.settle()

    async def cancel(self, *names: str) -> None:
        for name in names:
            self._tasks[name].cancel()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def over(self) -> list[BaseException | None]:
        """Have all end, and return what they raised."""
        for end in self._ends.values():
            end.set()
        raised = await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        assert (self.kept, self.handshakes._waiting, self.handshakes._under_way) == (0, {}, {})
        return raised


async def test_no_more_are_under_way_than_may_be_and_a_peer_has_its_part() -> None:
    scene = Scene(4, 2)
    await scene.come("a1", "a2", "a3", "b1", "c1", "c2", "d1")
    assert scene.begun == ["a1", "a2", "b1", "c1"]
    assert scene.said == [
        "2 TLS handshakes of a are in progress; others of it wait (--max-memory)",
        "4 TLS handshakes are in progress; others wait (--max-memory)",
        "4 TLS handshakes are in progress; others wait (--max-memory)",
    ]
    assert scene.kept == 4 * handshakes._PRICE
    assert await scene.over() == [None] * 7


async def test_peers_have_their_turns_one_after_the_other() -> None:
    scene = Scene(2, 2)
    await scene.come("a1", "b1", "a2", "a3", "a4", "b2", "b3", "c1")
    await scene.end("a1", "a2", "b1", "b2", "c1", "b3")
    assert scene.begun == ["a1", "b1", "a2", "b2", "c1", "a3", "b3", "a4"]
    await scene.over()


async def test_a_peer_that_has_its_part_is_passed_over() -> None:
    scene = Scene(2, 1)
    await scene.come("a1", "b1", "a2", "c1")
    await scene.end("b1")
    assert scene.begun == ["a1", "b1", "c1"]
    await scene.over()


async def test_with_other_limits_those_that_wait_have_their_turn_and_what_is_counted_is_right() -> None:
    scene = Scene(1, 1)
    await scene.come("a1", "a2", "b1")
    scene.handshakes.limit(256 * MEBIBYTE, 1.0)
    await scene.settle()
    assert (scene.begun, scene.kept) == (["a1", "a2", "b1"], 3 * handshakes._PRICE)
    scene.handshakes.limit(3, 1.0)
    await scene.come("c1")
    assert (scene.begun, scene.kept) == (["a1", "a2", "b1"], 3)
    assert await scene.over() == [None] * 4


async def test_who_gives_up_leaves_nothing() -> None:
    scene = Scene(2, 1)
    await scene.come("a1", "b1", "a2", "a3")
    await scene.cancel("a2")
    await scene.end("a1")
    assert scene.begun == ["a1", "b1", "a3"]
    assert [type(error) for error in await scene.over()] == [type(None), type(None), asyncio.CancelledError, type(None)]


async def test_all_may_give_up_at_once() -> None:
    scene = Scene(2, 1)
    await scene.come("a1", "b1", "a2", "c1", "a3", "d1")
    await scene.cancel("a1", "b1", "a2", "c1", "a3")
    assert scene.begun == ["a1", "b1", "d1"]
    assert [type(error) for error in await scene.over()] == [asyncio.CancelledError] * 5 + [type(None)]


async def test_a_turn_that_comes_as_somebody_gives_up_is_the_next_ones() -> None:
    scene = Scene(2, 1)
    await scene.come("a1", "b1", "a2", "c1")
    scene._ends["a1"].set()
    await asyncio.sleep(0)  # a1 has left, and a2 not heard of it
    assert scene.begun == ["a1", "b1"]
    assert scene.handshakes._count == 2
    await scene.cancel("a2")
    assert scene.begun == ["a1", "b1", "c1"]
    await scene.over()


@on_clock
async def test_a_turn_that_does_not_come_in_time_is_given_up() -> None:
    scene = Scene(1, 1, patience=30.0)
    await scene.come("a1", "b1")
    await asyncio.sleep(30.5)
    assert scene._tasks["b1"].done()
    assert [str(error) for error in await scene.over()] == ["None", "no turn for a TLS handshake within 30 s"]


async def test_a_failed_handshake_is_one_less() -> None:
    scene = Scene(1, 1)
    with pytest.raises(ConnectionResetError):
        async with scene.handshakes.turn("a", lambda limit, number, what: None):
            raise ConnectionResetError
    await scene.over()


@pytest.mark.parametrize(
    ("loop", "max_memory", "most", "most_of_peer", "price"),
    [
        ("asyncio", 256 * MEBIBYTE, 200, 50, 309 * 1024),
        ("uvloop", 256 * MEBIBYTE, 200, 50, 58 * 1024),
        ("asyncio", 64 * MEBIBYTE, 53, 13, 309 * 1024),
        ("uvloop", 8 * MEBIBYTE, 35, 8, 58 * 1024),
        ("asyncio", MEBIBYTE, 1, 1, MEBIBYTE // 4),
        ("asyncio", 3, 1, 1, 1),
    ],
)
def test_all_take_at_most_a_quarter_of_the_memory(
    loop: str, max_memory: int, most: int, most_of_peer: int, price: int
) -> None:
    kept: list[int] = []

    async def main() -> None:
        handshakes = Handshakes(asyncio.get_running_loop(), max_memory, kept.append, 1.0)
        assert (handshakes.most, handshakes.most_of_peer) == (most, most_of_peer)
        async with handshakes.turn("a", lambda limit, number, what: None):
            assert kept == [price]

    on(loop, main)
    assert kept == [price, -price]


@pytest.mark.parametrize(
    ("family", "host", "network"),
    [(socket.AF_INET, "127.0.0.1", "127.0.0.1"), (socket.AF_INET6, "::1", "::/64")],
)
def test_of_an_ipv6_address_the_network_counts(family: socket.AddressFamily, host: str, network: str) -> None:
    with (
        socket.create_server((host, 0), family=family) as listening,
        socket.create_connection(listening.getsockname()[:2]),
    ):
        accepted, _ = listening.accept()
        with accepted:
            assert peer_network(accepted) == network
    with socket.socket() as unconnected:
        assert peer_network(unconnected) == ""


# Over real sockets


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and its certificate."""
    made = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=server"
    subprocess.run([*command.split(), "-keyout", made, "-out", f"{made}.crt"], check=True, capture_output=True)
    made.write_text(made.read_text() + Path(f"{made}.crt").read_text())
    return made


class Served:
    """A server that speaks TLS, with two handshakes at once, one of a peer.

    Args:
        server: It.
        pem: Its key and certificate.
    """

    def __init__(self, server: Server, pem: Path) -> None:
        self.server = server
        self.watcher = Watcher()
        self.told: list[dict[str, Any]] = []
        self._client = ssl.create_default_context(cafile=str(pem))
        self._client.check_hostname = False
        self._port = int(server.addresses[0].removeprefix("inet:").partition("@")[0])
        self.attackers: list[socket.socket] = []

    def attack(self, *hosts: str, octets: bytes = HALF_A_HELLO) -> None:
        """Begin handshakes that never end."""
        for host in hosts:
            sock = socket.create_connection(("127.0.0.1", self._port), source_address=(host, 0))
            sock.sendall(octets)
            sock.setblocking(False)
            self.attackers.append(sock)

    async def play(self, host: str = "127.0.0.9") -> str:
        """Bring a message from an address, and return the answers."""
        where: dict[str, Any] = {"ssl": self._client, "local_addr": (host, 0)}
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, **where)
        writer.write(OPENING + MESSAGE + QUIT)
        answered = await reader.read()
        writer.close()
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await writer.wait_closed()
        return codes(answered)

    async def until(self, under_way: int, waiting: int) -> None:
        """Wait until so many handshakes are under way, and so many wait."""
        handshakes = self.server._transports.handshakes
        assert handshakes is not None
        while (handshakes._count, sum(map(len, handshakes._waiting.values()))) != (under_way, waiting):
            await asyncio.sleep(0)


@asynccontextmanager
async def serving_tls(pem: Path, *more: str, **options: Any) -> AsyncIterator[Served]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    watcher, told = Watcher(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    sockets = ("inet:0@127.0.0.1", *more)
    server = serve(filter_class(), *sockets, ssl=context, observer=watcher, **options)
    async with server:
        handshakes = server._transports.handshakes
        assert handshakes is not None
        handshakes.most, handshakes.most_of_peer = 2, 1
        served = Served(server, pem)
        served.watcher, served.told = watcher, told
        try:
            yield served
        finally:
            for sock in served.attackers:
                sock.close()
    assert (watcher.failures, told) == ([], [])
    assert (server._connections, server._transports.pending, server._memory.used) == ({}, {}, 0)
    await served.until(0, 0)


@pytest.mark.parametrize("loop", LOOPS)
def test_one_peer_keeps_no_other_from_its_handshake(loop: str, pem: Path) -> None:
    async def main() -> None:
        async with serving_tls(pem) as served:
            served.attack(*["127.0.0.1"] * 20)
            await served.until(1, 19)
            assert await served.play() == "Occccccccc"
            said = "1 TLS handshakes of 127.0.0.1 are in progress; others of it wait (--max-memory)"
            assert served.watcher.remarks == [said] * 19

    on(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_one_more_waits_until_another_has_ended(loop: str, pem: Path) -> None:
    async def main() -> None:
        async with serving_tls(pem) as served:
            served.attack("127.0.0.1", "127.0.0.2")
            await served.until(2, 0)
            playing = asyncio.create_task(served.play())
            await served.until(2, 1)
            served.attackers[0].close()
            assert await playing == "Occccccccc"

    on(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_handshakes_that_do_not_end_make_room(loop: str, pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiomilter._serving.transports._TLS_BEGINS", 0.05)

    async def main() -> None:
        async with serving_tls(pem) as served:
            served.attack(*["127.0.0.1"] * 3, *["127.0.0.2"] * 3)
            await served.until(2, 4)
            assert await served.play() == "Occccccccc"
            await served.until(0, 0)

    on(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_who_says_nothing_has_no_handshake_yet(loop: str, pem: Path) -> None:
    async def main() -> None:
        async with serving_tls(pem) as served:
            served.attack("127.0.0.1", "127.0.0.2", octets=b"")
            while len(served.server._transports.pending) < 2:
                await asyncio.sleep(0)
            assert await served.play() == "Occccccccc"
            assert served.server._memory.used == 0

    on(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_socket_without_tls_knows_nothing_of_that(loop: str, pem: Path, tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "x.sock")
        async with serving_tls(pem, path) as served:
            served.attack("127.0.0.1", "127.0.0.2", "127.0.0.3")
            await served.until(2, 1)
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(OPENING + MESSAGE + QUIT)
            assert codes(await reader.read()) == "Occccccccc"
            writer.close()

    on(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_handshakes_under_way_and_those_that_wait_count_as_memory_and_end_with_the_server(loop: str, pem: Path) -> None:
    async def main() -> None:
        async with serving_tls(pem) as served:
            served.attack("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.3")
            served.attack("127.0.0.4", octets=b"")
            await served.until(2, 2)
            price = handshakes._PRICE if loop == "asyncio" else handshakes._PRICE_OF_UVLOOP
            assert served.server._memory.used == 2 * price
            await served.server.close()
            for sock in served.attackers:
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.get_running_loop().sock_recv(sock, 1) == b""
            assert served.watcher.remarks == ["2 TLS handshakes are in progress; others wait (--max-memory)"] * 2

    on(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_drain_waits_for_handshakes_and_a_reload_does_not(loop: str, pem: Path) -> None:
    async def main() -> None:
        async with serving_tls(pem) as served:
            served.attack("127.0.0.1", "127.0.0.2")
            await served.until(2, 0)
            playing = asyncio.create_task(served.play())
            await served.until(2, 1)
            await served.server.reload(filter_class())
            draining = asyncio.create_task(served.server.drain(PATIENCE))
            await asyncio.sleep(0)
            for sock in served.attackers:
                sock.close()
            assert await playing == "Occccccccc"
            await draining

    on(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_drain_that_is_over_ends_handshakes(loop: str, pem: Path) -> None:
    async def main() -> None:
        async with serving_tls(pem) as served:
            served.attack("127.0.0.1", "127.0.0.2", "127.0.0.3")
            await served.until(2, 1)
            await served.server.drain(0)
            assert not served.server._connections

    on(loop, main)


# A process


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """As many as may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="this system does not tell how large a process is")
def test_a_crowd_that_begins_tls_takes_no_more_memory_than_handshakes_may(
    pem: Path, tmp_path: Path, many_descriptors: None
) -> None:
    """600 of them took 180 MiB on asyncio."""
    (tmp_path / "f.py").write_text(
        "from aiomilter import Milter\nclass M(Milter):\n    async def eom(self, ctx): pass\n"
    )
    command = [sys.executable, "-m", "aiomilter", "run", "f.py", "--no-uvloop", "--listen", "inet:0@127.0.0.1"]
    command += ["--max-memory", str(32 * MEBIBYTE), "--tls-certificate", str(pem)]
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True))
        stack.callback(process.kill)
        assert process.stderr is not None
        port = next(int(line.split("inet:")[1].split("@")[0]) for line in process.stderr if "listening" in line)

        def size() -> int:
            return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        before = size()
        for _ in range(600):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            sock.sendall(HALF_A_HELLO)
        # Those that speak plainly are seen after all of these, by which time they have had their turn or wait.
        last = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        last.sendall(OPENING)
        with contextlib.suppress(ConnectionResetError):
            assert last.recv(1) == b""
        assert size() - before < 20 * MEBIBYTE
