"""The socketmap server, over real sockets: what an MTA gets, and what becomes of a client that breaks the rules."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aiomilter.mail.socketmap import Socketmap
from tests.clock import on_clock
from tests.patience import PATIENCE

MAPS: dict[str, Callable[[str], str | None]] = {
    "upper": lambda key: key.upper() if key != "nobody" else None,
    "bad": lambda key: {"lines": "a\r\nb", "nul": "a\0b", "large": "x" * 5000}[key],
}


def netstring(text: str | bytes) -> bytes:
    octets = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return b"%d:%b," % (len(octets), octets)


class Client:
    """Sends and reads netstrings."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, request: str | bytes) -> str:
        self.writer.write(netstring(request))
        return await self.answer()

    async def answer(self) -> str:
        size = int((await self.reader.readuntil(b":"))[:-1])
        octets = await self.reader.readexactly(size + 1)
        assert octets.endswith(b",")
        return octets[:-1].decode("utf-8", "surrogateescape")

    async def ended(self) -> bool:
        """Return whether the server has hung up, without another word."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.reader.read() == b""
        except ConnectionResetError:
            return True


@asynccontextmanager
async def serving(maps: Any = MAPS, **options: Any) -> AsyncIterator[Callable[[], Any]]:
    """Serve tables, and give what connects to them."""
    tables = Socketmap(maps, **options)
    listening = socket.create_server(("127.0.0.1", 0))
    server = await tables.listen(listening)
    port = listening.getsockname()[1]
    clients: list[Client] = []

    async def connect() -> Client:
        clients.append(Client(*await asyncio.open_connection("127.0.0.1", port)))
        return clients[-1]

    try:
        yield connect
    finally:
        server.close()
        await tables.close()
        for client in clients:
            client.writer.close()


async def test_a_connection_asks_as_often_as_it_likes() -> None:
    async with serving() as connect:
        client = await connect()
        assert [await client.ask(f"upper {key}") for key in ("a", "nobody", "", "a b", "\u00e9", "\udcff")] == [
            "OK A",
            "NOTFOUND ",
            "OK ",
            "OK A B",
            "OK \u00c9",
            "OK \udcff",
        ]


async def test_requests_may_come_all_at_once_or_octet_by_octet() -> None:
    async with serving() as connect:
        client = await connect()
        client.writer.write(netstring("upper a") * 50)
        assert [await client.answer() for _ in range(50)] == ["OK A"] * 50
        for octet in netstring("upper b"):
            client.writer.write(bytes((octet,)))
            await client.writer.drain()
        assert await client.answer() == "OK B"


@pytest.mark.parametrize("request_", ["lower a", "upper", "", " a", "UPPER a"])
async def test_a_map_that_is_not_there_is_a_permanent_error(request_: str) -> None:
    async with serving() as connect:
        assert (await (await connect()).ask(request_)).startswith("PERM ")


@pytest.mark.parametrize("key", ["a\r\nb", "a\0", "\x7f"])
async def test_control_characters_are_never_looked_up(key: str) -> None:
    async with serving({"m": pytest.fail}) as connect:
        assert await (await connect()).ask(f"m {key}") == "NOTFOUND "


@pytest.mark.parametrize("key", ["lines", "nul", "large"])
async def test_what_cannot_be_sent_is_not(key: str) -> None:
    async with serving() as connect:
        client = await connect()
        assert (await client.ask(f"bad {key}")).startswith("PERM ")
        assert await client.ask("upper a") == "OK A"


@pytest.mark.parametrize(
    "octets",
    [
        b"x", b":", b"-1:,", b"01:a,", b"1 :a,", b"7:upper ab", b"4097:", b"99999:", b"999999", b"9" * 100_000,
        b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff", b"\xc2\xb2:ab,",
    ],
)  # fmt: skip
async def test_what_is_no_netstring_ends_the_connection(octets: bytes) -> None:
    async with serving() as connect:
        client = await connect()
        client.writer.write(octets)
        client.writer.write_eof()
        assert await client.ended()
        assert await (await connect()).ask("upper a") == "OK A"


@pytest.mark.parametrize("octets", [b"4097:", b"99999:", b"999999"])
async def test_what_will_be_too_large_ends_the_connection_before_it_comes(octets: bytes) -> None:
    async with serving(request_timeout=2 * PATIENCE) as connect:
        client = await connect()
        client.writer.write(octets)
        assert await client.ended()


async def test_the_largest_request_is_answered() -> None:
    async with serving() as connect:
        client = await connect()
        assert await client.ask("upper " + "a" * 4090) == "OK " + "A" * 4090


async def test_connections_above_the_limit_are_closed_at_once() -> None:
    async with serving(max_connections=2) as connect:
        clients = [await connect(), await connect()]
        assert [await client.ask("upper a") for client in clients] == ["OK A"] * 2
        assert await (await connect()).ended()
        clients[0].writer.close()
        await clients[0].writer.wait_closed()
        answer = b""
        while not answer:  # the server sees the end of the first in its own time
            third = await connect()
            third.writer.write(netstring("upper a"))
            answer = await third.reader.read(1)


async def test_an_answer_that_nobody_reads_keeps_no_connection_open() -> None:
    waiting = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []

    def look_up(key: str) -> str:
        if key == "9":
            waiting.set()
        return "x" * 4000

    class Watched(Socketmap):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            await super().serve(reader, writer)

    tables = Watched({"m": look_up})
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as client:
        # So few octets fit between them that the server keeps some of nine answers.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server = await tables.listen(listening)
        client.connect(listening.getsockname())
        client.sendall(b"".join(netstring(f"m {number}") for number in range(100)))
        async with asyncio.timeout(PATIENCE):
            await waiting.wait()
            assert writers[0].transport.get_write_buffer_size() > 0
            server.close()
            await tables.close()
            await writers[0].wait_closed()


class Slow(Socketmap):
    """Is asked over streams of the test's own, on a clock of its own."""

    def connect(self) -> tuple[asyncio.StreamReader, "Written", "asyncio.Task[None]"]:
        reader, writer = asyncio.StreamReader(), Written()
        return reader, writer, asyncio.ensure_future(self.serve(reader, writer))  # type: ignore[arg-type]  # what it uses of a writer


class Written:
    """As much of a StreamWriter as the server uses."""

    def __init__(self, *, stuck: bool = False) -> None:
        self.octets = b""
        self.closed = False
        self.stuck = stuck
        self.transport = self

    def write(self, octets: bytes) -> None:
        self.octets += octets

    async def drain(self) -> None:
        if self.stuck:
            await asyncio.get_running_loop().create_future()

    def close(self) -> None:
        self.closed = True

    async def wait_closed(self) -> None:
        await self.drain()

    def abort(self) -> None:
        self.closed = True


@on_clock
async def test_an_idle_connection_is_closed() -> None:
    reader, writer, task = Slow(MAPS, idle_timeout=300).connect()
    reader.feed_data(netstring("upper a"))
    await asyncio.sleep(299)
    assert (writer.octets, writer.closed) == (netstring("OK A"), False)
    await asyncio.sleep(2)
    assert writer.closed
    await task


@on_clock
async def test_a_request_that_comes_too_slowly_ends_the_connection() -> None:
    reader, writer, task = Slow(MAPS, request_timeout=10).connect()
    for octet in netstring("upper abcdef"):
        if task.done():
            break
        reader.feed_data(bytes((octet,)))
        await asyncio.sleep(1)
    assert writer.closed
    assert writer.octets == b""
    await task


@on_clock
async def test_a_client_that_reads_no_answers_is_hung_up_on() -> None:
    reader, writer, task = Slow(MAPS, request_timeout=10).connect()
    writer.stuck = True
    reader.feed_data(netstring("upper a"))
    await asyncio.sleep(11)
    assert writer.closed
    await task


@on_clock
async def test_requests_above_the_rate_are_answered_later() -> None:
    tables = Slow(MAPS, max_rate=10)
    loop = asyncio.get_running_loop()
    began = loop.time()
    (one, first, first_task), (other, second, second_task) = tables.connect(), tables.connect()
    one.feed_data(netstring("upper a") * 200)
    one.feed_eof()
    await first_task
    assert first.octets == netstring("OK A") * 200
    assert loop.time() - began == pytest.approx((200 - 100) / 10, abs=0.2)
    other.feed_data(netstring("upper a"))
    other.feed_eof()
    await second_task
    assert second.octets == netstring("OK A")
    assert loop.time() - began == pytest.approx((201 - 100) / 10, abs=0.2)


@on_clock
async def test_a_flood_of_one_connection_lets_others_have_their_turn() -> None:
    tables = Slow(MAPS, max_rate=10)
    (flood, _, flood_task), (other, answered, other_task) = tables.connect(), tables.connect()
    flood.feed_data(netstring("upper a") * 5000)
    await asyncio.sleep(100)
    other.feed_data(netstring("upper b"))
    await asyncio.sleep(1)
    assert answered.octets == netstring("OK B")
    await tables.close()
    assert flood_task.done()
    assert other_task.done()
    await asyncio.gather(flood_task, other_task)


async def test_closing_with_open_connections_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as connect:
        assert await (await connect()).ask("upper a") == "OK A"
    assert caplog.messages == []


async def test_a_task_that_others_cancel_is_cancelled() -> None:
    _, writer, task = Slow(MAPS).connect()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()
    assert writer.closed


async def test_a_unix_domain_socket_serves_as_well(tmp_path: Path) -> None:
    tables = Socketmap(MAPS)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        server = await tables.listen(listening)
        client = Client(*await asyncio.open_unix_connection(str(tmp_path / "s")))
        assert await client.ask("upper a") == "OK A"
        server.close()
        await tables.close()
        assert await client.ended()
        client.writer.close()


@pytest.mark.parametrize("option", ["max_connections", "max_rate", "idle_timeout", "request_timeout"])
def test_limits_are_above_zero(option: str) -> None:
    given: dict[str, Any] = {option: 0}
    with pytest.raises(ValueError, match="above 0"):
        Socketmap(MAPS, **given)
