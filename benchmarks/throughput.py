"""What a message costs in CPU, and how many a second: ``python -m benchmarks throughput [SCENARIO...]``.

Each contender serves the same filter in a process of its own; a generator in another sends the messages.  Rounds are
interleaved, so that what else the machine does meets all alike; the table has medians, the spread between the quartiles,
and the ratio to the first contender named in ``--base``.  The generator's own share of a processor is printed: near 1, it
would be the bottleneck.  A ratio holds for machines and interpreters of one kind, so what ``benchmarks probe`` finds is printed
first.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks import _contenders, probe
from benchmarks._contenders import Contender
from benchmarks._goals import judged, rounds, spread


class Scenario(NamedTuple):
    """What is sent: filter, options of the generator, messages a round, over TCP or not."""

    filter: str
    options: tuple[str, ...]
    messages: int
    tcp: bool = False


SIXTEEN: Final = ("--connections", "16", "--reuse", "1000000")
SCENARIOS: Final = {
    "typical": Scenario("typical", ("--scenario", "typical", *SIXTEEN), 4000),
    "noop": Scenario("noop", ("--scenario", "all-callbacks", *SIXTEEN), 2000),
    "headers": Scenario("typical", ("--scenario", "headers", *SIXTEEN), 1500),
    "body": Scenario("typical", ("--scenario", "bigbody", "--connections", "4", "--reuse", "1000000"), 200),
    "body-tcp": Scenario(
        "typical", ("--scenario", "bigbody", "--connections", "4", "--reuse", "1000000"), 200, tcp=True
    ),
    "connections": Scenario("typical", ("--scenario", "typical", "--connections", "16", "--reuse", "1"), 2000),
    "tcp": Scenario("typical", ("--scenario", "typical", "--connections", "1", "--reuse", "1000000"), 200, tcp=True),
    "waiting": Scenario("waiting", ("--scenario", "envelope", "--connections", "1000", "--reuse", "1000000"), 8000),
}

GOALS: Final = (
    # Scenario, what, who, against whom, the goal, whether it is the least.
    ("typical", "cpu_us", "aiomilter asyncio", "libmilter C", 0.50, False),
    ("typical", "cpu_us", "aiomilter uvloop", "libmilter C", 0.40, False),
    ("headers", "cpu_us", "aiomilter asyncio", "libmilter C", 0.32, False),
    ("headers", "cpu_us", "aiomilter uvloop", "libmilter C", 0.32, False),
    ("noop", "cpu_us", "aiomilter asyncio", "libmilter C", 0.95, False),
    ("noop", "cpu_us", "aiomilter uvloop", "libmilter C", 0.65, False),
    ("body", "cpu_us", "aiomilter asyncio", "pymilter", 1.15, False),
    ("body-tcp", "cpu_us", "aiomilter asyncio", "pymilter", 1.05, False),
    ("waiting", "per_second", "aiomilter asyncio", "pymilter", 3.0, True),
    ("tcp", "per_second", "aiomilter asyncio", "libmilter C", 40.0, True),
)


def once(taking: _contenders.Field, contender: Contender, scenario: Scenario, messages: int) -> dict[str, Any]:
    """Return what one round of one contender has found."""
    address = _contenders.address(taking, contender, tcp=scenario.tcp)
    with _contenders.serving(contender, scenario.filter, address) as pid:
        found = _contenders.send(
            taking.load, pid, address, *scenario.options, "--warmup", "0", "--messages", str(messages)
        )
    return {
        "cpu_us": found["server"]["cpu_s"] * 1e6 / found["messages"],
        "per_second": found["msg_per_s"],
        "generator": found["generator"]["cpu_util"],
    }


def measure(
    taking: _contenders.Field, name: str, most: int, minutes: float | None, share: float, base: str
) -> dict[str, Any]:
    """Measure all contenders in one scenario and print its table."""
    scenario = SCENARIOS[name]
    messages = max(20, int(scenario.messages * share))
    seen: dict[str, list[dict[str, Any]]] = {each.name: [] for each in taking.contenders}
    failed: dict[str, str] = {}
    done = 0
    for number in rounds(most, minutes):
        done = number + 1
        for contender in taking.contenders:
            if contender.name not in failed:
                try:
                    seen[contender.name].append(
                        once(taking, contender, scenario, max(20, int(messages * contender.pace)))
                    )
                except RuntimeError as error:
                    failed[contender.name] = str(error)
    medians = {
        who: {what: statistics.median(each[what] for each in found) for what in found[0]}
        for who, found in seen.items()
        if found and who not in failed
    }
    print(f"\n{name}: {done} interleaved rounds of {messages} messages")
    print(f"{'':20}{'CPU us':>10}{'spread':>8}{'ratio':>8}{'msg/s':>10}{'ratio':>8}{'generator':>11}")
    first = medians.get(base) or next(iter(medians.values()), None)
    for who, found in medians.items():
        assert first is not None
        found["spread"] = spread([each["cpu_us"] for each in seen[who]])
        found["cpu_ratio"] = found["cpu_us"] / first["cpu_us"] if first["cpu_us"] else float("nan")
        found["rate_ratio"] = found["per_second"] / first["per_second"]
        print(
            f"{who:20}{found['cpu_us']:10.1f}{found['spread']:8.0%}{found['cpu_ratio']:8.2f}"
            f"{found['per_second']:10.1f}{found['rate_ratio']:8.2f}{found['generator']:11.2f}"
        )
    for who, why in failed.items():
        print(f"{who:20}failed: {why}")
    for where, what, who, against, goal, least in GOALS:
        if where == name and who in medians and against in medians and medians[against][what]:
            ratio = medians[who][what] / medians[against][what]
            unit = "messages/s" if least else "CPU"
            print(f"{who}, {unit} against {against}: {ratio:.2f}, {judged(ratio, goal, least=least)}")
    return {"rounds": done, "messages": messages, "base": base, "medians": medians, "seen": seen, "failed": failed}


def main(arguments: list[str]) -> int:
    """Measure the scenarios that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks throughput", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--minutes", type=float, help="as many rounds as fit, instead of --rounds")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it works")
    parser.add_argument("--base", default="libmilter C", help="whom the others are compared with")
    parser.add_argument("--only", action="append", metavar="CONTENDER")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    if unknown := set(options.scenarios) - SCENARIOS.keys():
        parser.error(f"expected {', '.join(SCENARIOS)}, found {', '.join(sorted(unknown))}")
    _contenders.raise_limit()
    with tempfile.TemporaryDirectory() as name:
        taking = _contenders.prepare(Path(name), options.only)
        most, share = (1, 0.1) if options.quick else (options.rounds, 1.0)
        rounds_of_probe = 5 if options.quick else probe.ROUNDS
        found: dict[str, Any] = {
            "about": _contenders.about(taking),
            "interpreter": probe.interpreter(),
            "prices": probe.prices(rounds_of_probe),
        }
        print(*probe.lines(found["prices"], rounds_of_probe), sep="\n")
        chosen = options.scenarios or list(SCENARIOS)
        minutes = options.minutes and options.minutes / len(chosen)
        for scenario in chosen:
            found[scenario] = measure(taking, scenario, most, minutes, share, options.base)
        print()
        _contenders.report(found, options.json)
    return 0
