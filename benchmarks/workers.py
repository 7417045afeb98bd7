"""How much more two workers do than one, with a filter that computes: ``python -m benchmarks workers [--quick]``.

Messages a second with one process and with two, in turns, and their ratio: with 64 connections that stay, and with a
connection for every message, 16 at a time.  The load is the generator in ``milterload.c``, in a process of its own; its share
of the CPU is printed, for it needs some of what the workers are to have.  So on a machine with two cores that does anything
else the ratio says more of that machine than of the workers.  Less depends on it what a message costs in CPU time with two
workers against one: 2 divided by that is the ratio on cores that are free.  How connections are shared is counted exactly in
``tests/life/test_workers.py``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiomilter import EndOfMessageContext, Milter, __version__, run
from benchmarks._contenders import machine
from benchmarks._goals import judged, rounds, spread

HERE = Path(__file__).parent
MODES = {
    "64 that stay": ["--connections", "64", "--reuse", "1000000"],
    "one a message": ["--connections", "16", "--reuse", "1"],
}
GOALS = {"64 that stay": 1.7, "one a message": 1.8}
LOOPS = ("asyncio", "uvloop")


class Busy(Milter):
    """Computes for about two milliseconds at the end of each message."""

    messages = 0

    async def eom(self, ctx: EndOfMessageContext) -> None:
        Busy.messages += 1
        sum(range(100_000))
        ctx.add_header("X-Seen", "yes")


@asynccontextmanager
async def factory() -> AsyncIterator[Callable[[], Milter]]:
    """At its end write how many messages this process has had, and what CPU time they took."""
    begin = time.process_time()
    yield Busy
    os.write(1, f"{Busy.messages} {time.process_time() - begin}\n".encode())


def measure(load: Path, mode: str, loop: str, workers: int, seconds: float) -> tuple[float, float, float]:
    """Return messages a second, CPU seconds a message, and the share of a core that the generator took."""
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "s"
        command = [sys.executable, "-m", "benchmarks.workers", str(socket), str(workers), loop]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent)
        try:
            while not socket.is_socket() and process.poll() is None:
                time.sleep(0.05)
            time.sleep(1.0)
            options = ["--duration", str(seconds), "--warmup", "0.5", "--json", "--expect", "continue", *MODES[mode]]
            done = subprocess.run([load, *options, f"unix:{socket}"], check=True, capture_output=True, text=True)
            process.terminate()
            out, _ = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
    said = json.loads(done.stdout)
    return said["msg_per_s"], _cost(out), said["generator"]["cpu_util"]


def _cost(out: str) -> float:
    rows = [line.split() for line in out.splitlines()]
    return sum(float(seconds) for _, seconds in rows) / sum(int(messages) for messages, _ in rows)


def main(arguments: list[str]) -> int:
    """Measure in interleaved rounds, and print the table and JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks workers")
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--minutes", type=float, help="as many rounds as fit, instead of --rounds")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    most, seconds = (2, 1.5) if options.quick else (options.rounds, 5.0)
    results = {}
    with tempfile.TemporaryDirectory() as name:
        load = Path(name) / "milterload"
        subprocess.run(["cc", "-O2", "-pthread", "-o", load, HERE / "milterload.c"], check=True)
        print(
            f"{'connections':16}{'loop':9}{'1 worker/s':>12}{'2 workers/s':>12}{'ratio':>7}{'spread':>8}{'cpu':>7}{'load':>7}"
        )
        for mode, goal in GOALS.items():
            for loop in LOOPS:
                rates: dict[int, list[float]] = {1: [], 2: []}
                costs: dict[int, list[float]] = {1: [], 2: []}
                ratios, shares = [], []
                for _ in rounds(most, options.minutes and options.minutes / len(GOALS) / len(LOOPS)):
                    for workers, found in rates.items():
                        rate, cost, share = measure(load, mode, loop, workers, seconds)
                        found.append(rate)
                        costs[workers].append(cost)
                        shares.append(share)
                    ratios.append(rates[2][-1] / rates[1][-1])
                one, two = (statistics.median(rates[number]) for number in (1, 2))
                ratio, cpu = statistics.median(ratios), statistics.median(costs[2]) / statistics.median(costs[1])
                results[f"{mode}, {loop}"] = {
                    "one": one, "two": two, "ratio": ratio, "ratios": ratios, "goal": goal, "cpu": costs, "load": shares
                }  # fmt: skip
                print(f"{mode:16}{loop:9}{one:12,.0f}{two:12,.0f}{ratio:7.2f}{spread(ratios):8.0%}{cpu:7.2f}"
                      f"{statistics.median(shares):7.2f}  {judged(ratio, goal, least=True)}", flush=True)  # fmt: skip
    print("cpu: CPU time a message with two workers / with one; load: share of a core for the generator")
    about = {**machine(), "aiomilter": __version__}
    found_all = json.dumps({"about": about, "results": results})
    print("; ".join(f"{name} {value}" for name, value in about.items()))
    if options.json:
        Path(options.json).write_text(found_all + "\n")
    return 0


if __name__ == "__main__":
    run(factory, sys.argv[1], workers=int(sys.argv[2]), uvloop=sys.argv[3] == "uvloop", drain_timeout=1.0)
