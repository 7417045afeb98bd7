"""What a filter holds in memory: ``python -m benchmarks memory``.

Resident memory of the filter's process before any connection; what 1000 and 9000 connections add that have negotiated and
greeted and are idle since, the medians of interleaved rounds; and how much it grows between the first messages and the last of
200,000.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks import _contenders
from benchmarks._goals import judged, spread

CONNECTIONS: Final = (1000, 9000)
FIRST: Final = 5_000
"""Messages until everything is there that is made once."""


def idle(taking: _contenders.Field, contender: _contenders.Contender, connections: int) -> dict[str, float]:
    """Return base and octets a connection."""
    address = _contenders.address(taking, contender)
    with _contenders.serving(contender, "typical", address) as pid:
        options = ("--scenario", "typical", "--connections", str(connections), "--idle", "2")
        found = _contenders.send(taking.load, pid, address, *options)
    return {"base_kib": found["rss_before_kb"], "octets": found["rss_per_conn_bytes"]}


def all_idle(taking: _contenders.Field, connections: int, rounds: int) -> dict[str, Any]:
    """Return what each contender's rounds have found, and print their medians."""
    seen: dict[str, list[dict[str, float]]] = {contender.name: [] for contender in taking.contenders}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for contender in taking.contenders:
            if contender.name not in failed:
                try:
                    seen[contender.name].append(idle(taking, contender, connections))
                except RuntimeError as error:
                    failed[contender.name] = str(error)
    for name, found in seen.items():
        if name in failed:
            print(f"{name:20}{connections:7} failed: {failed[name]}")
            continue
        octets = [each["octets"] for each in found]
        base, median = statistics.median(each["base_kib"] for each in found), statistics.median(octets)
        print(f"{name:20}{connections:7}{base:10.0f}{median:13.0f}{spread(octets):8.0%}")
        if name.startswith("aiomilter ") and name != "aiomilter compat":
            print(f"{'':20}octets: {judged(median, 6 * 1024)}; base: {judged(base, 30 * 1024)}", flush=True)
    return {"seen": seen, "failed": failed}


def growth(taking: _contenders.Field, contender: _contenders.Contender, messages: int) -> dict[str, float]:
    """Return KiB after the first messages and after all."""
    address = _contenders.address(taking, contender)
    options = ("--scenario", "typical", "--connections", "16", "--reuse", "10", "--warmup", "0", "--messages")
    with _contenders.serving(contender, "typical", address) as pid:
        first = _contenders.send(taking.load, pid, address, *options, str(min(FIRST, messages)))
        last = _contenders.send(taking.load, pid, address, *options, str(messages))
    return {"first_kib": first["server"]["rss_kb"], "last_kib": last["server"]["rss_kb"], "messages": messages}


def main(arguments: list[str]) -> int:
    """Measure, print the table, and write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks memory", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="fewer connections and messages, to see that it works")
    parser.add_argument("--only", action="append", metavar="CONTENDER")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    limit = _contenders.raise_limit() - 100
    with tempfile.TemporaryDirectory() as name:
        taking = _contenders.prepare(Path(name), options.only)
        found: dict[str, Any] = {"about": _contenders.about(taking), "idle": {}, "growth": {}}
        print(f"{'':20}{'idle':>7}{'base KiB':>10}{'octets each':>13}{'spread':>8}")
        for connections in (200,) if options.quick else CONNECTIONS:
            if connections > limit:
                print(f"{connections} connections need more descriptors than the {limit} allowed")
                continue
            found["idle"][connections] = all_idle(taking, connections, 1 if options.quick else options.rounds)
        print(f"\n{'':20}{'messages':>10}{'first KiB':>11}{'last KiB':>10}")
        for contender in taking.contenders:
            if contender.name.startswith("aiomilter"):
                seen = growth(taking, contender, 2_000 if options.quick else 200_000)
                found["growth"][contender.name] = seen
                print(f"{contender.name:20}{seen['messages']:10}{seen['first_kib']:11.0f}{seen['last_kib']:10.0f}")
        print()
        _contenders.report(found, options.json)
    return 0
