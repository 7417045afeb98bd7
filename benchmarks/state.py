"""What a step costs that outlives a message: ``python -m benchmarks state``.

Each contender runs in a process of its own, whose CPU time is counted, of all its threads; that of Redis and PostgreSQL is
not.  ``memory-step`` is one step of a store.  The others are ``RateLimit.hit`` or ``Greylist.check`` with everything they do,
50 of them in flight; ``postgrey`` is Debian's, of which the process that answers is counted, asked over 50 connections by
another process.  ``greylist-sqlite`` is what compares with it: both write to a file.  ``node-redis`` is a whole filter, which
counts and greylists each message, per message; another process sends messages with twelve fields over 50 connections, five on
each.

Prints one line a contender and, at the end, everything as JSON.
"""

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from aiomilter import Context, Milter, Rcpt, Response, mta, serve
from aiomilter.policy import Greylist, Rate, RateLimit
from aiomilter.policy.stores import Mode, Op, open_store
from benchmarks._goals import judged, rounds, spread
from tests.interop.rigs.postgresql import PostgresqlServer
from tests.interop.rigs.postgrey import Postgrey, request
from tests.interop.rigs.redis import RedisServer

IN_FLIGHT: Final = 50
SUBJECTS: Final = 1000
GOALS: Final = {"memory-step": 5.0, "rates-sqlite": 60.0, "rates-redis": 150.0}
"""Microseconds of CPU."""
CONTENDERS: Final = (
    "memory-step",
    "rates-memory",
    "rates-sqlite",
    "rates-redis",
    "rates-postgresql",
    "greylist-memory",
    "greylist-sqlite",
    "greylist-redis",
    "postgrey",
    "node-redis",
)
FIELDS: Final = b"".join(b"X-Field-%d: what stands in a field of usual length\r\n" % number for number in range(12))
_TICK: Final = os.sysconf("SC_CLK_TCK")


def triplets(count: int) -> Iterator[tuple[str, str, str]]:
    """Yield clients, senders and recipients from a seed."""
    made = random.Random(1)
    for _ in range(count):
        who = made.randrange(SUBJECTS)
        yield f"198.51.{who % 256}.{who // 256 + 1}", f"sender{who}@client.example", f"user{who % 10}@example.org"


async def at_once(jobs: Iterator[Any], do: Callable[[Any], Awaitable[object]]) -> None:
    """Keep so many under way until there are no more."""

    async def worker() -> None:
        for job in jobs:
            await do(job)

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))


async def contend(name: str, url: str, steps: int) -> dict[str, float]:
    """Return the microseconds of one step."""
    async with open_store(url, keys=[b"k" * 32], timeout=60) as store:
        if name == "memory-step":
            key = store.keys.of("rate_user", "bob@example.org", "0")
            args = (1, Mode.DO, 1, 1000, 10**12)
            begun, cpu = time.perf_counter(), time.process_time()
            for _ in range(steps):
                await store.store.step(Op.GCRA, key, args)
        elif name.startswith("rates"):
            rates = RateLimit(store, {"user": Rate(1_000_000, per=3600)}, on_failure="tempfail")

            async def hit(triplet: tuple[str, str, str]) -> None:
                assert not (await rates.hit("user", triplet[1])).exceeded

            await hit(("", "first@example.org", ""))
            begun, cpu = time.perf_counter(), time.process_time()
            await at_once(triplets(steps), hit)
        else:
            greylist = Greylist(store, on_failure="tempfail")

            async def check(triplet: tuple[str, str, str]) -> None:
                assert not (await greylist.check(*triplet)).problem

            await check(("192.0.2.1", "first@example.org", "user@example.org"))
            begun, cpu = time.perf_counter(), time.process_time()
            await at_once(triplets(steps), check)
        return {
            "cpu_us": (time.process_time() - cpu) / steps * 1e6,
            "wall_us": (time.perf_counter() - begun) / steps * 1e6,
        }


class Node(Milter):
    """Counts each message of a login, or greylists it."""

    def __init__(self, greylist: Greylist, rates: RateLimit) -> None:
        self.greylist, self.rates = greylist, rates

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        assert ctx.sender is not None
        assert not (await self.rates.hit("user", ctx.sender.address)).problem
        assert not (
            await self.greylist.check(ctx.client.ip, ctx.sender.address, rcpt.address, domain="a.example")
        ).problem
        return None


async def serve_node(url: str, messages: int) -> dict[str, float]:
    """Return what a message costs a node."""
    async with open_store(url, keys=[b"k" * 32], timeout=60) as store:
        greylist, rates = Greylist(store), RateLimit(store, {"user": Rate(1_000_000, per=3600)})
        async with serve(lambda: Node(greylist, rates), "inet:0@127.0.0.1", drain_timeout=0.01) as server:
            command = [sys.executable, "-m", "benchmarks", "state", "--role", "play", "--url", server.addresses[0]]
            begun, cpu = time.perf_counter(), time.process_time()
            player = await asyncio.create_subprocess_exec(*command, "--steps", str(messages))
            assert await player.wait() == 0
            return {
                "cpu_us": (time.process_time() - cpu) / messages * 1e6,
                "wall_us": (time.perf_counter() - begun) / messages * 1e6,
            }


async def play(address: str, messages: int) -> dict[str, float]:
    """Send messages to a node."""
    jobs = triplets(messages // 5)

    async def deliver(triplet: tuple[str, str, str]) -> None:
        client, sender, recipient = triplet
        async with mta.connect(address) as session:
            await session.connect(address=client)
            await session.helo()
            for _ in range(5):
                await session.send(FIELDS + b"\r\nHello\r\n", sender, recipient)

    await at_once(jobs, deliver)
    return {}


async def ask_postgrey(steps: int) -> dict[str, float]:
    """Return the same of postgrey."""
    rig = Postgrey(delay=300)
    rig.start()
    try:
        jobs = triplets(steps)

        async def client() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
            for triplet in jobs:
                writer.write(request(*triplet))
                answer = await reader.readuntil(b"\n\n")
                assert answer.startswith(b"action="), answer
            writer.close()

        begun, cpu = time.perf_counter(), _cpu(rig.pid)
        await asyncio.gather(*(client() for _ in range(IN_FLIGHT)))
        return {
            "cpu_us": (_cpu(rig.pid) - cpu) / steps * 1e6,
            "wall_us": (time.perf_counter() - begun) / steps * 1e6,
        }
    finally:
        rig.stop()


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


@contextmanager
def place(name: str) -> Iterator[str | None]:
    """Have the store of a contender; None if this machine has none."""
    match name.rpartition("-")[2]:
        case "sqlite":
            with tempfile.TemporaryDirectory() as directory:
                yield f"sqlite:{directory}/state.db"
        case "redis" if not RedisServer.missing():
            redis = RedisServer()
            redis.start()
            try:
                yield redis.url
            finally:
                redis.stop()
        case "postgresql" if not PostgresqlServer.missing():
            server = PostgresqlServer()
            server.start()
            try:
                yield server.url
            finally:
                server.stop()
        case "postgrey":
            yield "" if not Postgrey.missing() else None
        case "redis" | "postgresql":
            yield None
        case _:
            yield "memory:"


def measured(name: str, steps: int) -> dict[str, float] | None:
    """Run a contender in a process of its own."""
    with place(name) as url:
        if url is None:
            return None
        command = [sys.executable, "-m", "benchmarks", "state", "--role", name, "--url", url, "--steps", str(steps)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _role(name: str, url: str, steps: int) -> int:
    """Be the process of a contender, and print what it has found."""
    match name:
        case "postgrey":
            print(json.dumps(asyncio.run(ask_postgrey(steps))))
        case "node-redis":
            print(json.dumps(asyncio.run(serve_node(url, steps // 4))))
        case "play":
            asyncio.run(play(url, steps))
        case _:
            print(json.dumps(asyncio.run(contend(name, url, steps))))
    return 0


def main(arguments: list[str]) -> int:
    """Measure all contenders, or the one that a process is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks state", description=__doc__)
    parser.add_argument("contenders", nargs="*", metavar="CONTENDER", help=", ".join(CONTENDERS))
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, help="for all rounds together")
    parser.add_argument("--quick", action="store_true", help="shows whether all run")
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.role:
        return _role(options.role, options.url, options.steps)
    steps, most = (1000, 1) if options.quick else (options.steps, options.rounds)
    results: dict[str, list[dict[str, float]]] = {}
    for _ in rounds(most, None if options.quick else options.minutes):
        for name in options.contenders or CONTENDERS:
            if (one := measured(name, steps)) is not None:
                results.setdefault(name, []).append(one)
    for name, each in results.items():
        cpu = [one["cpu_us"] for one in each]
        wall = statistics.median(one["wall_us"] for one in each)
        middle = statistics.median(cpu)
        goal = f"  ({judged(middle, GOALS[name])})" if name in GOALS else ""
        print(f"{name:18} {middle:7.1f} us CPU, spread {spread(cpu):4.0%}, {wall:7.1f} us{goal}")
    versions = {"python": platform.python_version(), "redis-py": importlib.metadata.version("redis")}
    text = json.dumps({"versions": versions, "in_flight": IN_FLIGHT, "steps": steps, "results": results})
    print(text)
    if options.json:
        options.json.write_text(text)
    return 0
