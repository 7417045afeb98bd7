"""A message is sent and an answer read at the same time."""

import socket
from collections.abc import AsyncIterator

import pytest

from aiomilter.scan._exchange import Answer, Request, exchange
from aiomilter.scan._trouble import TooLarge


async def pieces() -> AsyncIterator[bytes]:
    yield b"a"
    yield b"b"


async def test_an_answer_is_read_although_writing_fails_before() -> None:
    """The other side answers and hangs up at the last moment before octets are sent."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    def answer_first(octets: bytes) -> bytes:
        theirs.sendall(b"too large\0")
        theirs.close()
        return octets

    async def parse(answer: Answer) -> None:
        raise TooLarge((await answer.until(b"\0")).decode())

    with ours, theirs, pytest.raises(TooLarge, match="too large"):
        await exchange(ours, Request(b"begin", answer_first), pieces(), parse, 100)
