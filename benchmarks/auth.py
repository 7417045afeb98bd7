"""What authenticating a message costs a filter, beside OpenDKIM: ``python -m benchmarks auth``.

Messages of 2 kB, 10 kB and 1 MB, with 20 fields; RSA-2048, relaxed/relaxed.  Each filter serves a UNIX socket in a process of
its own, and gets the same messages over four connections; its CPU time is counted, of all its threads.  Keys and policies are
known to both: no nameserver is asked.  ``all`` is SPF, reverse name, DKIM, ARC and DMARC at once, which OpenDKIM does not do:
it is compared with OpenDKIM that verifies.
"""

import argparse
import asyncio
import importlib.metadata
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from aiomilter import Connect, Context, EndOfMessageContext, Header, Mail, Milter, no_reply
from aiomilter.auth import Authenticator, ClientCheck, dkim
from aiomilter.auth.dkim._crypto import generate
from aiomilter.daemon import run
from aiomilter.dns import CachingResolver
from aiomilter.mta import connect
from aiomilter.testing.resolver import ZoneResolver
from benchmarks._contenders import Contender, machine, output, serving
from benchmarks._goals import judged, spread
from benchmarks.dkim import DOMAIN, SELECTOR, SIZES, message

CLIENT: Final = "192.0.2.1"
CONNECTIONS: Final = 4
CONFIGURATION: Final = """\
Mode {mode}
Socket local:{socket}
Domain {domain}
Selector {selector}
KeyFile {key}
TestPublicKeys {keys}
InternalHosts {hosts}
Canonicalization relaxed/relaxed
RequireSafeKeys no
Syslog no
"""
GOALS: Final = {
    "sign": {"2 kB": 0.55, "10 kB": 0.55, "1 MB": 0.6},
    "verify": {"2 kB": 0.6, "10 kB": 0.6, "1 MB": 0.6},
    # With OpenDMARC beside it, which is not measured, OpenDKIM would have more.
    "all": {"2 kB": 0.65, "10 kB": 0.65, "1 MB": 0.6},
}


class Sign(Milter):
    """Signs each message."""

    leading_space = True

    def __init__(self, signer: dkim.Signer) -> None:
        self.signer = signer

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        ctx.notes["signing"] = self.signer.start()

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        ctx.notes["signing"].header(header.raw)

    @no_reply
    async def eoh(self, ctx: Context) -> None:
        ctx.notes["signing"].end_of_headers()

    @no_reply
    async def body(self, ctx: Context, chunk: bytes) -> None:
        ctx.notes["signing"].body(chunk)

    async def eom(self, ctx: EndOfMessageContext) -> None:
        for value in await ctx.notes["signing"].finish():
            ctx.insert_header("DKIM-Signature", value)


class Verify(Milter):
    """Makes the checks of an Authenticator, and writes their results."""

    leading_space = True

    def __init__(self, auth: Authenticator) -> None:
        self.auth = auth
        self.client: ClientCheck | None = None

    async def connect(self, ctx: Context, connect: Connect) -> None:
        self.client = self.auth.client(ctx.client.ip)

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        assert self.client is not None
        check = ctx.notes["check"] = self.client.message(sender=mail.address, helo=ctx.helo)
        ctx.on_end(check.cancel)

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        ctx.notes["check"].header(header.raw)

    @no_reply
    async def eoh(self, ctx: Context) -> None:
        ctx.notes["check"].end_of_headers()

    @no_reply
    async def body(self, ctx: Context, chunk: bytes) -> None:
        ctx.notes["check"].body(chunk)

    async def eom(self, ctx: EndOfMessageContext) -> None:
        found = await ctx.notes["check"].finish(timeout=10.0)
        ctx.insert_header("Authentication-Results", str(found.results()))

    async def close(self, ctx: Context) -> None:
        if self.client is not None:
            self.client.cancel()


def serve(kind: str, loop: str, at: str, key_file: str) -> None:
    """Serve a filter until SIGTERM."""
    key = dkim.Key.load(key_file, domain=DOMAIN, selector=SELECTOR)
    zone = ZoneResolver(
        {
            f"{SELECTOR}._domainkey.{DOMAIN}": {"TXT": key.record().encode()},
            DOMAIN: {"TXT": f"v=spf1 ip4:{CLIENT} -all"},
            f"_dmarc.{DOMAIN}": {"TXT": "v=DMARC1; p=reject"},
            "1.2.0.192.in-addr.arpa": {"PTR": f"mx.{DOMAIN}"},
            f"mx.{DOMAIN}": {"A": CLIENT},
        }
    )
    makes: dict[str, Callable[[], Milter]] = {"sign": lambda: Sign(signer), "verify": lambda: Verify(auth)}
    if kind == "sign":
        signer = dkim.Signer([key])
    else:
        methods = {"dkim"} if kind == "verify" else {"spf", "iprev", "dkim", "arc", "dmarc"}
        auth = Authenticator(CachingResolver(zone), authserv_ids=["mx.example.net"], methods=methods)
    run(makes["sign" if kind == "sign" else "verify"], at, uvloop=loop == "uvloop", drain_timeout=1.0)


def contenders(folder: Path, key: Path) -> dict[str, Contender]:
    """Return who takes part; OpenDKIM only if it is installed."""

    def ours(loop: str) -> Callable[[str, str], list[str]]:
        return lambda kind, at: [sys.executable, "-m", "benchmarks", "auth", "--serve", kind, loop, at, str(key)]

    def opendkim(kind: str, at: str) -> list[str]:
        path = folder / "opendkim.conf"
        hosts = folder / "hosts"
        hosts.write_text(f"{CLIENT}\n" if kind == "sign" else "192.0.2.99\n")
        record = dkim.Key.load(key, domain=DOMAIN, selector=SELECTOR).record()
        (folder / "keys").write_text(f"{SELECTOR}._domainkey.{DOMAIN} {record}\n")
        path.write_text(
            CONFIGURATION.format(
                mode="s" if kind == "sign" else "v",
                socket=at.removeprefix("unix:"),
                domain=DOMAIN,
                selector=SELECTOR,
                key=key,
                keys=folder / "keys",
                hosts=f"refile:{hosts}",
            )
        )
        return ["opendkim", "-f", "-x", str(path)]

    version = importlib.metadata.version
    found = {
        f"aiomilter {loop}": Contender(f"aiomilter {loop}", f"cryptography {version('cryptography')}", ours(loop))
        for loop in ("asyncio", "uvloop")
    }
    try:
        said = output("dpkg-query", "-W", "-f=${Version}", "opendkim")
    except RuntimeError as error:
        print(f"OpenDKIM is missing: {error}")
    else:
        found["OpenDKIM"] = Contender("OpenDKIM", said, opendkim)
    return found


def cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has had, all threads; Linux makes a clock of its number."""
    return time.clock_gettime((~pid << 3) | 2)


async def play(at: str, octets: bytes, count: int, expected: str) -> None:
    """Send messages over all connections at once.

    Raises:
        RuntimeError: A message did not get the field that is expected of the filter.
    """

    async def one(number: int) -> None:
        async with connect(at) as session:
            await session.connect(f"mx.{DOMAIN}", CLIENT)
            await session.helo(f"mx.{DOMAIN}")
            for _ in range(count // CONNECTIONS):
                result = await session.send(octets, f"alice@{DOMAIN}", ["bob@example.net"])
                if expected not in str(result.edits):
                    raise RuntimeError(f"expected {expected!r}, found {result.answer} and {str(result.edits)[:300]}")

    await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))


def measure(contender: Contender, kind: str, octets: bytes, count: int, rounds: int, folder: Path) -> list[float]:
    """Return milliseconds of CPU a message, of each round."""
    at = f"unix:{folder / 'filter.sock'}"
    expected = "DKIM-Signature" if kind == "sign" else "dkim=pass"
    found = []
    with serving(contender, kind, at) as pid:
        asyncio.run(play(at, octets, CONNECTIONS, expected))
        for _ in range(rounds):
            before = cpu(pid)
            asyncio.run(play(at, octets, count, expected))
            found.append((cpu(pid) - before) * 1_000 / (count // CONNECTIONS * CONNECTIONS))
    return found


def main(arguments: list[str]) -> int:
    """Measure all contenders at all sizes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks auth", description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=[[], *GOALS], metavar="KIND", help=", ".join(GOALS))
    parser.add_argument("--count", type=int, default=200, help="messages a round; a tenth of large ones")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it works")
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(*options.serve)
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key = folder / "key.pem"
        key.touch(0o600)
        key.write_bytes(generate("rsa").pem())
        return compare(options, folder, key)


def compare(options: argparse.Namespace, folder: Path, key: Path) -> int:
    """Print the table, and everything as JSON; return 1 if a filter failed."""
    taking = contenders(folder, key)
    status, results = 0, {}
    count, rounds = (CONNECTIONS, 1) if options.quick else (options.count, options.rounds)
    for kind in options.kinds or GOALS:
        for shown, size in SIZES.items():
            octets = message(size)
            if kind != "sign":
                made = dkim.Key.load(key, domain=DOMAIN, selector=SELECTOR)
                octets = asyncio.run(dkim.sign(octets, made)) + octets
            number = max(CONNECTIONS, count // 10) if size > 100_000 else count
            medians: dict[str, Any] = {}
            for who, contender in taking.items():
                try:
                    found = measure(contender, kind, octets, number, rounds, folder)
                except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                    print(f"{kind:7}{shown:7}{who:20}failed: {error}", flush=True)
                    status = 1
                    continue
                medians[who] = statistics.median(found)
                print(f"{kind:7}{shown:7}{who:20}{medians[who]:9.3f} ms{spread(found):8.0%}", flush=True)
            for who in medians if "OpenDKIM" in medians else ():
                if who != "OpenDKIM":
                    ratio = medians[who] / medians["OpenDKIM"]
                    print(f"  {who}: {ratio:.2f} of OpenDKIM, {judged(ratio, GOALS[kind][shown])}")
            results[f"{kind} {shown}"] = medians
    versions = {who: each.version for who, each in taking.items()}
    text = json.dumps({"about": machine(), "versions": versions, "unit": "ms", "results": results})
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")
    return status
