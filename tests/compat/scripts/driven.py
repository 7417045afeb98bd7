"""Does what a plan says, and tells what it is called with: python driven.py SOCKET PLAN RECORD [SHAPE].

SHAPE is JSON, what the class is like: ``callbacks`` (all if missing), ``noreply`` and ``nocallback`` (names of callbacks),
``symlist`` and ``decode`` (by callback), ``leading`` and ``rejected`` (class decorators), ``policy``, ``flags``.  PLAN is a
file of JSON, read at each new connection: for each callback the body of a function of ``self``, ``a`` (what it was called
with) and ``n`` (its so many-th call); ``factory`` is run before an instance is made.
"""

import json
import os
import re
import sys
import threading

import Milter

SOCKET, PLAN, RECORD = sys.argv[1:4]
SHAPE = json.loads(sys.argv[4]) if len(sys.argv) > 4 else {}
ALL = "connect hello envfrom envrcpt data header eoh body eom abort close unknown".split()
LOCAL = threading.local()
RECORDS = os.open(RECORD, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def tell(case, *words):
    """One line, whole, from whichever thread."""
    os.write(RECORDS, (" ".join((str(case), *words)) + "\n").encode("ascii"))


def shown(value):
    """What is told of a value: its type can be seen, and a long one is told by its begin and end."""
    text = re.sub(r" at 0x[0-9a-f]+", "", ascii(value))
    return text if len(text) <= 400 else "%s...%d...%s" % (text[:100], len(text), text[-100:])


class Remade(Exception):
    """The plan has the factory make something else."""


class Driven(Milter.Base):
    def __init__(self):
        self.counts = {}
        with open(PLAN) as plan:
            self.plan = json.load(plan)
        if "factory" in self.plan:
            exec(self.plan["factory"], globals(), {"self": self})
        self.tell("made")

    def tell(self, *words):
        tell(self.plan["case"], *words)

    def attempt(self, name, *args, **kwargs):
        """Call a method, or one of the context's, and tell what came of it."""
        named = "".join(", %s=%s" % (key, shown(value)) for key, value in kwargs.items())
        call = "%s(%s%s)" % (name, ", ".join(map(shown, args)), named)
        try:
            function = self
            for word in name.split("."):
                function = getattr(function, word)
            result = function(*args, **kwargs)
        except Exception as error:
            self.tell("!", call, "raised", type(error).__module__ + "." + type(error).__name__, shown(str(error)))
            return None
        self.tell(">", call, "returned", shown(result))
        return result

    def look(self, *names):
        for name in names:
            self.attempt("getsymval", name)

    def odd(self):
        """What is odd about the thread that this is called on.

        Its number may change: libmilter's workers take turns.  What a program keeps in threading.local() does not.
        """
        if not self.counts:
            LOCAL.owner = self
        found = ["main-thread"] if threading.current_thread() is threading.main_thread() else []
        return found if LOCAL.owner is self else [*found, "local-lost"]

    def called(self, name, *args):
        odd = self.odd()
        self.counts[name] = self.counts.get(name, 0) + 1
        self.tell(name, *map(shown, args), *odd)
        if name not in self.plan:
            return Milter.CONTINUE
        scope = {}
        body = "".join("\n " + line for line in self.plan[name].splitlines())
        exec("def act(self, a, n):" + body, globals(), scope)
        return scope["act"](self, args, self.counts[name])


def connect(self, hostname, family, hostaddr):
    return self.called("connect", hostname, family, hostaddr)


def hello(self, name):
    return self.called("hello", name)


def envfrom(self, f, *params):
    return self.called("envfrom", f, *params)


def envrcpt(self, to, *params):
    return self.called("envrcpt", to, *params)


def data(self):
    return self.called("data")


def header(self, name, value):
    return self.called("header", name, value)


def eoh(self):
    return self.called("eoh")


def body(self, chunk):
    return self.called("body", chunk)


def eom(self):
    return self.called("eom")


def abort(self):
    return self.called("abort")


def close(self):
    return self.called("close")


def unknown(self, cmd):
    return self.called("unknown", cmd)


def negotiate(self, opts):
    self.tell("offered", shown(opts))
    if "negotiate" in self.plan:
        scope = {}
        exec(
            "def act(self, opts):" + "".join("\n " + line for line in self.plan["negotiate"].splitlines()),
            globals(),
            scope,
        )
        answer = scope["act"](self, opts)
        self.tell("agreed", shown(opts))
        return answer
    answer = Milter.Base.negotiate(self, opts)
    self.tell("agreed", shown(opts), shown(answer), shown(self._protocol), shown(self._actions))
    return answer


def made():
    """Make the class of that shape."""
    members = {}
    for name in SHAPE.get("callbacks", ALL):
        function = globals()[name]
        if name in SHAPE.get("symlist", {}):
            function = Milter.symlist(*SHAPE["symlist"][name])(function)
        if name in SHAPE.get("decode", {}):
            function = Milter.decode(SHAPE["decode"][name])(function)
        if name in SHAPE.get("noreply", ()):
            function = Milter.noreply(function)
        if name in SHAPE.get("nocallback", ()):
            function = Milter.nocallback(function)
        members[name] = function
    if SHAPE.get("negotiate", True):
        members["negotiate"] = negotiate
    kind = type("Shaped", (Driven,), members)
    if SHAPE.get("rejected"):
        kind = Milter.rejected_recipients(kind)
    if SHAPE.get("leading"):
        kind = Milter.header_leading_space(kind)
    if "mask" in SHAPE:
        kind = Milter.enable_protocols(kind, SHAPE["mask"])
    return kind


if __name__ == "__main__":
    KIND = made()
    MAKE = None

    def factory():
        try:
            return KIND()
        except Remade:
            return MAKE()

    Milter.factory = factory
    Milter.set_flags(SHAPE.get("flags", Milter.CURR_ACTS))
    if "policy" in SHAPE:
        Milter.set_exception_policy(getattr(Milter, SHAPE["policy"]))
    Milter.runmilter(SHAPE.get("name", "driven"), SOCKET, 60)
