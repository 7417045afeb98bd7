"""Octets from Sendmail over TCP are acknowledged at once: it waits for that between two packets of a step."""

import asyncio
import socket
from struct import pack
from typing import Any

import pytest

from aiomilter import Milter
from aiomilter._budget import Budget
from aiomilter._protocol import MilterProtocol
from aiomilter._standby import Spare
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
        self.calls: list[tuple[int, int, int]] = []

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.calls.append((level, option, value))


class FakeTransport(asyncio.Transport):
    def __init__(self, sock: FakeSocket) -> None:
        super().__init__({"socket": sock})

    def write(self, data: Any) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        pass


async def calls(family: socket.AddressFamily, macros: bytes) -> int:
    sock = FakeSocket(family)
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    protocol = MilterProtocol(
        loop, Milter, Options(), Guard(LogObserver()), 1, ended.set_result, Budget(1 << 20, None, print), Spare()
    )

    def play() -> None:
        protocol.connection_made(FakeTransport(sock))
        for octets in (OFFER, packet(Command.MACRO, b"C" + macros) + CONNECT, HELO, HELO):
            protocol.data_received(octets)
        protocol.connection_lost(None)

    loop.call_soon(play)
    await ended
    assert all(call == (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1) for call in sock.calls)
    return len(sock.calls)


pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="the system has no TCP_QUICKACK")


async def test_sendmail_is_acknowledged_at_once_all_the_time() -> None:
    assert await calls(socket.AF_INET, b"j\0mx\0") == 4


async def test_postfix_is_left_alone_once_it_is_known() -> None:
    assert await calls(socket.AF_INET6, b"v\0Postfix 3.7.11\0") == 2


async def test_a_unix_socket_has_nothing_to_acknowledge() -> None:
    assert await calls(socket.AF_UNIX, b"j\0mx\0") == 0
