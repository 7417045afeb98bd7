"""What authenticating a message costs a filter, beside others: ``python -m benchmarks auth``.

Messages of 2 kB, 10 kB and 1 MB, with 20 fields; RSA-2048, relaxed/relaxed.  Each filter serves a UNIX socket in a process of
its own, and gets the same messages over four connections; its CPU time is counted, of all its threads.  Keys and policies are
known to all: no nameserver is asked.  ``sign`` and ``verify`` are compared with OpenDKIM, dkimpy-milter is shown.  ``all`` is
SPF, reverse name, DKIM, ARC and DMARC at once, compared with OpenDKIM that verifies and OpenDMARC that reads what others have
found of DKIM and SPF, one after the other.  ``gateway`` is the same by the ready filter ``authenticate``, as a configuration
file composes it.

All filters of a comparison run at once, and have their turn in each round: a ratio is the median of those of the rounds, so
that a machine that does other things slows down both.
"""

import argparse
import asyncio
import contextlib
import getpass
import importlib.metadata
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from aiomilter import Connect, Context, EndOfMessageContext, Header, Mail, Milter, filters, no_reply
from aiomilter.auth import Authenticator, ClientCheck, dkim
from aiomilter.auth.dkim._crypto import generate
from aiomilter.compose import compose
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
DMARC_CONFIGURATION: Final = """\
AuthservID {name}
Socket local:{socket}
SPFSelfValidate false
IgnoreHosts /dev/null
TestDNSData {zone}
Syslog false
"""
DKIMPY_CONFIGURATION: Final = """\
Mode {mode}
Socket local:{socket}
Domain {domain}
Selector {selector}
KeyFile {key}
DNSOverride {record}
InternalHosts {hosts}
Canonicalization relaxed/relaxed
AuthservID {name}
UserID {user}
PidFile {folder}/dkimpy.pid
Syslog no
"""
NAME: Final = "mx.example.net"
FOUND: Final = f"Authentication-Results: {NAME}; dkim=pass header.d={DOMAIN}; spf=pass smtp.mailfrom=alice@{DOMAIN}\r\n"
# Whom a filter is compared with: what these cost together.
PEERS: Final[dict[str, tuple[str, ...]]] = {
    "sign": ("OpenDKIM",),
    "verify": ("OpenDKIM",),
    "all": ("OpenDKIM", "OpenDMARC"),
}
PEERS["gateway"] = PEERS["all"]
SHOWN: Final = {"sign": ("dkimpy-milter",), "verify": ("dkimpy-milter",), "all": (), "gateway": ()}
GOALS: Final = {
    "sign": {"2 kB": 0.55, "10 kB": 0.55, "1 MB": 0.6},
    "verify": {"2 kB": 0.6, "10 kB": 0.6, "1 MB": 0.6},
    "all": {"2 kB": 0.65, "10 kB": 0.65, "1 MB": 0.6},
    "gateway": {"2 kB": 0.65, "10 kB": 0.65, "1 MB": 0.65},
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
    if kind == "gateway":
        site = filters.Site(hostname=NAME, internal=("198.51.100.0/24",), resolver=CachingResolver(zone))
        run(compose(filters.Authenticate(dmarc="enforce"), site=site), at, uvloop=loop == "uvloop", drain_timeout=1.0)
        return
    if kind == "sign":
        signer = dkim.Signer([key])
    else:
        methods = {"dkim"} if kind == "verify" else {"spf", "iprev", "dkim", "arc", "dmarc"}
        auth = Authenticator(CachingResolver(zone), authserv_ids=[NAME], methods=methods)
    run(makes["sign" if kind == "sign" else "verify"], at, uvloop=loop == "uvloop", drain_timeout=1.0)


def contenders(folder: Path, key: Path) -> dict[str, Contender]:
    """Return who takes part; the others only if they are installed."""

    def ours(loop: str) -> Callable[[str, str], list[str]]:
        return lambda kind, at: [sys.executable, "-m", "benchmarks", "auth", "--serve", kind, loop, at, str(key)]

    record = dkim.Key.load(key, domain=DOMAIN, selector=SELECTOR).record()
    (folder / "keys").write_text(f"{SELECTOR}._domainkey.{DOMAIN} {record}\n")
    (folder / "zone").write_text(f"_dmarc.{DOMAIN} v=DMARC1; p=reject\n")

    def configured(file: str, text: str, kind: str, at: str) -> str:
        """Write a configuration, and return where."""
        hosts, signs = folder / f"{file}.hosts", kind == "sign"
        hosts.write_text(f"{CLIENT}\n" if signs else "192.0.2.99\n")
        # dkimpy-milter has a list in place of a file.
        of_file = {"hosts": f"refile:{hosts}" if file == "opendkim" else hosts.read_text().strip()}
        values = {"domain": DOMAIN, "selector": SELECTOR, "key": key, "keys": folder / "keys", "record": record}
        values |= {"name": NAME, "user": getpass.getuser(), "folder": folder, "zone": folder / "zone"}
        # It does not start where an earlier one has left its number.
        (folder / "dkimpy.pid").unlink(missing_ok=True)
        path = folder / f"{file}.conf"
        path.write_text(text.format(mode="s" if signs else "v", socket=at.removeprefix("unix:"), **values, **of_file))
        return str(path)

    version = importlib.metadata.version
    found = {
        f"aiomilter {loop}": Contender(f"aiomilter {loop}", f"cryptography {version('cryptography')}", ours(loop))
        for loop in ("asyncio", "uvloop")
    }
    others: dict[str, Callable[[str, str], list[str]]] = {
        "OpenDKIM": lambda kind, at: ["opendkim", "-f", "-x", configured("opendkim", CONFIGURATION, kind, at)],
        "OpenDMARC": lambda kind, at: ["opendmarc", "-f", "-c", configured("opendmarc", DMARC_CONFIGURATION, kind, at)],
        "dkimpy-milter": lambda kind, at: ["dkimpy-milter", configured("dkimpy", DKIMPY_CONFIGURATION, kind, at)],
    }
    for name, command in others.items():
        try:
            said = output("dpkg-query", "-W", "-f=${Version}", name.lower())
        except RuntimeError as error:
            print(f"{name} is missing: {error}")
        else:
            found[name] = Contender(name, said, command)
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


def expected(who: str, kind: str) -> str:
    """Return what a filter's field has if it did its work."""
    if who == "OpenDMARC":
        return "dmarc=pass"
    return "DKIM-Signature" if kind == "sign" else "dkim=pass"


def measure(
    taking: Mapping[str, Contender], kind: str, octets: bytes, count: int, rounds: int, folder: Path
) -> dict[str, list[float]]:
    """Return milliseconds of CPU a message, of each round, of each filter; those that fail are left out."""
    found: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        served: dict[str, tuple[int, str]] = {}
        for who, contender in taking.items():
            at = f"unix:{folder / who.replace(' ', '-')}.sock"
            try:
                pid = stack.enter_context(serving(contender, kind, at))
                asyncio.run(play(at, given(who, octets), CONNECTIONS, expected(who, kind)))
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                print(f"{kind:8}{who:20}failed: {error}", flush=True)
            else:
                served[who], found[who] = (pid, at), []
        for _ in range(rounds):
            for who, (pid, at) in served.items():
                before = cpu(pid)
                asyncio.run(play(at, given(who, octets), count, expected(who, kind)))
                found[who].append((cpu(pid) - before) * 1_000 / (count // CONNECTIONS * CONNECTIONS))
    return found


def given(who: str, octets: bytes) -> bytes:
    """Return a message as a filter gets it: OpenDMARC goes by what others have found."""
    return FOUND.encode() + octets if who == "OpenDMARC" else octets


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
    there = contenders(folder, key)
    status, results = 0, {}
    count, rounds = (CONNECTIONS, 1) if options.quick else (options.count, options.rounds)
    for kind in options.kinds or GOALS:
        wanted = [who for who in there if who.startswith("aiomilter") or who in (*PEERS[kind], *SHOWN[kind])]
        for shown, size in SIZES.items():
            octets = message(size)
            if kind != "sign":
                made = dkim.Key.load(key, domain=DOMAIN, selector=SELECTOR)
                octets = asyncio.run(dkim.sign(octets, made)) + octets
            number = max(CONNECTIONS, count // 10) if size > 100_000 else count
            found = measure({who: there[who] for who in wanted}, kind, octets, number, rounds, folder)
            status |= len(found) < len(wanted)
            for who, each in found.items():
                print(f"{kind:8}{shown:7}{who:20}{statistics.median(each):9.3f} ms{spread(each):8.0%}", flush=True)
            results[f"{kind} {shown}"] = {who: statistics.median(each) for who, each in found.items()} | judge(
                kind, shown, found
            )
    versions = {who: each.version for who, each in there.items()}
    text = json.dumps({"about": machine(), "versions": versions, "unit": "ms", "results": results})
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")
    return status


def judge(kind: str, shown: str, found: Mapping[str, list[float]]) -> dict[str, float]:
    """Print how ours compare, and return it; nothing where one of those to compare with is missing."""
    peers = PEERS[kind]
    if not found.keys() >= set(peers):
        return {}
    theirs = [sum(each) for each in zip(*(found[peer] for peer in peers), strict=True)]
    ratios = {}
    for who in (who for who in found if who.startswith("aiomilter")):
        ratio = statistics.median(mine / other for mine, other in zip(found[who], theirs, strict=True))
        ratios[f"{who} of {' + '.join(peers)}"] = round(ratio, 3)
        print(f"  {who}: {ratio:.2f} of {' + '.join(peers)}, {judged(ratio, GOALS[kind][shown])}")
    return ratios
