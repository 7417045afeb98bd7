"""The HTTP listener: its address, who may connect, and what it does with clients that are no friends."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from aiomilter._serving import status
from aiomilter._serving.binding import Bound
from aiomilter._serving.feed import Feed, Report, Reporter
from aiomilter._serving.status import StatusListener, web
from aiomilter._serving.status_address import bind_status, parse_status
from aiomilter.exceptions import AddressError
from aiomilter.observe import ConnectionRefused, InternalError, Lifecycle, ObserverEvent

GET = b"GET /sum HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def routes(feed: Feed) -> web.Application:
    """Show the sums, fail, or wait."""

    async def sums(_: web.Request) -> web.Response:
        return web.json_response({" ".join(key): value for key, value in feed.snapshot().items()})

    async def fails(_: web.Request) -> web.Response:
        raise ZeroDivisionError("on purpose")

    async def waits(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    application = web.Application()
    for path, handler in (("/sum", sums), ("/fails", fails), ("/waits", waits)):
        application.router.add_get(path, handler)
    return application


class Listening:
    """A listener, what it has told, and its feed."""

    def __init__(self, bound: list[Bound], allow: list[str] | None) -> None:
        self.told: list[ObserverEvent] = []
        self.feed = Feed()
        self.port: int = bound[0].socket.getsockname()[1]
        self.path: str | None = bound[0].path
        self.listener = StatusListener(bound, routes, self.feed, self.told.append, allow)

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.path is not None:
            return await asyncio.open_unix_connection(self.path)
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, octets: bytes) -> bytes:
        """Send octets, and return what comes until the connection ends; b"" if it was closed at once."""
        reader, writer = await self.open()
        try:
            writer.write(octets)
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


@asynccontextmanager
async def listening(text: str = "127.0.0.1:0", allow: list[str] | None = None) -> AsyncIterator[Listening]:
    it = Listening(bind_status(text, allow), allow)
    await it.listener.start()
    try:
        yield it
    finally:
        await it.listener.close()


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("127.0.0.1:9464", "inet:9464@127.0.0.1"),
        ("localhost:9464", "inet:9464@localhost"),
        ("[::1]:9464", "inet6:9464@[::1]"),
        ("unix:/run/aiomilter/http.sock", "unix:/run/aiomilter/http.sock"),
        ("/run/http.sock", "unix:/run/http.sock"),
        ("inet:9464@127.0.0.1", "inet:9464@127.0.0.1"),
        ("inet:127.0.0.1:9464", "inet:9464@127.0.0.1"),
    ],
)
def test_addresses_are_written_as_everywhere(text: str, where: str) -> None:
    assert str(parse_status(text)) == where


@pytest.mark.parametrize(
    "text",
    ["", "9464", ":9464", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "fd:3", "::1:9464", "http://127.0.0.1:9464", "a b:1",
     "9464@127.0.0.1", "unix:relative", "127.0.0.1:0\r\n", "x" * 5000],
)  # fmt: skip
def test_what_is_no_address_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_status(text)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["0.0.0.0:0", "inet:0", "[::]:0"])
def test_other_hosts_reach_it_only_where_networks_are_given(text: str) -> None:
    with pytest.raises(AddressError, match="other hosts would reach it; give --metrics-allow"):
        bind_status(text, None, option="--metrics-allow")
    for bound in bind_status(text, ["192.0.2.0/24"]):
        bound.close()


def test_networks_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^metrics_allow: .* does not appear to be"):
        bind_status("127.0.0.1:0", ["example.com"], option="metrics_allow")


async def test_a_route_shows_what_the_feed_has() -> None:
    async with listening() as it:
        reporter = Reporter(it.feed.take)
        reporter.add(lambda: Report({("messages", "accept"): 3}))
        reporter.report()
        answer = await it.ask(GET)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'{"messages accept": 3}')
    assert [type(event) for event in it.told] == [Lifecycle, Lifecycle]


async def test_it_listens_on_a_unix_socket_and_removes_its_file(tmp_path: Path) -> None:
    path = tmp_path / "http"
    async with listening(f"unix:{path}") as it:
        assert (await it.ask(GET)).startswith(b"HTTP/1.1 200 ")
    assert not path.exists()


async def test_a_network_that_is_not_allowed_is_closed_before_it_says_anything() -> None:
    async with listening("127.0.0.1:0", ["192.0.2.0/24"]) as it:
        assert await it.ask(GET) == b""
        (refused,) = [event for event in it.told if isinstance(event, ConnectionRefused)]
    assert refused.what == "a connection for HTTP was closed: 127.0.0.1 is not allowed"
    async with listening("127.0.0.1:0", ["127.0.0.0/8"]) as it:
        assert await it.ask(GET) != b""


async def test_a_route_that_fails_is_reported_and_the_next_request_is_answered() -> None:
    async with listening() as it:
        assert (await it.ask(GET.replace(b"/sum", b"/fails"))).startswith(b"HTTP/1.1 500 ")
        assert (await it.ask(GET)).startswith(b"HTTP/1.1 200 ")
    (event,) = [event for event in it.told if isinstance(event, InternalError)]
    assert event.what == "a page failed: ZeroDivisionError: on purpose"


@pytest.mark.parametrize(
    "octets",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET \x00\xff HTTP/1.1\r\n\r\n",
        b"GET /sum HTTP/1.1\r\n" + b"a: b\r\n" * 2000 + b"\r\n",
        b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\n\r\n",
        b"POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"QUIT\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_answered_and_not_logged(octets: bytes) -> None:
    async with listening() as it:
        assert (await it.ask(octets)).startswith(b"HTTP/1.0 400 ")
        assert (await it.ask(GET)).startswith(b"HTTP/1.1 200 ")
    assert [type(event) for event in it.told] == [Lifecycle, Lifecycle]


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop turn until something is so."""
    async with asyncio.timeout(300):
        while not condition():
            await asyncio.sleep(0)


async def test_more_connections_than_there_may_be_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_MOST_CONNECTIONS", 3)
    async with listening() as it:
        held = [await it.open() for _ in range(3)]
        await until(lambda: it.listener.connections == 3)
        assert await it.ask(GET) == b""
        held.pop()[1].close()
        await until(lambda: it.listener.connections == 2)
        assert (await it.ask(GET)).startswith(b"HTTP/1.1 200 ")
        for _, writer in held:
            writer.close()


async def test_a_connection_that_asks_for_nothing_is_closed_and_one_that_waits_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status, "_IDLE_TIMEOUT", 0.02)
    monkeypatch.setattr(status, "_SHUTDOWN_TIMEOUT", 0.01)
    async with listening() as it:
        silent, writer = await it.open()
        slow, other = await it.open()
        other.write(b"GET /su")
        waiting, third = await it.open()
        third.write(GET.replace(b"/sum", b"/waits"))
        with closing(writer), closing(other), closing(third):
            assert await silent.read() == b""
            assert await slow.read() == b""
            assert it.listener.connections == 1
            assert not waiting.at_eof()
