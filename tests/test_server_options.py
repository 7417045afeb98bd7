"""A server that is given other options while it serves: new connections have them, and limits hold for all at once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aiomilter import (
    CONTINUE,
    TEMPFAIL,
    Context,
    EndOfMessageContext,
    Milter,
    Rcpt,
    RemoteProtocolError,
    Server,
    serve,
)
from aiomilter._serving.admission import ConnectionLimits
from aiomilter._serving.memory import MemoryLimit
from aiomilter.mta import Session, connect
from aiomilter.options import Options


class Asked(Milter):
    """Answers each recipient."""

    async def connect(self, ctx: Context, connect: object) -> None: ...

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> None: ...


@asynccontextmanager
async def session(server: Server) -> AsyncIterator[tuple[Session, Any]]:
    """Connect, and yield the session with the answer."""
    async with connect(server.addresses[0]) as mta:
        yield mta, await mta.connect()


async def taken(mta: Session) -> int:
    """Return how many of three recipients are taken."""
    await mta.helo()
    await mta.mail("<a@x.example>")
    return [await mta.rcpt(f"<b{number}@x.example>") for number in range(3)].count(CONTINUE)


async def test_new_connections_have_the_new_options_and_open_ones_keep_theirs() -> None:
    async with serve(Asked, "inet:0@127.0.0.1", max_recipients=1) as server, session(server) as (before, _):
        server.take(Options(max_recipients=2))
        async with session(server) as (after, _):
            assert (await taken(before), await taken(after)) == (1, 2)


async def test_the_limit_on_connections_counts_those_that_are_open() -> None:
    async with serve(Asked, "inet:0@127.0.0.1", max_connections=1) as server, session(server):
        async with session(server) as (_, answer):
            assert answer is TEMPFAIL
        server.take(Options(max_connections=2))
        async with session(server) as (_, answer):
            assert answer is CONTINUE
            async with session(server) as (_, third):
                assert third is TEMPFAIL


async def test_access_is_that_of_the_new_options() -> None:
    async with serve(Asked, "inet:0@127.0.0.1") as server:
        server.take(Options(allowed_networks=["192.0.2.1"]))
        with pytest.raises((RemoteProtocolError, ConnectionError)):
            async with session(server):
                pytest.fail("let in")
        server.take(Options(allowed_networks=["127.0.0.1"]))
        async with session(server) as (_, answer):
            assert answer is CONTINUE


async def test_what_looks_for_idle_connections_and_stalls_is_replaced() -> None:
    async with serve(Asked, "inet:0@127.0.0.1", stall_timeout=None) as server:
        before = server._timeouts
        server.take(Options(idle_timeout=5, drain_timeout=7, cancel_timeout=3))
        assert (before.active, server._timeouts.active) == (False, True)
        assert server._timeouts._idle_timeout == 5
        assert (server.drain_timeout, server._lifespans.cancel_timeout) == (7, 3)
        assert server._unwatch is not None
        server.take(Options(stall_timeout=None))
        assert server._unwatch is None


async def test_tls_handshakes_have_their_part_of_the_new_memory() -> None:
    async with serve(Asked, "inet:0@127.0.0.1") as server:
        server.take(Options(max_memory=3, packet_timeout=2))
        handshakes = server._transports.handshakes
        assert handshakes is not None
        assert (handshakes.most, handshakes._patience) == (1, 2)


class Editor(Milter):
    """Makes two edits."""

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-One", "1")
        ctx.add_header("X-Two", "2")


async def test_the_limits_on_edits_are_the_new_ones_without_a_reload() -> None:
    async with serve(Editor, "inet:0@127.0.0.1") as server:
        answers = []
        for _ in range(2):
            async with connect(server.addresses[0]) as mta:
                answers.append((await mta.send(b"Subject: x\r\n\r\nhi\r\n", "<a@x.example>", "<b@x.example>")).answer)
            server.take(Options(max_edits=1))
        assert answers == [CONTINUE, TEMPFAIL]


def test_a_server_that_has_not_started_takes_options_for_its_start() -> None:
    server = serve(Asked, "inet:0@127.0.0.1")
    server.take(Options(idle_timeout=5))
    assert server._unwatch is None
    assert not server._timeouts.active
    assert server._timeouts._idle_timeout == 5


class Reader:
    def __init__(self) -> None:
        self.went_on = 0

    def relieved(self) -> None:
        self.went_on += 1


def test_a_larger_memory_lets_paused_connections_go_on_and_a_smaller_one_is_full() -> None:
    reported: list[int] = []
    memory = MemoryLimit(100, None, lambda limit, number, what: reported.append(number))
    reader = Reader()
    memory.change(100)
    memory.hold(reader)
    memory.limit(1000, None)
    assert (memory.full, memory.busy, reader.went_on) == (False, False, 1)
    memory.limit(50, None)
    assert (memory.full, memory.busy, reported) == (True, True, [100, 50])


def test_a_limit_on_messages_can_be_set_and_taken_away() -> None:
    memory = MemoryLimit(100, None, lambda limit, number, what: None)
    assert memory.begin("a")
    memory.limit(100, 1)
    assert (memory.busy, memory.begin("b"), memory.begin("c")) == (True, True, False)
    memory.limit(100, None)
    assert (memory.busy, memory.begin("c")) == (False, True)


def test_connections_of_a_peer_are_counted_from_when_they_are_limited() -> None:
    limits = ConnectionLimits(10, None, 10, lambda limit, number, what: None)
    assert limits.enter(1, "")
    limits.limit(10, 1, 10)
    assert limits.counts_peers
    assert limits.enter(2, "192.0.2.1")
    assert not limits.enter(3, "192.0.2.1")
    limits.limit(10, None, 10)
    for number in (1, 2, 3):
        limits.leave(number)
    assert not limits.at_peer_limit("192.0.2.1")
