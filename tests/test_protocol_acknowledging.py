"""Octets that are not answered are acknowledged at once over TCP: the MTA may wait for that before it writes the next."""

import asyncio
import socket
from struct import pack
from typing import Any

import pytest

from aiomilter import Context, Helo, Milter
from aiomilter._connection.dispatch import DispatchTables
from aiomilter._connection.transport import MilterProtocol
from aiomilter._serving.memory import MemoryLimit
from aiomilter.observe.guard import Guard
from aiomilter.observe.log import LogObserver
from aiomilter.options import Options
from aiomilter.wire.constants import Command
from aiomilter.wire.framing import packet

OFFER = packet(Command.OPTNEG, pack(">III", 6, 0x1FF, 0x1FFFFF))
CONNECT = packet(Command.CONNECT, b"x\x00U")
HELO = packet(Command.HELO, b"x\x00")


class FakeSocket:
    def __init__(self, family: socket.AddressFamily) -> None:
        self.family = family
        self.calls: list[str] = []

    def setsockopt(self, level: int, option: int, value: int) -> None:
        assert (level, option, value) == (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self.calls.append("acknowledged")


class FakeTransport(asyncio.Transport):
    def __init__(self, sock: FakeSocket) -> None:
        super().__init__({"socket": sock})
        self.sock = sock

    def write(self, data: Any) -> None:
        self.sock.calls.append("answer")

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        pass


class Slow(Milter):
    async def helo(self, ctx: Context, helo: Helo) -> None:
        await asyncio.sleep(0)


async def calls(family: socket.AddressFamily, *reads: bytes, filter_: type[Milter] = Milter) -> list[str]:
    """Return what was done for what was read, in its order."""
    sock = FakeSocket(family)
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    options = Options()
    protocol = MilterProtocol(
        loop,
        filter_,
        DispatchTables(options),
        options,
        Guard(LogObserver()),
        1,
        ended.set_result,
        MemoryLimit(1 << 20, None, print),
    )

    def finish() -> None:
        if protocol.waiting:
            loop.call_soon(finish)
        else:
            protocol.connection_lost(None)

    def play() -> None:
        protocol.connection_made(FakeTransport(sock))
        for octets in (OFFER, *reads):
            protocol.data_received(octets)
            sock.calls.append("|")
        finish()

    loop.call_soon(play)
    await ended
    return " ".join(sock.calls).split("|")


pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="the system has no TCP_QUICKACK")


MACROS = packet(Command.MACRO, b"Cj\0mx\0")
POSTFIX = packet(Command.MACRO, b"Cv\0Postfix 3.7.11\0")


@pytest.mark.parametrize("macros", [MACROS, POSTFIX])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
async def test_what_is_not_answered_is_acknowledged(family: socket.AddressFamily, macros: bytes) -> None:
    done = await calls(family, macros, CONNECT, macros + HELO, HELO[:3], HELO[3:])
    assert [each.split() for each in done] == [
        ["answer"],
        ["acknowledged"],
        ["answer"],
        ["answer"],
        ["acknowledged"],
        ["answer"],
        [],
    ]


async def test_what_a_callback_lets_wait_is_acknowledged() -> None:
    """It may be one that answers nothing, and the MTA go on."""
    done = await calls(socket.AF_INET, HELO, MACROS, filter_=Slow)
    assert [each.split() for each in done] == [["answer"], ["acknowledged"], ["acknowledged"], ["answer"]]


async def test_a_unix_socket_has_nothing_to_acknowledge() -> None:
    done = await calls(socket.AF_UNIX, MACROS, CONNECT, MACROS)
    assert "acknowledged" not in "".join(done)
