"""A pass-through in front of a filter of any make, which records what passes."""

import asyncio
import contextlib
import random
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from aiomilter._serving.access import Access
from aiomilter._serving.binding import Permissions
from aiomilter._serving.forked import keep_from_children
from aiomilter._serving.listeners import Listeners
from aiomilter._serving.memory import MemoryLimit
from aiomilter._serving.shielded import finish
from aiomilter.addresses import parse_all
from aiomilter.mta.opening import open_streams
from aiomilter.observe import (
    SERVER,
    ConnectionRefused,
    Lifecycle,
    LifecycleKind,
    Limit,
    LimitReached,
    PeerError,
    PeerErrorKind,
    ResourceExhausted,
    Where,
)
from aiomilter.observe.guard import Guard
from aiomilter.observe.log import LogObserver
from aiomilter.options import Options
from aiomilter.recording.directory import RecordDirectory
from aiomilter.recording.format import FILTER, MTA
from aiomilter.recording.recorder import Recorder, RecordSettings, SessionRecord

__all__ = ["Relay"]

_READ_SIZE: Final = 65536
_CONNECT_TIMEOUT: Final = 30.0
"""Seconds; Postfix waits as long for a milter that does not answer a connection."""


class Relay:
    """Listens as a filter does, and passes everything on to one.

    Args:
        milter: Where the filter listens.
        sockets: Where to listen.
        options: Those of :func:`aiomilter.serve` that are about sockets, access, connections and memory.
        settings: What is recorded.
        directory: Where.
        share: The share of sessions that are recorded.

    Raises:
        AddressError: A text of ``sockets`` is not an endpoint.
    """

    def __init__(
        self,
        milter: str,
        sockets: Sequence[str],
        options: Options,
        settings: RecordSettings,
        directory: RecordDirectory,
        share: float = 1.0,
    ) -> None:
        self.drain_timeout: float = options.drain_timeout
        self.observer: Guard = Guard(LogObserver() if options.observer is None else options.observer)
        self.broken: asyncio.Event = asyncio.Event()
        self._milter = milter
        self._options = options
        self._access = Access(options.allowed_networks, options.allowed_users, options.allowed_groups)
        permissions = Permissions(options.socket_mode, options.socket_owner, options.socket_group)
        self._listeners = Listeners(
            parse_all(sockets), permissions, options.backlog, self._accepted, self.observer.tell
        )
        self._memory = MemoryLimit(options.max_memory, None, self._limit_reached)
        self._recorder = Recorder(settings, directory, self._memory, self._cannot_record)
        self._connections: set[asyncio.Task[None]] = set()
        self._share = share
        self._count = 0

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens, as an MTA names it."""
        return self._listeners.addresses

    def report(self, kind: LifecycleKind, what: str, error: BaseException | None = None) -> None:
        """Report a sentence to the observers."""
        self.observer.tell(Lifecycle(SERVER, kind, what, error))

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: A socket cannot be listened on.
        """
        try:
            await self._listeners.bind()
            self._listeners.start()
        except BaseException:
            self._listeners.close()
            raise

    async def reload(self) -> None:
        """Do nothing: there is nothing to read again."""

    async def drain(self, timeout: float | None = None) -> None:
        """Stop listening, and wait until the open connections have ended; cancelled meanwhile, close."""
        self._listeners.close()
        try:
            if self._connections:
                await asyncio.wait(self._connections, timeout=timeout)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop listening, end every connection, and write what was recorded."""
        await finish(asyncio.ensure_future(self._close()))

    async def _close(self) -> None:
        self._listeners.close()
        connections = list(self._connections)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await self._recorder.close()

    def _limit_reached(self, limit: Limit, number: int, what: str) -> None:
        """Say nothing: only what is recorded counts here, and that it was dropped is said."""

    def _cannot_record(self, what: str) -> None:
        self.observer.tell(ResourceExhausted(SERVER, "recording", what))

    # ----------------------------------------------------------------------------------------------------- connections

    def _accepted(self, sock: socket.socket, name: Any, listener: str) -> None:
        keep_from_children(sock)
        where = Where(connection=self._count + 1, listener=listener)
        refusal = self._access.refusal(sock)
        if refusal is not None:
            sock.close()
            self.observer.tell(ConnectionRefused(where, "access", f"a connection was closed: {refusal}"))
            return
        self._count += 1
        task = asyncio.get_running_loop().create_task(self._relay(sock, where))
        self._connections.add(task)
        task.add_done_callback(self._ended)
        if len(self._connections) >= self._options.max_connections:
            what = f"{len(self._connections)} connections are open (--max-connections); accepting no more for now"
            self.observer.tell(LimitReached(where, Limit.CONNECTIONS, len(self._connections), "max_connections", what))
            self._listeners.hold()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._connections.discard(task)
        self._listeners.go_on()

    async def _relay(self, sock: socket.socket, where: Where) -> None:
        record = self._recorder.begin(where.listener)
        if self._share < 1 and random.random() >= self._share:  # a sample, no secret
            record.drop()  # nothing waits yet
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(record.end)
            try:
                mta = await asyncio.open_connection(sock=sock)
            except BaseException:
                sock.close()
                raise
            stack.push_async_callback(_close_writer, mta[1])
            try:
                milter = await open_streams(self._milter, _CONNECT_TIMEOUT)
            except OSError as error:
                # Closed without an answer, the MTA does what it is told to do where the filter is away.
                what = f"cannot connect to {self._milter}: {error.strerror or error}; closing the MTA's connection"
                self.observer.tell(PeerError(replace(where, peer=self._milter), PeerErrorKind.LOST, what))
                return
            stack.push_async_callback(_close_writer, milter[1])
            await self._pass_on(record, mta, milter)

    async def _pass_on(self, record: SessionRecord, mta: "_Streams", milter: "_Streams") -> None:
        """Pass on in both directions until one side has closed."""
        ways = [
            asyncio.create_task(_pass(record, MTA, mta[0], milter[1])),
            asyncio.create_task(_pass(record, FILTER, milter[0], mta[1])),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _pass(record: SessionRecord, sender: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on one direction; a connection that is lost has ended."""
    with contextlib.suppress(OSError):
        while octets := await reader.read(_READ_SIZE):
            record.add(sender, octets)
            writer.write(octets)
            await writer.drain()
    record.closed(sender)


async def _close_writer(writer: asyncio.StreamWriter) -> None:
    """Close a connection once its octets are written."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
