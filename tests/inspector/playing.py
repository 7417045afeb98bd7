"""Messages played to a filter in memory, and recorded."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiomilter import mta
from aiomilter.inspector.store import Store
from aiomilter.options import Options
from aiomilter.server import Factory
from aiomilter.testing._memory import MemoryServer
from aiomilter.wire.constants import Stage
from aiomilter.wire.replies import PASSING

MESSAGE: Final = b"Subject: hello\r\nFrom: alice@example.org\r\n\r\nHello Bob\r\n"
MACROS: Final = {Stage.CONNECT: {"v": "Postfix 3.7.11", "j": "mx.example.org"}}


@asynccontextmanager
async def session(store: Store, factory: Factory, **options: Any) -> AsyncIterator[mta.Session]:
    """Play an SMTP session, up to HELO, to a filter that is recorded."""
    async with MemoryServer(factory, Options(observer=store, **options), store.connection_factory) as server:
        played = mta.Session(*server.connect(), macros=MACROS)
        try:
            await played.negotiate()
            await played.connect("client.example", "192.0.2.7")
            if played.decided is None:
                await played.helo("client.example")
            yield played
            await played.quit()
        finally:
            await played.close()


async def send(played: mta.Session, octets: bytes = MESSAGE, *recipients: str) -> None:
    """Play a message."""
    if await played.mail("<alice@example.org>", "SIZE=10") in PASSING:
        for recipient in recipients or ("<bob@example.net>",):
            await played.rcpt(recipient)
    await played.message(octets)


async def play(factory: Factory, octets: bytes = MESSAGE, *recipients: str, **options: Any) -> Store:
    """Play one message, and return the store that has it."""
    store = Store()
    async with session(store, factory, **options) as played:
        await send(played, octets, *recipients)
    return store
