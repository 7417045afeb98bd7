"""What whole messages hold in memory: ``python -m benchmarks spooling``.

Resident memory at most, over that of the idle process, of a filter that gets whole messages, reads them and adds a header
field, in a process of its own on a UNIX socket: one message of 25 MiB; ten, one after the other; many smaller ones at once.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Final

import aiomilter
from aiomilter import Context, mta
from aiomilter.message import Message, MessageMilter
from benchmarks._contenders import Contender, machine, serving
from benchmarks._goals import judged
from benchmarks.stalls import resident

OVER_IDLE: Final = 8.0
"""MiB, for one message at a time."""
HEAD: Final = b"From: alice@client.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"
LINE: Final = b"QUJD" * 18 + b"\r\n"
AT_ONCE: Final = 50


class Reading(MessageMilter):
    """Read the whole message, and say how large it is."""

    async def message(self, ctx: Context, message: Message) -> None:
        """Read all octets."""
        size = 0
        async with contextlib.aclosing(message.octets()) as pieces:
            async for octets in pieces:
                size += len(octets)
        message.headers.append("X-Size", str(size))


def octets_of(size: int) -> bytes:
    """Return a message with an attachment of so many octets."""
    return HEAD + LINE * (size // len(LINE)) + b"--b--\r\n"


async def sent(at: str, octets: bytes) -> None:
    """Send a message, and see that it was read."""
    async with mta.connect(at) as client:
        await client.connect()
        await client.helo()
        result = await client.send(octets, "alice@client.example", ["bob@example.test"])
    assert f"X-Size: {len(octets)}\r\n".encode() in result.octets


def measured(size: int, rounds: int, at_once: int) -> float:
    """Return MiB over idle, at most."""
    with tempfile.TemporaryDirectory() as folder:
        at = f"unix:{Path(folder) / 'filter.sock'}"
        command = [sys.executable, "-m", "benchmarks", "spooling", "--serve", at]
        with serving(Contender("aiomilter", "", lambda kind, where: command), "all", at) as pid:

            async def play() -> float:
                await sent(at, octets_of(1_000))
                idle = resident(pid, "VmRSS")
                for _ in range(rounds):
                    await asyncio.gather(*(sent(at, octets_of(size)) for _ in range(at_once)))
                return (resident(pid, "VmHWM") - idle) / 1_024

            return asyncio.run(play())


def main(arguments: list[str]) -> int:
    """Measure, print the table and JSON; return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks spooling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small messages, to see that it works; judges nothing")
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--serve", metavar="SOCKET", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve is not None:
        aiomilter.run(Reading, options.serve)
        return 0
    size = 25 * 2**20 // (100 if options.quick else 1)
    cases = {
        "one of 25 MiB": (size, 1, 1),
        "ten, one by one": (size, 10, 1),
        f"{AT_ONCE} at once": (size // 5, 1, AT_ONCE),
    }
    results = {}
    for what, (octets, rounds, at_once) in cases.items():
        results[what] = measured(octets, rounds, at_once)
        goal = f", {judged(results[what], OVER_IDLE)}" if at_once == 1 else ""
        print(f"{what:24}{results[what]:9.1f} MiB{goal}", flush=True)
    text = json.dumps({"about": machine(), "unit": "MiB over idle", "results": results})
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")
    missed = any(results[what] > OVER_IDLE for what, (_, _, at_once) in cases.items() if at_once == 1)
    return int(missed and not options.quick)
