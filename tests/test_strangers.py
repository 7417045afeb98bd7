"""Peers that are no MTAs: each record says who it was, nothing that was sent, and a flood of any kind is a few lines."""

import asyncio
import contextlib
import logging
import os
import re
import socket
import ssl
import struct
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
import uvloop

from aiomilter import serve
from aiomilter.observe import SERVER, Where
from aiomilter.observe.log import LogObserver
from aiomilter.observe.seldom import Seldom
from aiomilter.server import Server
from aiomilter.wire.constants import Command
from aiomilter.wire.framing import packet

from .clock import on_clock
from .patience import PATIENCE
from .peer import DATA, EOM, MESSAGE, OPENING, QUIT, Peer, filter_class, header, mail, offer, rcpt, serving

LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
SECRET: Final = "hunter2"
"""What a peer sends, and no record holds."""
TIMES: Final = 20


class Clock:
    """Seconds, as a test has them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Records(logging.Handler):
    """All that is logged at INFO and above, by anybody."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.extras: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")
        self.extras.append(vars(record))

    def about_peers(self) -> list[str]:
        return [line for line in self.lines if "listening" not in line]


@pytest.fixture
def records() -> Iterator[Records]:
    found = Records()
    root = logging.getLogger()
    level = root.level
    root.addHandler(found)
    root.setLevel(logging.INFO)
    yield found
    root.setLevel(level)
    root.removeHandler(found)


# Over real sockets

Attack: TypeAlias = Callable[[socket.socket], Awaitable[None]]


async def hang_up(sock: socket.socket) -> None:
    """Wait until the filter closes, and close."""
    loop = asyncio.get_running_loop()
    try:
        while await loop.sock_recv(sock, 4096):
            pass
    except ConnectionError:
        pass
    sock.close()


def says(octets: bytes) -> Attack:
    async def attack(sock: socket.socket) -> None:
        with contextlib.suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(sock, octets)
        await hang_up(sock)

    return attack


async def resets(sock: socket.socket) -> None:
    """End with a reset, in the middle of a packet."""
    await asyncio.get_running_loop().sock_sendall(sock, OPENING + mail() + rcpt()[:10])
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def leaves(sock: socket.socket) -> None:
    sock.close()


async def half(sock: socket.socket) -> None:
    """End in the middle of a packet."""
    await asyncio.get_running_loop().sock_sendall(sock, offer()[:7])
    sock.close()


@dataclass(frozen=True)
class Stranger:
    """A row.

    Args:
        name: What they do.
        attack: Does it, on a connection.
        said: The one record, ``{}`` for the port; "" for none at all.
        options: Of the server.
        tls: Whether it speaks TLS.
        messages: Whether each also brings a message, with its line.
    """

    name: str
    attack: Attack
    said: str
    options: dict[str, Any] = field(default_factory=dict)
    tls: bool = False
    messages: bool = False


def speaks(name: str, octets: bytes) -> Stranger:
    return Stranger(name, says(octets), f"peer='127.0.0.1:{{}}': speaks {name}, not the milter protocol")


SESSION: Final = "peer='127.0.0.1:{}' client='192.0.2.1' queue_id=None"
HELLO: Final = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + SECRET.encode()
STRANGERS: Final = (
    speaks("HTTP", f"GET /{SECRET} HTTP/1.0\r\n\r\n".encode()),
    speaks("SMTP", f"EHLO {SECRET}\r\n".encode()),
    speaks("TLS", HELLO),
    speaks("SSH", f"SSH-2.0-{SECRET}\r\n".encode()),
    speaks("the PROXY protocol", f"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n{SECRET}".encode() + OPENING),
    speaks("the protocol of Redis", f"*1\r\n$7\r\n{SECRET}\r\n".encode()),
    Stranger(
        "garbage",
        says(b"\xff" * 100),
        "peer='127.0.0.1:{}': frame: expected a length of 1 to 65536, found 4294967295",
    ),
    Stranger(
        "no offer",
        says(packet(ord("x"), SECRET.encode())),
        "peer='127.0.0.1:{}': expected OPTNEG as the first packet, found code 0x78",
    ),
    Stranger(
        "an old version",
        says(offer(version=1)),
        "peer='127.0.0.1:{}': OPTNEG packet: expected version 2 or later, found 1",
    ),
    Stranger(
        "a large packet",
        says(OPENING + packet(Command.HEADER, SECRET.encode() * 20_000, 1 << 20)),
        f"{SESSION} helo: frame: expected a length of 1 to 65536, found 140001",
    ),
    Stranger(
        "a broken packet",
        says(OPENING + mail() + rcpt() + packet(Command.HEADER, SECRET.encode())),
        f"{SESSION} envrcpt: HEADER packet: expected name and value, each ending in NUL, found less",
        messages=True,
    ),
    Stranger(
        "no order",
        says(OPENING + rcpt(f"<{SECRET}@x>") + QUIT),
        f"{SESSION} helo: RCPT came outside a message; answered continue",
    ),
    Stranger(
        "endless recipients",
        says(OPENING + mail() + rcpt() * 9 + QUIT),
        f"{SESSION} envrcpt: more than 2 recipients (--max-recipients)",
        {"max_recipients": 2},
        messages=True,
    ),
    Stranger(
        "endless header fields",
        says(OPENING + mail() + rcpt() + DATA + header("X", SECRET) * 9 + EOM + QUIT),
        f"{SESSION} header: more than 2 header fields (--max-headers)",
        {"max_headers": 2},
        messages=True,
    ),
    Stranger(
        "another network",
        hang_up,
        "a connection was closed: 127.0.0.1 is not in allowed_networks (--allow-network), peer='127.0.0.1:{}'",
        {"allowed_networks": ("192.0.2.1",)},
    ),
    Stranger("half a packet", half, ""),
    Stranger("nothing", leaves, ""),
    Stranger("a reset", resets, "", messages=True),
    Stranger(
        "plain HTTP",
        says(f"GET /{SECRET} HTTP/1.0\r\n\r\n".encode()),
        "peer='127.0.0.1:{}': speaks HTTP, not TLS",
        tls=True,
    ),
    Stranger(
        "the milter protocol without TLS",
        says(OPENING),
        "peer='127.0.0.1:{}': speaks the milter protocol, not TLS",
        tls=True,
    ),
    Stranger(
        "broken TLS", says(b"\x16\x03\x01\0\x05hello"), "peer='127.0.0.1:{}': a new connection is lost: ", tls=True
    ),
    Stranger(
        "garbage for TLS", says(b"\xff" * 100), "peer='127.0.0.1:{}': a new connection is lost: TLS failed: ", tls=True
    ),
    Stranger("nothing for TLS", leaves, "peer='127.0.0.1:{}': a new connection is lost: ", tls=True),
)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """Of a server, with a certificate of its own."""
    pem = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=server"
    subprocess.run([*command.split(), "-keyout", pem, "-out", f"{pem}.crt"], check=True, capture_output=True)
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(f"{pem}.crt", pem)
    return found


async def flood(server: Server, attack: Attack, times: int) -> list[int]:
    """Have one stranger come after the other, and return their ports."""
    ports = []
    where = ("127.0.0.1", int(server.addresses[0].removeprefix("inet:").partition("@")[0]))
    for _ in range(times):
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, where)
        ports.append(sock.getsockname()[1])
        await attack(sock)
    while server._connections or server._transports.pending:
        await asyncio.sleep(0)
    return ports


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda stranger: stranger.name)
def test_twenty_in_a_row_are_one_record_that_says_who_and_what(
    loop: str, stranger: Stranger, context: ssl.SSLContext, clock: Clock, records: Records
) -> None:
    """And after a minute another, with how many there were meanwhile."""
    options: dict[str, Any] = {**stranger.options, "ssl": context if stranger.tls else None}

    async def main() -> None:
        observer = LogObserver(time=clock)
        async with (
            asyncio.timeout(PATIENCE),
            serve(filter_class(), "inet:0@127.0.0.1", observer=observer, **options) as server,
        ):
            first, *_ = await flood(server, stranger.attack, TIMES)
            lines = [line for line in records.about_peers() if not line.startswith("INFO client=")]
            assert len(lines) == bool(stranger.said), lines
            assert not lines or lines[0].startswith(f"WARNING {stranger.said.format(first)}")
            clock.now += 60
            (last,) = await flood(server, stranger.attack, 1)
            lines = [line for line in records.about_peers() if not line.startswith("INFO client=")]
            assert len(lines) == 2 * bool(stranger.said)
            assert not lines or re.search(
                rf"{stranger.said.format(last)[:20]}.*\(and 19 more like this before\)", lines[1]
            )

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())
    assert len(records.about_peers()) == 2 * bool(stranger.said) + (TIMES + 1) * stranger.messages
    assert not any(SECRET in line for line in records.lines)
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+", extra["peer"]) for extra in records.extras if extra.get("peer"))


# Those that take their time


async def nothing(peer: Peer) -> None:
    """Say nothing."""


async def half_a_packet(peer: Peer) -> None:
    peer.write(offer()[:7])


async def no_more(peer: Peer) -> None:
    peer.write(OPENING)


async def reads_nothing(peer: Peer) -> None:
    await peer.send(OPENING)
    peer.protocol.pause_writing()


async def reads_nothing_and_goes_on(peer: Peer) -> None:
    await reads_nothing(peer)
    peer.write(mail() + rcpt() * 501)


SLOW: Final[list[tuple[Callable[[Peer], Awaitable[None]], str]]] = [
    (nothing, "a connection sent nothing within 20 s, as a mail client that waits for a greeting would; closing"),
    (half_a_packet, "a connection sent no complete packet within 20 s; closing"),
    (no_more, "a connection sent no packet for 40 s; closing"),
    (reads_nothing, "the MTA read nothing for 30 s; closing"),
    (reads_nothing_and_goes_on, "the MTA read nothing for 30 s; closing"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("take_time", "said"), SLOW, ids=lambda value: getattr(value, "__name__", ""))
def test_a_crowd_that_takes_its_time_is_one_record(
    take_time: Callable[[Peer], Awaitable[None]], said: str, records: Records, clock: Clock
) -> None:
    @on_clock
    async def main() -> None:
        options = {"packet_timeout": 20, "idle_timeout": 40, "write_timeout": 30}
        async with serving(filter_class(), observer=LogObserver(time=clock), **options) as scene:
            peers = [scene.peer() for _ in range(TIMES)]
            for number, peer in enumerate(peers):
                peer.protocol.peer = f"192.0.2.9:{number}"
                await take_time(peer)
            while not all(peer.wire.lost for peer in peers):
                await asyncio.sleep(1)

    main()
    lines = [line for line in records.lines if not line.startswith("INFO client=")]
    assert all(line.startswith("WARNING peer='192.0.2.9:") for line in lines)
    assert len([line for line in lines if said in line]) == 1
    assert len(lines) == 1


def test_more_than_there_may_be_are_a_record_a_limit(clock: Clock, records: Records) -> None:
    options: dict[str, Any] = {"max_connections": 2, "max_connections_per_peer": 1, "max_refused_connections": 1}

    async def main() -> None:
        observer = LogObserver(time=clock)
        async with (
            asyncio.timeout(PATIENCE),
            serve(filter_class(), "inet:0@127.0.0.1", observer=observer, **options) as server,
        ):
            where = ("127.0.0.1", int(server.addresses[0].removeprefix("inet:").partition("@")[0]))
            waiting = []
            for number in range(9):
                waiting.append(socket.create_connection(where))
                while number < 2 and len(server._connections) <= number:
                    await asyncio.sleep(0)
            while not any("closing connections" in line for line in records.lines):
                await asyncio.sleep(0)
            for sock in waiting:
                sock.close()

    asyncio.run(main())
    lines = records.about_peers()
    assert [re.sub(r"\d{4,5}", "N", line) for line in lines] == [
        "WARNING 1 connections of 127.0.0.1 are open; answering TEMPFAIL to more of it (--max-connections-per-peer), "
        "peer='127.0.0.1:N'",
        "WARNING closing connections of 127.0.0.1: 1 are refused already (--max-refused-connections), peer='127.0.0.1:N'",
    ]


# Who it was


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="this system does not report the users of peers")
@pytest.mark.parametrize("loop", LOOPS)
def test_of_a_unix_socket_the_user_and_the_process_are_named(loop: str, tmp_path: Path, records: Records) -> None:
    async def main() -> None:
        path = str(tmp_path / "x.sock")
        async with asyncio.timeout(PATIENCE), serve(filter_class(), path) as server:
            for octets in (b"QUIT\r\n", OPENING + MESSAGE + QUIT):
                _, writer = await asyncio.open_unix_connection(path)
                writer.write(octets)
                while not server._connections:
                    await asyncio.sleep(0)
                while server._connections:
                    await asyncio.sleep(0)
                writer.close()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())
    who = f"uid {os.geteuid()} pid {os.getpid()}"
    stranger, message = [line for line in records.about_peers() if "may connect" not in line]
    assert stranger == f"WARNING peer='{who}': speaks SMTP, not the milter protocol"
    assert message.endswith(f" peer='{who}'")


@pytest.mark.parametrize("loop", LOOPS)
def test_the_line_of_a_message_says_which_mta_brought_it(loop: str, records: Records) -> None:
    ports: list[int] = []

    async def main() -> None:
        async with asyncio.timeout(PATIENCE), serve(filter_class(), "inet:0@127.0.0.1", "inet6:0@::1") as server:
            for address in server.addresses:
                port, _, host = address.partition(":")[2].partition("@")
                reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
                writer.write(OPENING + MESSAGE + QUIT)
                await reader.read()
                ports.append(writer.get_extra_info("sockname")[1])
                writer.close()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())
    one, two = (line for line in records.lines if line.startswith("INFO client="))
    assert one.endswith(f" peer='127.0.0.1:{ports[0]}'")
    assert two.endswith(f" peer='[::1]:{ports[1]}'")
    assert records.extras[-3]["peer"] == f"[::1]:{ports[1]}"


async def test_without_a_socket_nobody_is_named(records: Records) -> None:
    async with serving(filter_class(), observer=LogObserver()) as scene:
        peer = await scene.opened()
        await peer.send(MESSAGE)
    assert not any("peer=" in line for line in records.lines)


# Once a minute


def test_a_kind_is_said_once_a_minute_with_how_many_were_left_out() -> None:
    clock = Clock()
    said: list[tuple[Where, str]] = []
    seldom = Seldom[tuple[str, Where]](lambda event, more: said.append((event[1], event[0] + more)), clock)
    here, there = Where(1, "", "", None, "192.0.2.1:1"), Where(2, "", "", None, "192.0.2.1:2")

    def say(kind: str, what: str, where: Where = SERVER) -> None:
        seldom(kind, (what, where))

    say("a", "one", here)
    say("a", "two", there)
    say("b", "three")
    clock.now += 59.9
    say("a", "four", there)
    clock.now += 0.1
    say("a", "five", there)
    clock.now += 60
    say("a", "six", here)
    assert said == [
        (here, "one"),
        (SERVER, "three"),
        (there, "five (and 2 more like this before)"),
        (here, "six"),
    ]
