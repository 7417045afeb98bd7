"""Whether cost grows in proportion: ``python -m benchmarks scaling``.

CPU a message with 16 and with 9000 connections open, all at work; CPU an octet of bodies of 1 MiB and of 25 MiB.  The two
sides are measured in turns; the ratio of their medians is what counts.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks import _contenders
from benchmarks._goals import judged, rounds

MIB: Final = 1 << 20


def cost(taking: _contenders.Field, contender: _contenders.Contender, *options: str) -> float:
    """Return microseconds of CPU a message, once all connections are open."""
    address = _contenders.address(taking, contender)
    with _contenders.serving(contender, "typical", address) as pid:
        found = _contenders.send(taking.load, pid, address, "--scenario", "typical", "--reuse", "1000000", *options)
    return float(found["server"]["cpu_s"] * 1e6 / found["messages"])


def main(arguments: list[str]) -> int:
    """Measure, print the ratios, and write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scaling", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--minutes", type=float, help="as many rounds as fit, instead of --rounds")
    parser.add_argument("--quick", action="store_true", help="one round with less, to see that it works")
    parser.add_argument("--only", action="append", metavar="CONTENDER", default=None)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    most_rounds = 1 if options.quick else options.rounds
    many = min(1000 if options.quick else 9000, _contenders.raise_limit() - 100)
    seconds = ("--warmup", "1", "--duration", "1") if options.quick else ("--warmup", "5", "--duration", "10")
    bodies = 2 if options.quick else 20
    size = ("--connections", "1", "--warmup", "0", "--messages")
    with tempfile.TemporaryDirectory() as name:
        taking = _contenders.prepare(Path(name), options.only or ["aiomilter asyncio", "aiomilter uvloop"])
        found: dict[str, Any] = {"about": _contenders.about(taking)}
        for contender in taking.contenders:
            few, most, small, large = [], [], [], []
            for _ in rounds(most_rounds, options.minutes and options.minutes / len(taking.contenders)):
                few.append(cost(taking, contender, "--connections", "16", *seconds))
                most.append(cost(taking, contender, "--connections", str(many), *seconds))
                small.append(cost(taking, contender, *size, str(bodies * 25), "--body", str(MIB)) / MIB)
                large.append(cost(taking, contender, *size, str(bodies), "--body", str(25 * MIB)) / 25 / MIB)
            connections = statistics.median(most) / statistics.median(few)
            octets = statistics.median(large) / statistics.median(small)
            found[contender.name] = {"connections": connections, "octets": octets, "many": many, "rounds": len(few)}
            print(
                f"{contender.name}: a message with {many} connections against 16: {connections:.2f}, {judged(connections, 1.5)}"
            )
            print(
                f"{contender.name}: an octet of 25 MiB against 1 MiB: {octets:.2f}, {judged(octets, 1.1)}", flush=True
            )
        _contenders.report(found, options.json)
    return 0
