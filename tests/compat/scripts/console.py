"""Evaluates expressions, each on a line of standard input, and tells what came of it on standard output.

A line that starts with a blank is executed instead.  What is printed meanwhile comes before the result.
"""

import re
import sys

import milter
import Milter


def shown(value):
    return re.sub(r" at 0x[0-9a-f]+", "", ascii(value))


SCOPE = {"Milter": Milter, "milter": milter, "shown": shown}
for line in sys.stdin.read().splitlines():
    try:
        if line.startswith(" "):
            exec(line.strip(), SCOPE)
            result = "done"
        else:
            result = shown(eval(line, SCOPE))
    except BaseException as error:
        result = "raised %s.%s %s" % (type(error).__module__, type(error).__name__, shown(str(error)))
    print("=", result, flush=True)
