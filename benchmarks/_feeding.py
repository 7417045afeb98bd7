"""A conversation recorded from the load generator, and fed to a filter in process, so that a count repeats on a busy machine.

``python -m benchmarks._feeding FILE FILTER MESSAGES [WITH]`` feeds what :func:`record` has written to FILE: no socket, no other
process, and what comes in one read is always the same.  WITH is what observes: "text" or "json", a line a message to
``/dev/null``; "metrics"; "inspected", which has the line as text as well.  Or it is "in-turns", "composed" or "shadow": the
filter alone, in a composition, and beside itself as a shadow; the event loop turns after each batch, or no shadow would run.
"""

import asyncio
import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from aiomilter import Milter, Observer, serve
from aiomilter._cli.logs import set_up
from aiomilter._connection.transport import MilterProtocol
from aiomilter.compose import check, compose
from aiomilter.inspector.store import Store
from aiomilter.observe import MessageEnded
from aiomilter.observe.log import LogObserver
from aiomilter.observe.metrics import Metrics
from benchmarks.filters import FILTERS

RECORDED: Final = 4
"""Messages that are recorded: the first brings the client as well, the last the end of the connection."""
_TURNS: Final = 4
"""Of the event loop after a batch: what a shadow needs to end a message."""
_IN_TURNS: Final = frozenset({"in-turns", "composed", "shadow"})
_T = TypeVar("_T")


class _Transport(asyncio.Transport):
    """Takes what is written, and keeps how often that was."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, data: Any) -> None:
        self.writes += 1

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...


class _Ends(Observer):
    """Takes the ends of messages, as a log does that writes nothing."""

    def __init__(self) -> None:
        self.count = 0

    def message_ended(self, event: MessageEnded) -> None:
        self.count += 1


async def _served(filter_: type[Milter], action: Callable[[MilterProtocol, _Transport], _T], observing: str = "") -> _T:
    """Run a function with a new connection, as the callback of the loop that brings a connection's octets."""
    # It is soon full, as one that has served for a while is: then each message drops another.
    store = Store(max_messages=20) if observing == "inspected" else None
    observers: list[Observer] = [LogObserver()]
    if observing == "metrics":
        observers.append(Metrics())
    if store is not None:
        observers.append(store)
    server = serve(filter_, "inet:0@127.0.0.1", observer=observers)
    if store is not None:
        server._connection_factory = store.connection_factory
    await server.start(listen=False)
    protocol, transport = cast(MilterProtocol, server.accept()), _Transport()
    protocol.connection_made(transport)
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def act() -> None:
        try:
            done.set_result(action(protocol, transport))
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            done.set_exception(error)

    loop.call_soon(act)
    try:
        return await done
    finally:
        loop.call_soon(protocol.connection_lost, None)
        await server.close()


def record(load: Path, scenario: str, filter_: str, folder: Path) -> Path:
    """Have the generator send a few messages to a filter, and write what came as batches, one for each time it waits.

    Args:
        load: The generator.
        scenario: Of it.
        filter_: One of :data:`benchmarks.filters.FILTERS`.
        folder: Where to write.

    Returns:
        The file: a list of batches, in base 16, of the beginning, and one of those of each message that follows.
    """
    octets = asyncio.run(_conversation(load, scenario, filter_, folder / "recorded.sock"))
    beginning, *messages = asyncio.run(_served(FILTERS[filter_], lambda *served: _batches(octets, *served)))
    if len(messages) < 2 or messages[0] != messages[1]:
        raise RuntimeError(f"recording {scenario}: expected the same batches for each message")
    file = folder / f"{filter_}.json"
    file.write_text(json.dumps([[batch.hex() for batch in part] for part in (beginning, messages[0])]))
    return file


async def _conversation(load: Path, scenario: str, filter_: str, socket: Path) -> bytes:
    """Return what the generator sends on one connection."""
    seen = bytearray()
    async with serve(FILTERS[filter_], str(socket), drain_timeout=1.0, socket_mode=0o600) as server:
        make = server._connection_factory

        def recording(*args: Any, **kwargs: Any) -> MilterProtocol:
            class Recorder(MilterProtocol):
                def data_received(self, data: bytes) -> None:
                    seen.extend(data)
                    super().data_received(data)

            return Recorder(*args, **kwargs)

        server._connection_factory = recording
        command = [str(load), "--one-process", "--scenario", scenario, "--connections", "1", "--reuse", "1000000"]
        command += ["--warmup", "0", "--messages", str(RECORDED), f"unix:{socket}"]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
        if await process.wait():
            raise RuntimeError(f"recording {scenario}: the generator failed")
        server._connection_factory = make
    return bytes(seen)


def _packets(octets: bytes) -> Iterable[bytes]:
    pos = 0
    while pos < len(octets):
        stop = pos + 4 + int.from_bytes(octets[pos : pos + 4], "big")
        yield octets[pos:stop]
        pos = stop


def _batches(octets: bytes, protocol: MilterProtocol, transport: _Transport) -> list[list[bytes]]:
    """Return the packets in batches, each as long as nothing is answered; those of each message in a list of their own."""
    parts: list[list[bytes]] = [[]]
    batch = b""
    for packet in _packets(octets):
        batch += packet
        before = transport.writes
        protocol.data_received(packet)
        if transport.writes > before:
            parts[-1].append(batch)
            if packet[4:5] == b"E":
                parts.append([])
            batch = b""
    return parts[:-1]


def _read(file: Path) -> Iterable[list[bytes]]:
    """Return the batches of the beginning, and those of a message."""
    return ([bytes.fromhex(batch) for batch in part] for part in json.loads(file.read_text()))


def _begin_counting() -> None:
    # A collection of all that was imported would fall into one of the two runs that are compared, or not: 3 % by chance.
    gc.collect()
    gc.disable()
    if "COUNTED_FROM" in os.environ:
        ctypes.CDLL(os.environ["COUNTED_FROM"]).start()


def _feed(file: Path, messages: int, protocol: MilterProtocol, transport: _Transport) -> None:
    beginning, message = _read(file)
    for batch in beginning:
        protocol.data_received(batch)
    _begin_counting()
    before = transport.writes
    for _ in range(messages):
        for batch in message:
            protocol.data_received(batch)
    if transport.writes - before != messages * len(message):
        raise RuntimeError(f"expected {messages * len(message)} writes, found {transport.writes - before}")
    # What follows would be counted, too.
    sys.stdout.flush()
    os._exit(0)


async def _feed_in_turns(file: Path, messages: int, filter_: type[Milter], way: str) -> None:
    """Feed batch by batch, and let the event loop turn after each."""
    made: Any = filter_
    if way != "in-turns":
        made = compose(filter_, *([check(filter_, name="shadow", shadow=True)] if way == "shadow" else ()))
    ends = _Ends()
    server = serve(made, "inet:0@127.0.0.1", observer=ends)
    await server.start(listen=False)
    protocol, transport = cast(MilterProtocol, server.accept()), _Transport()
    protocol.connection_made(transport)
    loop = asyncio.get_running_loop()

    async def feed(batches: Iterable[bytes]) -> None:
        for batch in batches:
            loop.call_soon(protocol.data_received, batch)
            for _ in range(_TURNS):
                await asyncio.sleep(0)

    beginning, message = _read(file)
    await feed(beginning)
    _begin_counting()
    before = ends.count
    for _ in range(messages):
        await feed(message)
    if ends.count - before != messages:
        raise RuntimeError(f"expected {messages} ends of messages, found {ends.count - before}")
    sys.stdout.flush()
    os._exit(0)


def _log(style: str) -> None:
    """Write the log as ``aiomilter run`` does, but to nowhere."""
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    set_up("info", style="json" if style == "json" else "text")


def _main(file: Path, name: str, messages: int, observing: str = "") -> None:
    filter_ = FILTERS[name]
    if observing in _IN_TURNS:
        asyncio.run(_feed_in_turns(file, messages, filter_, observing))
    if observing in ("text", "json", "inspected"):
        _log(observing)
    asyncio.run(_served(filter_, lambda *served: _feed(file, messages, *served), observing))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
