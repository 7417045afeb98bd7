"""Milliseconds a message behind the real Postfix and Sendmail: ``python -m benchmarks postfix [ROW...]``.

A private instance of each MTA takes mail on one port for each contender, asks that contender's filter over TCP or a UNIX
socket, and relays to a sink; sessions are timed from MAIL until the end of the message is answered, one alone and 20 at a time.
The filters change nothing, which is what suits libmilter best: one answers every stage, one the sender and the end of the
message, one the end only.  In a round the contenders take turns message by message, in an order that changes.  The table has
the median of the rounds' medians, the spread between the quartiles, and the median of the rounds' ratios to libmilter, which
is the program in C; a row without a filter says what the MTA takes by itself.

The MTAs need root and are those of the tests: Postfix is installed, and ``python -m tests.interop.rigs.sendmail`` unpacks
Sendmail.  What is absent is named and left out.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks import _contenders
from benchmarks._contenders import Contender
from benchmarks._goals import judged, rounds, spread
from benchmarks._interrupts import Interrupts
from tests.compat.rigs import pymilter
from tests.interop.rigs.mta import Rig, free_port
from tests.interop.rigs.postfix import Postfix
from tests.interop.rigs.sendmail import Sendmail

__all__ = ["main"]

MTAS: Final[dict[str, type[Rig]]] = {"postfix": Postfix, "sendmail": Sendmail}
SOCKETS: Final = ("tcp", "unix")
FILTERS: Final = {"every": "noop", "some": "sender", "eom": "end"}
"""Stages that are answered: the filter of ``benchmarks.filters``."""
SESSIONS: Final = {1: 60, 20: 10}
"""Sessions at a time: messages that each sends in a round, fewer where a contender's take more than SECONDS."""
SECONDS: Final = 0.5
NONE: Final = "no filter"
"""The port of the MTA that asks none: the row says what the MTA takes by itself."""
BASE: Final = "libmilter C"
OURS: Final = ("aiomilter asyncio", "aiomilter uvloop")
RATIO: Final = 1.05
"""The most that one of OURS may take, libmilter's time being 1."""
MILLISECONDS: Final = 10.0
"""The most that a message may take with one of OURS, over TCP in one session."""


class Setting(NamedTuple):
    """What stays the same while contenders take turns."""

    mta: str
    socket: str
    stages: str


SETTINGS: Final = {"-".join(each): Setting(*each) for each in product(MTAS, SOCKETS, FILTERS)}


def contenders(folder: Path, names: list[str] | None) -> _contenders.Field:
    """Build who takes part: ours, libmilter, and pymilter where the tests have built it."""
    wanted = [name for name in (*OURS, BASE, "aiomilter compat") if names is None or name in names]
    taking = _contenders.prepare(folder, wanted)
    if names is None or "pymilter" in names:
        if reason := pymilter.missing():
            taking.missing["pymilter"] = reason
        else:
            program = str(_contenders.PEERS / "classic.py")
            taking.contenders.append(Contender("pymilter", f"pymilter {pymilter.VERSION}", partial(_classic, program)))
    return taking


def _classic(program: str, kind: str, at: str) -> list[str]:
    return [str(pymilter.PYTHON), program, at, kind]


def where(rig: Rig, number: int, kind: str) -> str:
    """Return where a contender is to listen: the MTA has a user of its own, so no directory of ours."""
    return f"inet:{free_port()}@127.0.0.1" if kind == "tcp" else f"unix:{rig.directory}/s/{number}"


class Cast(NamedTuple):
    """What takes part in a setting: the MTA, and the process that sends."""

    rig: Rig
    client: "subprocess.Popen[str]"

    def once(self, sessions: int, messages: int) -> dict[str, float]:
        """Return the median milliseconds of a message by port, and leave the MTA with nothing to do."""
        assert self.client.stdin is not None
        assert self.client.stdout is not None
        ports = " ".join(map(str, self.rig.ports.values()))
        self.client.stdin.write(f"{sessions} {messages} {SECONDS} {ports}\n")
        self.client.stdin.flush()
        found = self.client.stdout.readline()
        if not found:
            raise RuntimeError(f"a message was not taken\n{self.rig.tail(5)}")
        asyncio.run(self.rig.settled())
        self.rig.deliveries.clear()
        return {port: statistics.median(took) for port, took in zip(self.rig.ports, json.loads(found), strict=True)}


@contextmanager
def played(taking: _contenders.Field, setting: Setting) -> Iterator[Cast]:
    """Run the MTA, every contender where the port of its name asks, and the client."""
    with ExitStack() as stack:
        rig = MTAS[setting.mta]()
        stack.callback(rig.stop)
        at = {each.name: where(rig, number, setting.socket) for number, each in enumerate(taking.contenders)}
        rig.ask({NONE: ()} | {name: (address,) for name, address in at.items()})
        for contender in taking.contenders:
            stack.enter_context(_contenders.serving(contender, FILTERS[setting.stages], at[contender.name]))
            if setting.socket == "unix":
                Path(at[contender.name].removeprefix("unix:")).chmod(0o666)
        rig.start()
        command = [sys.executable, "-m", "benchmarks._smtp_sessions"]
        client = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_contenders.HERE.parent,
            start_new_session=True,  # it is ended below, a Ctrl-C is no matter of its own
        )
        stack.enter_context(client)
        stack.callback(client.kill)
        yield Cast(rig, client)


def measure(cast: Cast, most: int, minutes: float | None, quick: bool) -> dict[int, dict[str, list[float]]]:
    """Return milliseconds of every round, by sessions at a time and contender."""
    seen: dict[int, dict[str, list[float]]] = {n: {port: [] for port in cast.rig.ports} for n in SESSIONS}
    for _ in rounds(most, minutes):
        for sessions, messages in SESSIONS.items():
            for port, took in cast.once(sessions, 1 if quick else messages).items():
                seen[sessions][port].append(took)
    return seen


def table(name: str, judging: Setting | None, sessions: int, seen: dict[str, list[float]]) -> dict[str, Any]:
    """Print the row of each contender, and return it with the goals that were missed, unless nothing is to be judged."""
    print(f"\n{name}, {sessions} at a time: {len(next(iter(seen.values())))} interleaved rounds")
    print(f"{'':20}{'ms':>8}{'spread':>8}{'ratio':>8}{'spread':>8}")
    rows: dict[str, Any] = {}
    for who, found in seen.items():
        row = rows[who] = {"ms": statistics.median(found), "spread": spread(found), "rounds": found}
        line = f"{who:20}{row['ms']:8.2f}{row['spread']:8.0%}"
        if BASE in seen:
            ratios = [one / other for one, other in zip(found, seen[BASE], strict=True)]
            row["ratio"], row["ratio_spread"] = statistics.median(ratios), spread(ratios)
            line += f"{row['ratio']:8.2f}{row['ratio_spread']:8.0%}"
        missed = row["missed"] = goals_missed(judging, sessions, row) if judging and who in OURS else []
        print(f"{line}  {'; '.join(missed)}".rstrip(), flush=True)
    return rows


def goals_missed(setting: Setting, sessions: int, row: dict[str, Any]) -> list[str]:
    """Return each goal that a row is to reach and does not."""
    missed = []
    if row.get("ratio", 0.0) > RATIO:
        missed.append(f"ratio: {judged(row['ratio'], RATIO)}")
    if setting.socket == "tcp" and sessions == 1 and row["ms"] > MILLISECONDS:
        missed.append(f"ms: {judged(row['ms'], MILLISECONDS)}")
    return missed


def summary(found: dict[str, Any]) -> None:
    """Print which rows miss a goal."""
    rows = [
        (f"{name}, {sessions} at a time, {who}", row["missed"])
        for name in SETTINGS
        for sessions, by_name in found.get(name, {}).items()
        for who, row in by_name.items()
        if who in OURS
    ]
    missing = [(row, missed) for row, missed in rows if missed]
    print(f"\nat most {RATIO} of {BASE}, at most {MILLISECONDS:g} ms over TCP in one session: ", end="")
    print(f"{len(rows) - len(missing)} of {len(rows)} rows reach it")
    for row, missed in missing:
        print(f"{row}: {'; '.join(missed)}")


def main(arguments: list[str]) -> int:
    """Measure the settings that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks postfix", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(SETTINGS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, help="as many rounds as fit, instead of --rounds")
    parser.add_argument("--quick", action="store_true", help="one short round of some rows, to see that it works")
    parser.add_argument("--only", action="append", metavar="CONTENDER")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    if unknown := set(options.rows) - SETTINGS.keys():
        parser.error(f"expected {', '.join(SETTINGS)}, found {', '.join(sorted(unknown))}")
    missing = {name: reason for name, kind in MTAS.items() if (reason := kind.missing())}
    asked = options.rows or [name for name, setting in SETTINGS.items() if setting.stages == "eom" or not options.quick]
    chosen = [name for name in asked if SETTINGS[name].mta not in missing]
    interrupts = Interrupts()
    failed = not chosen
    with interrupts.held(), tempfile.TemporaryDirectory() as folder:
        with interrupts.allowed():
            taking = contenders(Path(folder), options.only)
        taking.missing.update(missing)
        found: dict[str, Any] = {"about": _contenders.about(taking)}
        minutes = options.minutes and options.minutes / max(1, len(chosen))
        for name in chosen:
            try:
                with played(taking, SETTINGS[name]) as cast, interrupts.allowed():
                    found["about"]["versions"][cast.rig.name] = ".".join(map(str, cast.rig.version))
                    seen = measure(cast, 1 if options.quick else options.rounds, minutes, options.quick)
            except RuntimeError as error:
                print(f"\n{name}: failed, {error}", flush=True)
                failed = True
                continue
            judging = None if options.quick else SETTINGS[name]
            found[name] = {sessions: table(name, judging, sessions, each) for sessions, each in seen.items()}
    if not options.quick:
        summary(found)
    _contenders.report(found, options.json)
    return int(failed)
