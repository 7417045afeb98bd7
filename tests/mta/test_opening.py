"""Filters that listen, on loopback and on UNIX-domain sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aiomilter.addresses import parse
from aiomilter.exceptions import AddressError, RemoteProtocolError
from aiomilter.mta import connect
from aiomilter.wire.framing import FrameBuffer
from aiomilter.wire.replies import CONTINUE

from .fakes import answers


class Listener:
    """A filter that answers CONTINUE to everything, for one connection."""

    def __init__(self) -> None:
        self.codes = ""
        self.gone = asyncio.Event()
        self.answer = answers()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = FrameBuffer()
        while octets := await reader.read(65536):
            frames.feed(octets)
            while (frame := frames.next_frame()) is not None:
                self.codes += chr(frame[0])
                writer.write(self.answer(chr(frame[0]), frame[1]) or b"")
        writer.close()
        self.gone.set()


@asynccontextmanager
async def listening(**where: Any) -> AsyncIterator[tuple[Listener, Any]]:
    listener = Listener()
    start = asyncio.start_unix_server if "path" in where else asyncio.start_server
    server = await start(listener.serve, **where)
    async with server:
        yield listener, server.sockets[0].getsockname()


async def play(address: str, listener: Listener, **options: Any) -> None:
    async with connect(address, **options) as session:
        assert await session.connect() is CONTINUE
        await session.mail("<a@example.org>")
        await session.rcpt("<b@example.org>")
        result = await session.message(b"A: 1\r\n\r\nx" + b"y" * 400_000)
        assert result.delivered is not None
    await listener.gone.wait()
    assert listener.codes.replace("D", "").replace("A", "") == "OCMRTLNBBBBBBBEQ"


@pytest.mark.parametrize("style", ["postfix", "sendmail"])
@pytest.mark.parametrize(
    "form", ["inet:{port}@127.0.0.1", "inet:127.0.0.1:{port}", "inet:{port}", "inet:{port}@[127.0.0.1]"]
)
async def test_a_filter_on_a_port_is_reached_by_either_spelling(form: str, style: Any) -> None:
    async with listening(host="127.0.0.1", port=0) as (listener, name):
        await play(form.format(port=name[1]), listener, style=style)
    assert listener.codes.startswith("ODC")


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="no IPv6 here")
@pytest.mark.parametrize("form", ["inet6:{port}@::1", "inet6:{port}"])
async def test_a_filter_on_an_ipv6_port_is_reached(form: str) -> None:
    async with listening(host="::1", port=0) as (listener, name):
        await play(form.format(port=name[1]), listener)
    assert listener.codes.startswith("ODC")


@pytest.mark.parametrize("form", ["unix:{path}", "local:{path}", "{path}"])
async def test_a_filter_on_a_path_is_reached(form: str, tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with listening(path=path) as (listener, _):
        await play(form.format(path=path), listener)
    assert listener.codes.startswith("ODC")


async def test_an_exception_in_the_block_closes_without_quit() -> None:
    async with listening(host="127.0.0.1", port=0) as (listener, name):
        with pytest.raises(AddressError):  # noqa: PT012
            async with connect(f"inet:{name[1]}@127.0.0.1") as session:
                await session.connect()
                parse("none of ours")
        await listener.gone.wait()

    assert listener.codes == "ODC"


async def test_a_filter_that_breaks_the_protocol_is_left() -> None:
    async with listening(host="127.0.0.1", port=0) as (listener, name):
        listener.answer = answers(opening=b"\0\0\0\0")
        with pytest.raises(RemoteProtocolError):
            async with connect(f"inet:{name[1]}@127.0.0.1"):
                pass
        await listener.gone.wait()

    assert listener.codes == "O"


async def test_what_leaves_before_quit_is_no_error() -> None:
    async with listening(host="127.0.0.1", port=0) as (listener, name):
        async with connect(f"inet:{name[1]}@127.0.0.1") as session:
            await session.close()
        await listener.gone.wait()
    assert listener.codes == "O"


async def test_nobody_listening_is_an_os_error(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            async with connect(f"inet:{bound.getsockname()[1]}@127.0.0.1"):
                pass
    with pytest.raises(FileNotFoundError):
        async with connect(f"unix:{tmp_path}/none"):
            pass


async def test_an_inherited_socket_cannot_be_connected_to() -> None:
    with pytest.raises(AddressError, match="fd:3"):
        async with connect("fd:3"):
            pass


async def test_no_answer_to_the_connection_in_time_is_a_timeout() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen(1)
        with pytest.raises(TimeoutError, match="inet:"):
            async with connect(f"inet:{bound.getsockname()[1]}@127.0.0.1", timeout=0.0):
                pass
