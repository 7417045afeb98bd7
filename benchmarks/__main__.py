"""Run one benchmark: ``python -m benchmarks NAME [ARGUMENTS]``."""

import importlib
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run the benchmark that the first argument names; list them when there is none."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    if not arguments or arguments[0] not in names:
        print(f"usage: python -m benchmarks {{{','.join(names)}}} [ARGUMENTS]", file=sys.stderr)
        return 2
    result: int = importlib.import_module(f"benchmarks.{arguments[0]}").main(arguments[1:])
    return result


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
