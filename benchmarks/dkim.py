"""What signing and verifying a message costs, beside dkimpy: ``python -m benchmarks dkim``.

Messages of 2 kB, 10 kB and 1 MB, with 20 fields and one RSA-2048 signature, relaxed/relaxed; the key is known.  Each contender
runs in a process of its own, and its CPU time is counted: nothing waits.  ``--instructions`` counts instructions with
valgrind in place of time, for a machine that does other things as well.

Prints one line a contender and size and, at the end, everything as JSON.
"""

import argparse
import asyncio
import importlib.metadata
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from aiomilter.auth import dkim
from aiomilter.auth.dkim._crypto import generate
from aiomilter.dns import Answer, RdType

CONTENDERS: Final = ("aiomilter", "dkimpy", "floor")
SIZES: Final = {"2 kB": 2_000, "10 kB": 10_000, "1 MB": 1_000_000}
DOMAIN, SELECTOR = "example.com", "s1"
NOW: Final = 1_790_000_000


class Known:
    """Answers with the one key."""

    def __init__(self, record: str) -> None:
        self.answer = Answer(f"{SELECTOR}._domainkey.{DOMAIN}", "TXT", (record.encode(),), 300)

    async def lookup(self, name: str, rdtype: RdType, /) -> Answer:
        return self.answer


def message(size: int) -> bytes:
    """Return a message with 20 fields and a body of text."""
    fields = [b"From: Alice <alice@example.com>", b"To: Bob <bob@example.net>", b"Subject: Minutes of the meeting"]
    fields += [b"Date: Mon, 30 Nov 2026 10:00:00 +0000", b"Message-ID: <1@example.com>", b"MIME-Version: 1.0"]
    fields += [b"X-Field-%d: some text that a header field may have" % number for number in range(20 - len(fields))]
    line = b"The quick brown fox jumps over the lazy dog, again and again.\r\n"
    return b"\r\n".join(fields) + b"\r\n\r\n" + (line * (size // len(line) + 1))[:size] + b"\r\n"


def ours(octets: bytes, pem: bytes) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return what signs and what verifies a message, on a loop that is there already."""
    key = dkim.Key.from_pem(pem, domain=DOMAIN, selector=SELECTOR)
    loop = asyncio.new_event_loop()
    fields = loop.run_until_complete(dkim.sign(octets, key, now=NOW))
    resolver = Known(key.record())

    def verified() -> object:
        (found,) = loop.run_until_complete(dkim.verify(fields + octets, resolver=resolver, now=NOW))
        assert found.result == "pass"
        return found

    return lambda: loop.run_until_complete(dkim.sign(octets, key, now=NOW)), verified


def dkimpy(octets: bytes, pem: bytes) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return what signs and what verifies a message with dkimpy."""
    import dkim as library  # type: ignore[import-untyped]  # it has no types

    record = dkim.Key.from_pem(pem, domain=DOMAIN, selector=SELECTOR).record().encode()

    def signed() -> bytes:
        # What it takes besides crypto: no key cache.
        forms = (b"relaxed", b"relaxed")
        made: bytes = library.sign(octets, SELECTOR.encode(), DOMAIN.encode(), pem, canonicalize=forms)
        return made

    fields = signed()

    def verified() -> object:
        found = library.verify(fields + octets, dnsfunc=lambda name, timeout=5: record)
        assert found
        return found

    return signed, verified


def floor(octets: bytes, pem: bytes) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return the two operations of RSA alone, which nothing can do without."""
    private = dkim.Key.from_pem(pem, domain=DOMAIN, selector=SELECTOR).private
    digest = bytes(32)
    signature = private.sign(digest)
    public = private._key.public_key()
    from aiomilter.auth.dkim._crypto import PublicKey

    known = PublicKey("rsa", 2_048, public)
    return lambda: private.sign(digest), lambda: known.verify(signature, digest, "sha256")


def contend(name: str, size: int, count: int, pem: bytes) -> dict[str, float]:
    """Return milliseconds of CPU a message, least of five."""
    sign, verify = {"aiomilter": ours, "dkimpy": dkimpy, "floor": floor}[name](message(size), pem)
    found = {}
    for what, call in (("sign", sign), ("verify", verify)):
        call()
        best = float("inf")
        for _ in range(5):
            began = time.process_time()
            for _ in range(count):
                call()
            best = min(best, (time.process_time() - began) / count)
        found[what] = best * 1_000
    return found


def once(name: str, what: str, size: int, count: int, pem: bytes) -> None:
    """Sign or verify so many times, under a tool that counts instructions."""
    sign, verify = {"aiomilter": ours, "dkimpy": dkimpy, "floor": floor}[name](message(size), pem)
    for _ in range(count):
        (sign if what == "sign" else verify)()


def instructions(name: str, what: str, size: int, key: str) -> float:
    """Return instructions a message, in thousands: what three messages more take."""
    counted = []
    for count in (1, 4):
        with tempfile.NamedTemporaryFile() as out:
            command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}", sys.executable]
            command += ["-m", "benchmarks", "dkim", "--once", what, "--count", str(count), "--size", str(size)]
            run = subprocess.run(
                [*command, "--key", key, name], capture_output=True, text=True, check=True, timeout=900
            )
        found = re.search(r"Collected : (\d+)", run.stderr)
        assert found is not None, run.stderr
        counted.append(int(found[1]))
    return (counted[1] - counted[0]) / 3_000


def main(arguments: list[str]) -> int:
    """Run contenders, each in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks dkim", description=__doc__)
    parser.add_argument("contenders", nargs="*", choices=[[], *CONTENDERS], metavar="CONTENDER")
    parser.add_argument("--count", type=int, default=50, help="messages of 2 kB at once; fewer of larger ones")
    parser.add_argument(
        "--instructions", action="store_true", help="count instructions, with valgrind: minutes a figure"
    )
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--quick", action="store_true", help="shows whether all run")
    parser.add_argument("--once", choices=("sign", "verify"), help=argparse.SUPPRESS)
    parser.add_argument("--contend", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--key", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    count = 2 if options.quick else options.count
    if options.once:
        once(options.contenders[0], options.once, options.size, options.count, options.key.read_bytes())
        return 0
    if options.contend:
        print(json.dumps(contend(options.contenders[0], options.size, count, options.key.read_bytes())))
        return 0
    if options.instructions and shutil.which("valgrind") is None:
        parser.error("expected valgrind to be installed")
    with tempfile.NamedTemporaryFile(suffix=".pem") as key:
        key.write(generate("rsa").pem())
        key.flush()
        return run(options, count, key.name)


def run(options: argparse.Namespace, count: int, key: str) -> int:
    """Run contenders and print what they took."""
    results: dict[str, dict[str, Any]] = {}
    unit = "k instructions" if options.instructions else "ms"
    for shown, size in SIZES.items():
        for name in options.contenders or CONTENDERS:
            if options.instructions:
                found = {what: instructions(name, what, size, key) for what in ("sign", "verify")}
            else:
                number = str(max(1, count // 10) if size > 100_000 else count)
                command = [sys.executable, "-m", "benchmarks", "dkim", "--contend", "--count", number]
                command += ["--size", str(size), "--key", key, name]
                done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
                found = json.loads(done.stdout)
            results.setdefault(shown, {})[name] = found
            print(f"{shown:6} {name:10} sign {found['sign']:10.3f} verify {found['verify']:10.3f} {unit}", flush=True)
    versions = {name: importlib.metadata.version(name) for name in ("cryptography", "dkimpy")}
    versions["python"] = platform.python_version()
    text = json.dumps({"unit": unit, "versions": versions, "results": results})
    print(text)
    if options.json is not None:
        options.json.write_text(text)
    return 0
