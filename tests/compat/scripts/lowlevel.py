"""The module ``milter`` without the package: python lowlevel.py SOCKET PLAN RECORD SHAPE.

As driven.py; a body gets ``ctx``, ``a`` and ``n``.  SHAPE: ``callbacks``, ``register`` (which of the three that are
registered by keyword), ``flags``, ``policy``.
"""

import json
import os
import re
import sys

import milter

SOCKET, PLAN, RECORD, SHAPE = sys.argv[1:4] + [json.loads(sys.argv[4])]
RECORDS = os.open(RECORD, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
SETTERS = "connect helo envfrom envrcpt header eoh body eom abort close".split()


class State:
    """What a connection keeps."""

    def __init__(self):
        with open(PLAN) as plan:
            self.plan = json.load(plan)
        self.counts = {}


def shown(value):
    text = re.sub(r" at 0x[0-9a-f]+", "", ascii(value))
    return text if len(text) <= 400 else "%s...%d...%s" % (text[:100], len(text), text[-100:])


def tell(state, *words):
    os.write(RECORDS, (" ".join((str(state.plan["case"]), *words)) + "\n").encode("ascii"))


def attempt(ctx, name, *args, **kwargs):
    state = ctx.getpriv()
    call = "%s(%s)" % (name, ", ".join([*map(shown, args), *("%s=%s" % (k, shown(v)) for k, v in kwargs.items())]))
    try:
        result = getattr(ctx, name)(*args, **kwargs)
    except Exception as error:
        tell(state, "!", call, "raised", type(error).__module__ + "." + type(error).__name__, shown(str(error)))
        return None
    tell(state, ">", call, "returned", shown(result))
    return result


def made(name):
    def callback(ctx, *args):
        state = ctx.getpriv()
        if state is None:
            state = State()
            tell(state, "private", shown(ctx.setpriv(state)))
        state.counts[name] = state.counts.get(name, 0) + 1
        tell(state, name, type(ctx).__name__, *map(shown, args))
        if name not in state.plan:
            if name == "negotiate":
                args[0][1] &= milter.P_SKIP
            return milter.CONTINUE
        scope = {}
        body = "".join("\n " + line for line in state.plan[name].splitlines())
        exec("def act(ctx, a, n):" + body, globals(), scope)
        return scope["act"](ctx, args, state.counts[name])

    return callback


if __name__ == "__main__":
    for name in SHAPE.get("callbacks", SETTERS):
        old = getattr(milter, "set_%s_callback" % name)(made(name))
        assert old is None, old
    keywords = {name: made(name) for name in SHAPE.get("register", ["unknown", "data", "negotiate"])}
    milter.set_flags(SHAPE.get("flags", milter.CURR_ACTS))
    if "policy" in SHAPE:
        milter.set_exception_policy(getattr(milter, SHAPE["policy"]))
    milter.register(SHAPE.get("name", "low"), **keywords)
    milter.setconn("unix:" + SOCKET)
    milter.settimeout(60)
    milter.setbacklog(20)
    milter.opensocket(True)
    milter.main()
