"""Look for texts that are slow to read: ``python -m tests.faults.growth [PARSER...] [--seed SEED] [--shapes N] [--size N]``.

Measures CPU time, which finds more than it proves: counts decide (see ``counting``).  Each text is doubled until it takes a
second or has the size; it is printed where the last steps cost more than three times as much as the one before, or where it
raises what its parser does not say.
"""

import argparse
import contextlib
import faulthandler
import gc
import time
from itertools import islice

from tests.faults.growth.parsers import PARSERS, Parser
from tests.faults.growth.shapes import Shape, shapes

LEAST = 0.004
"""Seconds below which a time says nothing."""


def cost(parser: Parser, shape: Shape, size: int) -> float:
    """Return the seconds it takes to read a text of a shape."""
    text = shape.text(size)
    began = time.process_time()
    with contextlib.suppress(*parser.raises):
        parser.read(text)
    return time.process_time() - began


def verdict(parser: Parser, shape: Shape, most: int) -> str:
    """Return what is wrong with the way a parser reads a shape; "" if nothing."""
    size, times = 1000, [0.0]
    try:
        for least in range(30):
            cost(parser, shape, least)
        while size <= most and times[-1] < 1:
            times.append(cost(parser, shape, size))
            size *= 2
    except BaseException as error:
        return f"{type(error).__name__} at {size}: {str(error)[:80]}"
    late = [now / before for before, now in zip(times[-3:], times[-2:], strict=False) if before > LEAST]
    if (len(late) == 2 and min(late) > 3) or times[-1] > 1:
        return f"{', '.join(f'{each * 1000:.0f}' for each in times[-4:])} ms at {size // 2}"
    return ""


def main() -> None:
    """Print what is found."""
    arguments = argparse.ArgumentParser(prog="python -m tests.faults.growth", description=__doc__)
    arguments.add_argument("parsers", nargs="*")
    arguments.add_argument("--seed", default="1")
    arguments.add_argument("--shapes", type=int, default=50)
    arguments.add_argument("--size", type=int, default=64_000)
    options = arguments.parse_args()
    gc.disable()
    for name in options.parsers or PARSERS:
        began, found = time.process_time(), 0
        for number, shape in enumerate(islice(shapes(f"{options.seed} {name}", PARSERS[name].atoms), options.shapes)):
            faulthandler.dump_traceback_later(60, exit=True)
            if what := verdict(PARSERS[name], shape, options.size):
                found += 1
                print(f"{name} {number}: {what}\n    {shape}", flush=True)
            faulthandler.cancel_dump_traceback_later()
            gc.collect(0)
        print(f"{name}: {found} of {options.shapes}, {time.process_time() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
