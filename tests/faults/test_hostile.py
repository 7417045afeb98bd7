"""Peers that mean harm: the filter's process stays below a stated size, its log short, and others are served meanwhile."""

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from aiomilter import CONTINUE
from aiomilter.wire.constants import Command
from aiomilter.wire.framing import packet
from aiomilter.wire.modifications import AddHeader
from tests.faults.process import FilterProcess
from tests.faults.report import Report
from tests.patience import PATIENCE
from tests.peer import DATA, EOH, EOM, OPENING, QUIT, body, header, mail, offer, rcpt

KIB: Final = 1024
MARGIN: Final = 8 * KIB
"""KiB that a process may take for itself on the way: arenas that are not full, code that is read the first time."""
RECIPIENTS: Final = 1000
HALF_OPEN: Final = 5000
HONEST: Final = 20
BEGUN: Final = OPENING + mail("<n2@client.test>") + rcpt() + DATA
_ENVELOPE: Final = mail("<n2@client.test>") + rcpt()
_MACROS: Final = b"".join(b"{name%d}\0value\0" % number for number in range(3500))
_ALL_MACROS: Final = b"".join(packet(Command.MACRO, bytes([step]) + _MACROS) for step in b"CHMRTLNBE")

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Attack: TypeAlias = Callable[[list[Streams]], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Hostile:
    """A row.

    Args:
        name: What they do.
        connections: How many do it at once.
        attack: Does it, and returns once all has been said.
        room: KiB that one connection may take: what the limits allow it to keep, and what that is as Python objects.
        log: What the log must say.
    """

    name: str
    connections: int
    attack: Attack
    room: float
    log: str = ""


def _dribble(start: bytes, octets: bytes, size: int) -> Attack:
    async def attack(streams: list[Streams]) -> None:
        for _, writer in streams:
            writer.write(start)
        for place in range(0, len(octets), size):
            for _, writer in streams:
                writer.write(octets[place : place + size])
            await asyncio.sleep(0)

    return attack


def _flood(octets: bytes) -> Attack:
    async def attack(streams: list[Streams]) -> None:
        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            async def drink() -> None:
                while await reader.read(1 << 16):
                    pass

            drinking = asyncio.create_task(drink())
            try:
                writer.write(octets)
                await writer.drain()
            except ConnectionError:
                pass  # the filter has had enough
            finally:
                drinking.cancel()
                await asyncio.wait([drinking])

        await asyncio.gather(*(one(*streams_) for streams_ in streams))

    return attack


HOSTILE: Final = (
    Hostile("slow loris on a header field", 100, _dribble(BEGUN, header("X", "y" * 60_000)[:20_000], 40), 128),
    Hostile("slow loris on the body", 100, _dribble(BEGUN + EOH, body(b"y" * 60_000)[:20_000], 40), 128),
    Hostile(
        "endless header fields",
        10,
        _flood(BEGUN + header("X", "y" * 900) * 8_000),
        512,
        "header fields (--max-headers",
    ),
    Hostile(
        "endless recipients",
        10,
        _flood(OPENING + mail("<n2@client.test>") + rcpt() * 20_000),
        RECIPIENTS,
        "recipients (--max-recipients",
    ),
    Hostile(
        "endless large recipients",
        10,
        _flood(OPENING + mail("<n2@client.test>") + rcpt("<" + "y" * 60_000 + "@x>") * 150),
        16 * 64 + RECIPIENTS,  # their size is looked at after every 16th
        "recipients (--max-recipients",
    ),
    Hostile(
        "frames of 1 MiB",
        20,
        _flood(BEGUN + packet(Command.HEADER, bytes(1 << 20), 1 << 20) * 4),
        512,
        "expected a length of 1 to 65536, found 1048577",
    ),
    # Nine sets of 64 KiB as sent, and those that were asked for as objects.
    Hostile("macros by the thousand", 20, _flood(OPENING + (_ALL_MACROS + _ENVELOPE + DATA) * 2), 9 * 64 + 2 * KIB),
    Hostile("half-open connections", HALF_OPEN, _dribble(b"", offer()[:10], 10), 10),
)


class Process:
    """What the system says of a process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def size(self, what: str = "VmRSS") -> int:
        """KiB in memory now, or at most (``VmHWM``) since :meth:`forget`."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))

    def forget(self) -> None:
        """Measure the most from now on."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Let this process have that many files open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[0] < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(count, before[1])))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@asynccontextmanager
async def connected(path: str, count: int) -> AsyncIterator[list[Streams]]:
    streams = [await asyncio.open_unix_connection(path) for _ in range(count)]
    try:
        yield streams
    finally:
        for _, writer in streams:
            writer.transport.abort()


async def honest(path: str) -> int:
    """Send messages as an MTA does and return how many came back with what the filter adds."""
    expected = packet(AddHeader.CODE, AddHeader("X-Filter", "yes").payload) + CONTINUE.packet
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(OPENING)
    for _ in range(HONEST):
        writer.write(_ENVELOPE + DATA + header() + EOH + body() + EOM)
        await reader.readuntil(expected)
    writer.write(QUIT)
    rest = await reader.read()
    writer.close()
    return HONEST if rest == b"" else 0


@pytest.mark.slow
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
async def test_the_process_stays_small_and_others_are_served(hostile: Hostile, directory: Path, report: Report) -> None:
    """P-003, P-044: what each may take is bounded by the limits, and 20 honest messages pass before, during and after."""
    path = f"{directory}/filter"
    # A busy machine makes any loop stall, and a record of that has a line for each frame of the stack.
    options = ("--max-recipients", str(RECIPIENTS), "--backlog", "4096", "--stall-timeout", "off")
    filter_ = FilterProcess(f"unix:{path}", directory, options, wrapper=("prlimit", f"--nofile={HALF_OPEN + 1000}"))
    with descriptors(HALF_OPEN + 1000):
        await filter_.start()
        try:
            process, idle = Process(filter_.pid), filter_.descriptors
            async with asyncio.timeout(PATIENCE):
                assert await honest(path) == HONEST
                before, lines = process.size(), filter_.log.count("\n")
                process.forget()
                async with connected(path, hostile.connections) as streams:
                    began = time.monotonic()
                    attacking = asyncio.create_task(hostile.attack(streams))
                    served = await honest(path)
                    await attacking
                    served += await honest(path)
                    if hostile.connections == HALF_OPEN:
                        await filter_.until(lambda: filter_.descriptors >= idle + HALF_OPEN, "all connections")
                    most, took = process.size("VmHWM") - before, time.monotonic() - began
                assert await honest(path) == HONEST
                await filter_.until(lambda: filter_.descriptors <= idle, "end of all connections")
            log = filter_.log
        finally:
            await filter_.kill()
    bound = hostile.connections * hostile.room + MARGIN
    report.lines.append(
        f"hostile: {hostile.connections} x {hostile.name}: {most / KIB:.1f} MiB more, bound {bound / KIB:.1f} MiB,"
        f" {served} honest messages meanwhile, {took:.1f} s"
    )

    assert served == 2 * HONEST
    assert most < bound
    assert hostile.log in log
    assert log.count("\n") - lines < 3 * hostile.connections + 4 * HONEST
    assert " ERROR " not in log
