"""Run benchmarks: ``python -m benchmarks NAME [ARGUMENTS]`` runs one, ``python -m benchmarks`` all of ALL.

Without a name: ``--minutes N`` makes as many rounds as fit into about N minutes (FIXED of them go to what has no rounds, so
that it is to be more; 60 are enough for nine rounds of most), ``--quick`` shows whether all run, and its figures mean nothing.
Each writes its JSON into benchmarks/results/, or the folder that ``--results`` names.
"""

import argparse
import importlib
import sys
import time
from pathlib import Path
from typing import Final

ALL: Final = {
    "probe": 0.0,
    "startup": 0.0,
    "memory": 0.0,
    "throughput": 0.45,
    "classic": 0.06,
    "postfix": 0.31,
    "scaling": 0.1,
    "workers": 0.08,
    "gates": 0.0,
}
"""Each with its share of the time that is left after those that have no rounds."""
FIXED: Final = 10.0
"""Minutes that probe, memory, startup and gates take together."""


def everything(arguments: list[str]) -> int:
    """Run all of ALL, and return 1 if one has failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--minutes", type=float, help="for all together")
    parser.add_argument("--quick", action="store_true", help="shows whether all run")
    parser.add_argument("--results", metavar="FOLDER", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args(arguments)
    if options.minutes is not None and options.minutes <= FIXED:
        parser.error(f"expected more than {FIXED:g} minutes, found {options.minutes:g}")
    options.results.mkdir(parents=True, exist_ok=True)
    status = 0
    for name, share in ALL.items():
        print(f"\n== {name}", flush=True)
        given = ["--json", str(options.results / f"{name}.json")]
        if options.quick:
            given.append("--quick")
        elif share and options.minutes is not None:
            given += ["--minutes", str((options.minutes - FIXED) * share)]
        started = time.monotonic()
        try:
            status |= main([name, *given])
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the others are to be measured all the same
            print(f"{name}: failed, {error}", flush=True)
            status = 1
        print(f"{name} took {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
    return status


def main(arguments: list[str]) -> int:
    """Run the benchmark that the first argument names; all of ALL when there is none."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py") if path.stem != "filters")
    if not arguments or arguments[0].startswith("-"):
        return everything(arguments)
    if arguments[0] not in names:
        print(f"usage: python -m benchmarks {{{','.join(names)}}} [ARGUMENTS]", file=sys.stderr)
        return 2
    result: int = importlib.import_module(f"benchmarks.{arguments[0]}").main(arguments[1:])
    return result


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
