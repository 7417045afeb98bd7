"""Run benchmarks: ``python -m benchmarks NAME [ARGUMENTS]`` runs one, ``python -m benchmarks [--quick]`` all of ALL."""

import importlib
import sys
from pathlib import Path
from typing import Final

ALL: Final = ("throughput", "memory", "startup", "scaling", "gates")


def main(arguments: list[str]) -> int:
    """Run the benchmark that the first argument names; all of ALL when there is none."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py") if path.stem != "filters")
    if arguments in ([], ["--quick"]):
        status = 0
        for name in ALL:
            print(f"\n== {name}", flush=True)
            status |= main([name, *(arguments if name != "gates" else [])])
        return status
    if not arguments or arguments[0] not in names:
        print(f"usage: python -m benchmarks {{{','.join(names)}}} [ARGUMENTS]", file=sys.stderr)
        return 2
    result: int = importlib.import_module(f"benchmarks.{arguments[0]}").main(arguments[1:])
    return result


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
