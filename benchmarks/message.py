"""What whole messages and compositions cost: ``python -m benchmarks message``.

A filter that decides on the whole message and adds a field, as a :class:`MessageMilter` and by callbacks of its own, for 10 kB
and for 24 MiB.  Of 24 MiB the model keeps 1 MiB in memory and the rest in a file, and plain callbacks keep all in memory, which
are unlike things: so it is also compared with callbacks that use a file, and a model that keeps all in memory with plain ones.
Of others, a program of pymilter that reads the message with ``email``, and go-milter's callbacks, which keep nothing, take part
where they can be built or are there.
Then three filters, a check of the envelope, a check of the header section and an edit, composed in one
process, and as three milters that the mail server asks one after the other, each in a process of its own.  Each serves a UNIX
socket; its CPU time is counted, of all its threads.  One connection; all take turns in each round, and what is judged is the
median of the ratios.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final

from aiomilter import ACCEPT, CONTINUE, Context, EndOfMessageContext, Header, Mail, Milter, Rcpt, Response, no_reply
from aiomilter.compose import compose
from aiomilter.daemon import run
from aiomilter.message import Message, MessageMilter
from aiomilter.mta import Session, connect
from benchmarks._contenders import PEERS, Contender, go, machine, serving
from benchmarks._goals import judged, spread
from benchmarks.auth import cpu
from benchmarks.dkim import message
from tests.compat.rigs import pymilter

SIZES: Final = {"10 kB": 10_000, "24 MiB": 24 * 2**20}
_MIB: Final = 2**20
SHARE_OF_LARGE: Final = 20
"""Of so many small messages one large one is sent."""
GOALS: Final = {"10 kB": 1.6, "24 MiB": 1.2}
"""What a MessageMilter may cost, of callbacks by hand."""
EMAIL_GOAL: Final = 0.1
"""What 24 MiB may cost a MessageMilter, of pymilter with ``email``."""
CPU_GOAL: Final = 0.6
"""What three composed may cost, of three in a row."""
PACE_GOAL: Final = 1.3
"""How many times their messages a second it has to be."""


class ByHand(Milter):
    """Keeps the message, and adds a field that says how large it is."""

    leading_space = True

    def __init__(self) -> None:
        self.fields: list[bytes] = []
        self.chunks: list[bytes] = []

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        self.fields.append(header.raw)

    @no_reply
    async def body(self, ctx: Context, chunk: bytes) -> None:
        self.chunks.append(chunk)

    async def eom(self, ctx: EndOfMessageContext) -> None:
        octets = b"".join([*self.fields, b"\r\n", *self.chunks])
        ctx.insert_header("X-Size", str(len(octets)))
        self.fields, self.chunks = [], []


class Whole(MessageMilter):
    """The same on the model."""

    async def message(self, ctx: Context, message: Message) -> None:
        size = 0
        async for octets in message.octets():
            size += len(octets)
        message.headers.prepend("X-Size", str(size))


class ByHandInFile(Milter):
    """The same by hand, in as little memory as the model: 1 MiB at a time to and from a file, in a thread."""

    leading_space = True

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.size = 2  # the empty line
        self.kept = 0
        self.chunks: list[bytes] = []
        self.file: IO[bytes] | None = None

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        self.size += len(header.raw)

    @no_reply
    async def body(self, ctx: Context, chunk: bytes) -> None:
        self.chunks.append(chunk)
        self.kept += len(chunk)
        if self.kept > _MIB:
            chunks, self.chunks, self.kept = self.chunks, [], 0
            await asyncio.to_thread(self.store, chunks)

    def store(self, chunks: list[bytes]) -> None:
        if self.file is None:
            self.file = tempfile.TemporaryFile()  # noqa: SIM115  # until the message ends
        self.file.writelines(chunks)

    async def eom(self, ctx: EndOfMessageContext) -> None:
        if self.file is not None:
            await asyncio.to_thread(self.file.seek, 0)
            while octets := await asyncio.to_thread(self.file.read, _MIB):
                self.size += len(octets)
            self.file.close()
        self.size += sum(map(len, self.chunks))
        ctx.insert_header("X-Size", str(self.size))
        self.begin()


class InMemory(Whole):
    """The model, in as much memory as plain callbacks."""

    memory_size = 32 * _MIB


class Envelope(Milter):
    """Looks at sender and recipients."""

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        return ACCEPT if mail.domain == "friend.example" else None

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        return CONTINUE if rcpt.domain else None

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.insert_header("X-Envelope", str(len(ctx.recipients)))


class Fields(Milter):
    """Looks at all header fields."""

    def __init__(self) -> None:
        self.count = 0

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        self.count += header.name.lower().startswith("x-")

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.insert_header("X-Fields", str(self.count))
        self.count = 0


FILTERS: Final[dict[str, Callable[[], Any]]] = {
    "by hand": ByHand,
    "by hand, file": ByHandInFile,
    "model": Whole,
    "model, memory": InMemory,
    "envelope": Envelope,
    "fields": Fields,
    "composed": compose(Envelope, Fields, Whole),
}
PAIRS: Final = {
    "10 kB": {"10 kB": ("model", "by hand")},
    "24 MiB": {
        "24 MiB": ("model", "by hand"),
        "24 MiB, both in memory": ("model, memory", "by hand"),
        "24 MiB, both in a file": ("model", "by hand, file"),
    },
}
"""What is compared, of each size."""
IN_A_ROW: Final = ("envelope", "fields", "model")
EMAIL: Final = "pymilter, email"
GO: Final = "go-milter"


def peers(folder: Path) -> tuple[dict[str, Contender], dict[str, str]]:
    """Return the filters of others that can be run here, and why the rest cannot.

    Args:
        folder: To build in.
    """
    found, missing = {}, {}
    if reason := pymilter.missing():
        missing[EMAIL] = reason
    else:
        command = [str(pymilter.PYTHON), str(PEERS / "classic.py")]
        found[EMAIL] = Contender(EMAIL, pymilter.VERSION, lambda _, at: [*command, at, "email"])
    try:
        built = go(folder)
        found[GO] = Contender(GO, built.version, lambda _, at: built.command("typical", at))
    except RuntimeError as error:
        missing[GO] = str(error)
    return found, missing


def contender(name: str) -> Contender:
    """Return what serves one of :data:`FILTERS`."""
    return Contender(name, "", lambda kind, at: [sys.executable, "-m", "benchmarks", "message", "--serve", kind, at])


@dataclass
class Measured:
    """What a round of messages took.

    Args:
        cpu: Seconds of CPU a message, of all processes that were asked.
        pace: Messages a second.
    """

    cpu: list[float] = field(default_factory=list)
    pace: list[float] = field(default_factory=list)


@contextlib.asynccontextmanager
async def sessions(places: Sequence[str]) -> AsyncIterator[list[Session]]:
    """Open a session with each filter."""
    async with contextlib.AsyncExitStack() as stack:
        opened = []
        for at in places:
            session = await stack.enter_async_context(connect(at))
            await session.connect("mx.example.net", "192.0.2.1")
            await session.helo("mx.example.net")
            opened.append(session)
        yield opened


async def send(places: Sequence[str], octets: bytes, count: int) -> float:
    """Send messages, each to all filters in turn as the one before has left it; return the seconds it took."""
    async with sessions(places) as opened:
        began = time.perf_counter()
        for _ in range(count):
            left = octets
            for session in opened:
                result = await session.send(left, "alice@example.org", ["bob@example.net"])
                if not result.edits:
                    raise RuntimeError(f"expected edits, found {result.answer}")
                left = result.octets
        return time.perf_counter() - began


def measure(
    names: dict[str, Sequence[str]],
    octets: bytes,
    count: int,
    rounds: int,
    folder: Path,
    others: Mapping[str, Contender] = MappingProxyType({}),
) -> dict[str, Measured]:
    """Return what each row of filters takes, all in turn in each round.

    Args:
        names: Of each row, the filters that are asked one after the other.
        octets: The message.
        count: How often it is sent to each row in a round.
        rounds: How many.
        folder: For sockets.
        others: Filters that are not ours, by name.
    """
    found = {name: Measured() for name in names}
    with contextlib.ExitStack() as stack:
        served: dict[str, tuple[str, int]] = {}
        for name in dict.fromkeys(each for row in names.values() for each in row):
            at = f"unix:{folder / name.replace(' ', '-')}.sock"
            served[name] = at, stack.enter_context(serving(others.get(name) or contender(name), name, at))
        for number in range(rounds + 1):
            for row, filters in names.items():
                places = [served[each][0] for each in filters]
                before = sum(cpu(served[each][1]) for each in filters)
                seconds = asyncio.run(send(places, octets, count))
                used = sum(cpu(served[each][1]) for each in filters) - before
                if number:  # the first warms up
                    found[row].cpu.append(used / count)
                    found[row].pace.append(count / seconds)
    return found


def ratio(numerators: list[float], denominators: list[float]) -> float:
    """Return the median of the ratios, round by round."""
    return statistics.median(one / other for one, other in zip(numerators, denominators, strict=True))


def shown(what: str, measured: dict[str, Measured]) -> None:
    """Print a table."""
    for name, each in measured.items():
        milliseconds, pace = statistics.median(each.cpu) * 1_000, statistics.median(each.pace)
        print(
            f"{what:8}{name:15}{milliseconds:10.3f} ms{spread(each.cpu):6.0%}{pace:10.1f} messages a second", flush=True
        )


def main(arguments: list[str]) -> int:
    """Measure, print, and return 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks message", description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="small messages a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it works")
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        kind, at = options.serve
        run(FILTERS[kind], at, drain_timeout=1.0)
        return 0
    count, rounds = (4, 1) if options.quick else (options.count, options.rounds)
    results: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        others, missing = peers(folder)
        for what, size in SIZES.items():
            number = max(2, count // SHARE_OF_LARGE) if size > 1_000_000 else count
            rows = [*dict.fromkeys(each for pair in PAIRS[what].values() for each in pair), *others]
            found = measure({row: [row] for row in rows}, message(size), number, rounds, folder, others)
            shown(what, found)
            for name_of, (model, by_hand) in PAIRS[what].items():
                results[name_of] = ratio(found[model].cpu, found[by_hand].cpu)
                goal = judged(results[name_of], GOALS[what])
                print(f"  {name_of}: {results[name_of]:.2f} of callbacks by hand, {goal}", flush=True)
            for other in others:
                results[f"{what}, {other}"] = share = ratio(found["model"].cpu, found[other].cpu)
                goal = f", {judged(share, EMAIL_GOAL)}" if other == EMAIL and what == "24 MiB" else ""
                print(f"  {what}: {share:.2f} of {other}{goal}", flush=True)
        found = measure({"composed": ["composed"], "in a row": IN_A_ROW}, message(10_000), count, rounds, folder)
        shown("three", found)
        results["composed cpu"] = ratio(found["composed"].cpu, found["in a row"].cpu)
        results["composed pace"] = ratio(found["composed"].pace, found["in a row"].pace)
        print(f"  composed: {results['composed cpu']:.2f} of the CPU, {judged(results['composed cpu'], CPU_GOAL)}")
        print(
            f"  {results['composed pace']:.2f} times the pace, {judged(results['composed pace'], PACE_GOAL, least=True)}"
        )
    for who, reason in missing.items():
        print(f"{who}: missing, {reason}")
    about = {
        **machine(),
        "versions": {each: others[each].version for each in others},
        "missing": missing,
    }
    text = json.dumps({"about": about, "unit": "ratio", "results": results})
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")
    return 0
