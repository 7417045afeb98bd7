"""How many SPF checks a second, when every DNS answer takes 20 ms: ``python -m benchmarks spf``.

A nameserver on loopback answers from a zone made from a seed: each domain's policy takes 8 lookups and passes at the
ninth term.  100 checks run at once.  Cold: every check is of a domain never seen before.  Warm: 100 domains, all in the
cache.  Each contender runs in a process of its own.  ``hang`` asks 500 questions that nobody answers, and meanwhile
times warm checks and turns of the event loop.  ``filter`` does the same with SMTP sessions: 500 of them wait in a filter for
nameservers that are silent, and meanwhile the MAIL of others is timed, from sending it to having the answer.

Prints one line a contender and, at the end, everything as JSON.
"""

import argparse
import asyncio
import gc
import importlib.metadata
import json
import platform
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import dns.flags
import dns.message
import dns.rrset

CLIENT = "192.0.2.1"
CONCURRENCY = 100
DELAY = 0.02
LOOKUPS = 8
CONTENDERS = (
    "dnspython-cold",
    "dnspython-warm",
    "aiodns-cold",
    "aiodns-warm",
    "pyspf-threads-cold",
    "spftrace-cold",
    "dnspython-hang",
    "aiodns-hang",
    "dnspython-filter",
    "aiodns-filter",
)


def domain(number: int) -> str:
    return f"d{number}.bench.example"


def records(number: int) -> Iterator[tuple[str, str, str]]:
    """Yield the records of one domain: what a check looks up, in its order."""
    name = domain(number)
    # The seed makes the addresses, so that no two domains answer alike.
    address = f"198.51.100.{random.Random(number).randrange(1, 255)}"
    yield name, "TXT", f'"v=spf1 a:a.{name} mx include:i.{name} exists:%{{i}}.e.{name} ip4:{CLIENT} -all"'
    yield f"a.{name}", "A", address
    yield name, "MX", f"10 m1.{name}.\n20 m2.{name}."
    yield f"m1.{name}", "A", address
    yield f"m2.{name}", "A", address
    yield f"i.{name}", "TXT", f'"v=spf1 a:b.{name} -all"'
    yield f"b.{name}", "A", address
    # exists:%{i}.e is looked up and not there: NXDOMAIN, the eighth.


class Zone:
    """Answers as octets, made once, with the id of the question put in."""

    def __init__(self, domains: int) -> None:
        self._answers: dict[bytes, bytes] = {}
        for number in range(domains):
            for name, rdtype, values in records(number):
                query = dns.message.make_query(name, rdtype, use_edns=0, payload=1232)
                response = dns.message.make_response(query, recursion_available=True)
                response.answer.append(dns.rrset.from_text(f"{name}.", 300, "IN", rdtype, *values.split("\n")))
                wire = query.to_wire()
                self._answers[wire[12 : wire.index(b"\0", 12) + 5]] = response.to_wire()

    def answer(self, wire: bytes) -> bytes | None:
        question = wire[12 : wire.index(b"\0", 12) + 5]
        if b"\x04hang" in question:
            return None
        found = self._answers.get(question.lower())
        if found is not None:
            return wire[:2] + found[2:]
        # NXDOMAIN, recursion available, the question and nothing else.
        return wire[:2] + b"\x81\x83\0\1\0\0\0\0\0\0" + question


class Nameserver(asyncio.DatagramProtocol):
    def __init__(self, zone: Zone) -> None:
        self._zone = zone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str | Any, int]) -> None:
        reply = self._zone.answer(data)
        if reply is not None:
            asyncio.get_running_loop().call_later(DELAY, self._transport.sendto, reply, address)


async def serve(domains: int) -> None:
    """Answer until standard input ends."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Nameserver(Zone(domains)), local_addr=("127.0.0.1", 0))
    print(transport.get_extra_info("sockname")[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    transport.close()


Check = Callable[[str], Awaitable[str]]


async def at_once(check: Check, domains: list[str], seconds: float) -> dict[str, float]:
    """Keep CONCURRENCY checks under way until the domains or the time have run out."""
    waiting = iter(domains)
    done = 0
    started, cpu = time.perf_counter(), time.process_time()

    async def worker() -> None:
        nonlocal done
        for name in waiting:
            result = await check(name)
            assert result == "pass", (name, result)
            done += 1
            if time.perf_counter() - started > seconds:
                return

    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
    elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {"checks": done, "per_second": done / elapsed, "per_cpu_second": done / cpu}


async def measure(backend: Any, mode: str, port: int, domains: int, seconds: float) -> dict[str, float]:
    from aiomilter.auth.spf import check_host
    from aiomilter.dns import resolver

    async with resolver(f"127.0.0.1:{port}", backend=backend, max_queries=1000) as shared:

        async def check(name: str) -> str:
            return (await check_host(CLIENT, f"user@{name}", "client.example", resolver=shared)).result

        names = [domain(number) for number in range(domains)]
        if mode == "cold":
            return await at_once(check, names, seconds)
        warm = names[:100]
        await at_once(check, warm, 60)
        if mode == "warm":
            return await at_once(check, warm * 1000, seconds)
        if mode == "filter":
            return await filtered(shared)
        return await hang(check, shared, warm)


async def hang(check: Check, shared: Any, warm: list[str]) -> dict[str, float]:
    """Time warm checks and turns of the event loop while 500 questions hang."""
    asking = []
    for number in range(500):
        asking.append(asyncio.create_task(shared.lookup(f"h{number}.hang.example", "A")))
        await asyncio.sleep(0.001)
    worst_check = worst_turn = 0.0
    checks = 0
    until = time.perf_counter() + 3
    while (started := time.perf_counter()) < until:
        await asyncio.sleep(0.001)
        woken = time.perf_counter()
        await check(warm[checks % len(warm)])
        checks += 1
        worst_turn = max(worst_turn, woken - started - 0.001)
        worst_check = max(worst_check, time.perf_counter() - woken)
    hanging = sum(not task.done() for task in asking)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    return {
        "checks": checks,
        "hanging": hanging,
        "worst_check_ms": worst_check * 1000,
        "worst_turn_ms": worst_turn * 1000,
    }


async def filtered(shared: Any) -> dict[str, float]:
    """Serve a filter with SPF, as ``aiomilter.run`` does, to MTAs in a process of their own."""
    import aiomilter
    from aiomilter.auth.spf import check_host

    class Filter(aiomilter.Milter):
        async def envfrom(self, ctx: aiomilter.Context, mail: aiomilter.Mail) -> aiomilter.Response | None:
            result = await check_host(CLIENT, mail.address, ctx.helo, resolver=shared)
            return aiomilter.REJECT if result.result == "fail" else None

    async with aiomilter.serve(Filter, "inet:0@127.0.0.1", drain_timeout=0.01) as server:
        gc.collect()
        gc.freeze()
        command = [sys.executable, "-m", "benchmarks", "spf", "--role", "play", server.addresses[0]]
        player = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await player.communicate()
    found: dict[str, float] = json.loads(out)
    return found


async def play(address: str) -> dict[str, float]:
    """Time the answers to MAIL while 500 other SMTP sessions wait for nameservers that are silent."""
    from aiomilter import mta

    async def wait(number: int) -> None:
        async with mta.connect(address) as session:
            await session.connect()
            await session.helo()
            await session.mail(f"<user@h{number}.hang.example>")

    waiting = []
    for number in range(500):
        waiting.append(asyncio.create_task(wait(number)))
        await asyncio.sleep(0.002)  # clients come one after the other, and their second attempts too
    # What is measured is the filter's pauses, not our own.
    gc.disable()
    times: list[float] = []
    async with mta.connect(address) as session:
        await session.connect()
        await session.helo()
        until = time.perf_counter() + 3
        while (started := time.perf_counter()) < until:
            await session.mail(f"<user@{domain(len(times) % 100)}>")
            times.append(time.perf_counter() - started)
    still = sum(not task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    times.sort()
    return {
        "answered": len(times),
        "waiting": still,
        "median_answer_ms": times[len(times) // 2] * 1000,
        "worst_answer_ms": times[-1] * 1000,
    }


def pyspf(port: int, domains: int, seconds: float) -> dict[str, float]:
    import dns.resolver
    import spf  # type: ignore[import-untyped]  # has none

    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = port
    dns.resolver.default_resolver = resolver
    count = threading.Lock()
    done = 0
    started, cpu = time.perf_counter(), time.process_time()

    def check(number: int) -> None:
        nonlocal done
        if time.perf_counter() - started > seconds:
            return
        result = spf.query(CLIENT, f"user@{domain(number)}", "client.example").check()[0]
        assert result == "pass", result
        with count:
            done += 1

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        list(pool.map(check, range(domains)))
    elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {"checks": done, "per_second": done / elapsed, "per_cpu_second": done / cpu}


async def spftrace(port: int, domains: int, seconds: float) -> dict[str, float]:
    from spftrace import Evaluator, LiveResolver

    live = LiveResolver(["127.0.0.1"])
    live.resolver.port = port

    async def check(name: str) -> str:
        return (await Evaluator(live).evaluate(CLIENT, f"user@{name}", "client.example")).result

    return await at_once(check, [domain(number) for number in range(domains)], seconds)


def contend(name: str, port: int, domains: int, seconds: float) -> dict[str, float]:
    if name == "pyspf-threads-cold":
        return pyspf(port, domains, seconds)
    if name == "spftrace-cold":
        return asyncio.run(spftrace(port, domains, seconds))
    backend, _, mode = name.partition("-")
    return asyncio.run(measure(backend, mode, port, domains, seconds))


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("aiomilter", "dnspython", "aiodns", "pycares", "pyspf", "spftrace"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def main(arguments: list[str]) -> int:
    """Measure the contenders named, or all of them, each in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks spf", description="SPF checks per second")
    parser.add_argument("contenders", nargs="*", metavar="CONTENDER", help=", ".join(CONTENDERS))
    parser.add_argument("--seconds", type=float, default=4.0, help="bound on each contender")
    parser.add_argument("--domains", type=int, default=4000, help="domains in the zone")
    parser.add_argument("--role", choices=("serve", "contend", "play"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.role == "play":
        print(json.dumps(asyncio.run(play(options.contenders[0]))))
        return 0
    unknown = set(options.contenders) - set(CONTENDERS)
    if unknown:
        parser.error(f"no such contender: {', '.join(sorted(unknown))}")
    # Two sockets a thread or question in flight, and the rest.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    if options.role == "serve":
        asyncio.run(serve(options.domains))
        return 0
    if options.role == "contend":
        print(json.dumps(contend(options.contenders[0], options.port, options.domains, options.seconds)))
        return 0
    return run(options.contenders or list(CONTENDERS), options.domains, options.seconds)


def run(contenders: list[str], domains: int, seconds: float) -> int:
    command = [sys.executable, "-m", "benchmarks", "spf", "--domains", str(domains), "--seconds", str(seconds)]
    results: dict[str, Any] = {}
    with subprocess.Popen(
        [*command, "--role", "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        for name in contenders:
            done = subprocess.run(
                [*command, "--role", "contend", "--port", port, name],
                capture_output=True,
                text=True,
                timeout=60 + seconds,
                check=False,
            )
            if done.returncode:
                results[name] = {"error": done.stderr.strip().rpartition("\n")[2]}
            else:
                results[name] = json.loads(done.stdout)
            shown = " ".join(
                f"{key}={value:.1f}" if isinstance(value, float) else f"{key}={value}"
                for key, value in results[name].items()
            )
            print(f"{name:20} {shown}", flush=True)
        server.communicate("")
    print(json.dumps({"versions": versions(), "lookups": LOOKUPS, "delay": DELAY, "results": results}))
    return 1 if any("error" in result for result in results.values()) else 0
