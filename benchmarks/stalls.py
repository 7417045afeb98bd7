"""How long authentication holds the event loop, and what it holds in memory: ``python -m benchmarks stalls``.

The longest time between two turns of the loop, in CPU time of its thread, while one message or many are checked by all methods:
one of 50 MB; 50 that come one after the other, whose 500 keys never come; one with a header field of 4 MB; one with the longest
chain of ARC sets.  Then the memory of a filter that serves a UNIX socket in a process of its own, while 200 messages of 10 MB
come at once, over what it had when idle.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

from aiomilter.auth import Authenticator, MessageCheck, dkim
from aiomilter.auth.dkim._crypto import generate
from aiomilter.dns import CachingResolver
from aiomilter.mail.headers import split_message
from aiomilter.testing.resolver import HANG, ZoneResolver
from benchmarks import auth
from benchmarks._contenders import Contender, machine, serving
from benchmarks._goals import judged
from benchmarks.dkim import DOMAIN, SELECTOR, message

CHUNK: Final = 65_535
STALL: Final = 10.0
"""Milliseconds."""
IN_FLIGHT: Final = 200
OVER_IDLE: Final = 40.0
"""MiB."""
HANGING: Final = 50
KEYS: Final = 10


class Turns:
    """Measures the longest time between two turns of the loop, in milliseconds."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            self.longest = max(self.longest, (time.thread_time() - before) * 1_000)

    async def end(self) -> float:
        self._task.cancel()
        await asyncio.wait((self._task,))
        return self.longest


async def fed(check: MessageCheck, octets: bytes) -> None:
    """Give a message to its check as a session does: each packet in its turn."""
    section, begin = split_message(octets)
    for field in section:
        check.header(field.raw)
        await asyncio.sleep(0)
    check.end_of_headers()
    for at in range(begin, len(octets), CHUNK):
        check.body(octets[at : at + CHUNK])
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def checking(resolver: ZoneResolver) -> AsyncIterator[Callable[[], MessageCheck]]:
    """Give what begins a check of a message."""
    authenticator = Authenticator(CachingResolver(resolver), authserv_ids=["mx.example.net"])
    client = authenticator.client(auth.CLIENT)
    checks: list[MessageCheck] = []

    def begun() -> MessageCheck:
        checks.append(client.message(sender=f"alice@{DOMAIN}", helo=f"mx.{DOMAIN}"))
        return checks[-1]

    try:
        yield begun
    finally:
        for check in checks:
            check.cancel()
        client.cancel()


async def one(key: dkim.Key, octets: bytes) -> float:
    """Return the longest turn while one message is checked."""
    octets = await dkim.sign(octets, key) + octets
    zone = ZoneResolver({key.name: {"TXT": key.record()}, DOMAIN: {"TXT": "v=spf1 -all"}})
    async with checking(zone) as begun:
        check = begun()
        turns = Turns()
        await fed(check, octets)
        found = await check.finish()
        longest = await turns.end()
    if [each.result for each in found.dkim] != ["pass"]:
        raise RuntimeError(f"expected a signature that passes, found {found.dkim}")
    return longest


async def hanging(key: dkim.Key, octets: bytes) -> float:
    """Return the longest turn while messages wait for keys that never come, and then are given up."""
    zone = ZoneResolver({DOMAIN: {"TXT": "v=spf1 -all"}})
    several = []
    for number in range(HANGING):
        keys = [dkim.Key(DOMAIN, f"s{number}-{each}", key.private) for each in range(KEYS)]
        for each in keys:
            zone.add(each.name, "TXT", HANG)
        several.append(await dkim.sign(octets, keys) + octets)
    async with checking(zone) as begun:
        turns = Turns()
        ends = []
        for signed in several:
            check = begun()
            await fed(check, signed)
            ends.append(asyncio.create_task(check.finish(2.0)))
        found = await asyncio.gather(*ends)
        longest = await turns.end()
    if {each.result for result in found for each in result.dkim} != {"temperror"}:
        raise RuntimeError("expected temperror for each key")
    return longest


def chain() -> bytes:
    """Return a message with as many and as long ARC sets as are read."""
    fields = []
    for instance in range(1, 51):
        status = "pass" if instance > 1 else "none"
        tags = f"i={instance}; a=rsa-sha256; d={DOMAIN}; s={SELECTOR}; t=1790000000; b={'A' * 2_400}"
        fields += [
            f"ARC-Seal: cv={status}; {tags}",
            f"ARC-Message-Signature: c=relaxed/relaxed; h=from:to:subject; bh=AAAA; {tags}",
            f"ARC-Authentication-Results: i={instance}; {DOMAIN}; {'x' * 60_000}",
        ]
    return "\r\n".join(fields).encode() + b"\r\n" + message(2_000)


async def in_flight(at: str, pid: int, octets: bytes) -> float:
    """Return MiB over idle of a filter that is sent many messages at once."""
    await auth.play(at, octets, auth.CONNECTIONS, "dkim=pass")
    idle = resident(pid, "VmRSS")

    async def sent() -> None:
        await auth.play(at, octets, auth.CONNECTIONS, "dkim=pass")

    await asyncio.gather(*(sent() for _ in range(IN_FLIGHT // auth.CONNECTIONS)))
    return (resident(pid, "VmHWM") - idle) / 1_024


def resident(pid: int, name: str) -> int:
    """Return a figure of a process's memory in KiB: VmRSS now, VmHWM at most."""
    found = re.search(rf"^{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def memory(key: dkim.Key, file: Path, folder: Path, size: int) -> float:
    """Return MiB over idle."""
    octets = message(size)
    octets = asyncio.run(dkim.sign(octets, key)) + octets
    at = f"unix:{folder / 'filter.sock'}"
    command = [sys.executable, "-m", "benchmarks", "auth", "--serve", "all", "asyncio", at, str(file)]
    with serving(Contender("aiomilter", "", lambda kind, where: command), "all", at) as pid:
        return asyncio.run(in_flight(at, pid, octets))


def main(arguments: list[str]) -> int:
    """Measure, print the table and JSON; return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks stalls", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small messages, to see that it works; judges nothing")
    parser.add_argument("--json", metavar="FILE", type=Path)
    options = parser.parse_args(arguments)
    part = 100 if options.quick else 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "key.pem"
        file.touch(0o600)
        file.write_bytes(generate("rsa").pem())
        key = dkim.Key.load(file, domain=DOMAIN, selector=SELECTOR)
        large = (
            b"Subject: " + b"x \t" * (1_390_000 // part) + b"\r\n" + message(2_000).replace(b"Subject", b"X-Subject")
        )
        measured: dict[str, Callable[[], Awaitable[float]]] = {
            "50 MB message": lambda: one(key, message(50_000_000 // part)),
            f"{HANGING * KEYS} keys that hang": lambda: hanging(key, message(2_000)),
            "header field of 4 MB": lambda: one(key, large),
            "50 ARC sets": lambda: one(key, chain()),
        }
        results = {}
        for what, measure in measured.items():
            results[what] = asyncio.run(_awaited(measure))
            print(f"{what:24}{results[what]:9.2f} ms, {judged(results[what], STALL)}", flush=True)
        what = f"{IN_FLIGHT} messages of 10 MB"
        results[what] = memory(key, file, folder, 10_000_000 // part)
        print(f"{what:24}{results[what]:9.1f} MiB, {judged(results[what], OVER_IDLE)}")
    text = json.dumps({"about": machine(), "unit": "ms of CPU between turns; MiB over idle", "results": results})
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")
    missed = any(found > (OVER_IDLE if "messages" in what else STALL) for what, found in results.items())
    return int(missed and not options.quick)


async def _awaited(measure: Callable[[], Awaitable[float]]) -> float:
    # As ``run`` does when it has started: else the collector looks through all modules in the midst of a message.
    gc.collect()
    gc.freeze()
    return await measure()
