import asyncio
import json
from typing import Any

from aiomilter import CONTINUE, Reply
from aiomilter.mta import Style, connect
from aiomilter.testing import session
from tests.filters.counting_service import Counting, State, service

MESSAGE = b"Subject: hi\r\n\r\nHello\r\n"


async def test_messages_are_counted_by_what_became_of_them(mta: Style) -> None:
    state = State(blocked={"spam@x.example"})
    async with session(lambda: Counting(state), mta=mta) as s:
        assert await s.mail("<Spam@x.example>") == Reply(550, "5.7.1", "Blocked by its recipient")
        for _ in range(2):
            await s.mail("<a@x.example>")
            await s.rcpt("<b@example.org>")
            await s.message(MESSAGE)
        await s.mail("<a@x.example>")
        await s.abort()

    assert state.counts == {"refused": 1, "passed": 2, "broken off": 1}


async def test_the_web_shows_what_the_filter_saw(mta: Style) -> None:
    async def get(port: int) -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        assert head.startswith(b"HTTP/1.0 200 OK")
        return json.loads(body)

    state = State()
    async with service(state, "inet:0@127.0.0.1", "127.0.0.1", 0) as (milter, port):
        assert await get(port) == {}
        async with connect(milter, style=mta) as s:
            await s.connect()
            await s.helo()
            await s.mail("<a@x.example>")
            await s.rcpt("<b@example.org>")
            await s.message(MESSAGE)
            state.blocked.add("a@x.example")
            refused = await s.mail("<a@x.example>")
        assert refused != CONTINUE
        assert await get(port) == {"passed": 1, "refused": 1}
