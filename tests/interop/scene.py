"""What a test plays on: one port of a rig, with what was delivered since the test began."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiomilter
from tests.interop.client import Client, connect
from tests.interop.rigs.mta import Rig
from tests.interop.rigs.sink import Delivery


class Scene:
    """One port of a rig; ``name`` is the MTA's."""

    def __init__(self, rig: Rig, port: str) -> None:
        self.rig = rig
        self.name = rig.name
        self.port = rig.ports[port]
        self.sockets = rig.filters[port]
        self._earlier = len(rig.deliveries)

    def connect(self, hello: str | None = "EHLO client.test") -> AbstractAsyncContextManager[Client]:
        """Be an SMTP client."""
        return connect(self.port, hello)

    @asynccontextmanager
    async def filters(self, *factories: aiomilter.Factory, **options: Any) -> AsyncIterator[None]:
        """Serve filters where the MTA looks for them, in its order; a single one with options."""
        assert len(factories) == len(self.sockets)
        if len(factories) == 1:
            async with serve(factories[0], self.sockets[0], **options):
                yield
        else:
            async with serve(factories[0], self.sockets[0]), serve(factories[1], self.sockets[1]):
                yield

    async def deliveries(self) -> list[Delivery]:
        """All messages that came out since the test began, once the MTA has nothing left to do."""
        await self.rig.settled()
        return self.rig.deliveries[self._earlier :]


def serve(factory: aiomilter.Factory, socket: str, **options: Any) -> AbstractAsyncContextManager[aiomilter.Server]:
    """Serve a filter so that an MTA with a user of its own gets in."""
    return aiomilter.serve(factory, socket, socket_mode=0o666, **options)
