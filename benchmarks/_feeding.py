"""A conversation recorded from the load generator, and fed to a filter in process, so that a count repeats on a busy machine.

``python -m benchmarks._feeding FILE FILTER MESSAGES [LOG]`` feeds what :func:`record` has written to FILE: no socket, no other
process, and what comes in one read is always the same.  LOG is "text" or "json": a line a message, to ``/dev/null``.
"""

import asyncio
import ctypes
import gc
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from aiomilter import Milter, serve
from aiomilter._cli.json_log import OneObject
from aiomilter._cli.logs import OneLine
from aiomilter._connection.transport import MilterProtocol
from benchmarks.filters import FILTERS

RECORDED: Final = 4
"""Messages that are recorded: the first brings the client as well, the last the end of the connection."""
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


async def _served(filter_: type[Milter], action: Callable[[MilterProtocol, _Transport], _T]) -> _T:
    """Run a function with a new connection, as the callback of the loop that brings a connection's octets."""
    server = serve(filter_, "inet:0@127.0.0.1")
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


def _feed(file: Path, messages: int, protocol: MilterProtocol, transport: _Transport) -> None:
    beginning, message = ([bytes.fromhex(batch) for batch in part] for part in json.loads(file.read_text()))
    for batch in beginning:
        protocol.data_received(batch)
    # A collection of all that was imported would fall into one of the two runs that are compared, or not: 3 % by chance.
    gc.collect()
    gc.disable()
    if "COUNTED_FROM" in os.environ:
        ctypes.CDLL(os.environ["COUNTED_FROM"]).start()
    before = transport.writes
    for _ in range(messages):
        for batch in message:
            protocol.data_received(batch)
    if transport.writes - before != messages * len(message):
        raise RuntimeError(f"expected {messages * len(message)} writes, found {transport.writes - before}")
    # What follows would be counted, too.
    sys.stdout.flush()
    os._exit(0)


def _log(style: str) -> None:
    """Write the log as ``aiomilter run`` does, but to nowhere."""
    handler = logging.StreamHandler(open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the process ends
    handler.setFormatter(OneObject() if style == "json" else OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


if __name__ == "__main__":
    if len(sys.argv) > 4:
        _log(sys.argv[4])
    asyncio.run(_served(FILTERS[sys.argv[2]], lambda *served: _feed(Path(sys.argv[1]), int(sys.argv[3]), *served)))
