"""What a filter does, as a text that a C program on libmilter reads, and a filter of ours.

A line is an instruction, its fields are separated by tabs::

    callbacks STEP...         the steps that have a callback; all ten if there is no such line
    silent STEP...            steps whose callback never answers
    negotiate HOW...          look: tell what was offered; refuse: refuse it; for libmilter alone: none for no callback
                              there, all for "all that is offered"
    require MASK              actions in hexadecimal that the filter cannot do without
    list STEP NAMES           a list of macros
    leading, rejected         ask for the space before header values, for recipients that the MTA refuses
    macros STEP NAME...       look these up at a step, and tell
    do STEP WHEN ACTION ...   WHEN is "each" or a number: the callback's so many-th call

An action is a verdict (``continue accept reject tempfail discard skip nonsense``), ``reply CODE ENHANCED LINE...`` with "-"
for no enhanced code, ``progress``, or an edit under libmilter's name: ``addheader insheader chgheader delheader replacebody
chgfrom addrcpt delrcpt quarantine``.  The last verdict counts.  In a field ``\\x0a`` is an octet; ``\\*70000`` is so many x.

Both tell a line for each callback, ``? NAME VALUE`` for each macro, ``! ACTION`` for an action that was refused.
"""

import asyncio
import re
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from aiomilter import Context, EndOfMessageContext, Milter, NegotiationError, Reply, no_reply
from aiomilter.exceptions import LocalProtocolError
from aiomilter.wire.constants import Action, Stage
from aiomilter.wire.events import Connect, Family, Header, Helo, Mail, Negotiate, Rcpt, Unknown
from aiomilter.wire.replies import Verdict

__all__ = ["do", "escaped", "filter_class", "told"]

STEPS: Final[Mapping[str, str]] = {
    "connect": "connect",
    "helo": "helo",
    "mail": "envfrom",
    "rcpt": "envrcpt",
    "data": "data",
    "header": "header",
    "eoh": "eoh",
    "body": "body",
    "eom": "eom",
    "unknown": "unknown",
}
"""Callback by step."""
_STAGES: Final = {"connect": 0, "helo": 1, "mail": 2, "rcpt": 3, "data": 4, "eoh": 6, "eom": 8}
_ALONE: Final = frozenset({"data", "eoh", "eom"})
_UNPRINTABLE: Final = re.compile(rb"[^ -~]|\\")
_ESCAPE: Final = re.compile(r"\\x([0-9a-f]{2})")


def escaped(text: str | bytes) -> str:
    """Write octets as a field."""
    octets = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return _UNPRINTABLE.sub(lambda match: b"\\x%02x" % match[0][0], octets).decode("ascii")


def unescaped(field: str) -> str:
    """Return the text that a field stands for."""
    if field.startswith("\\*"):
        return "x" * int(field[2:])
    octets = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), field).encode("latin-1")
    return octets.decode("utf-8", "surrogateescape")


def do(step: str, action: str, *args: object, when: object = "each") -> str:
    """Return the line for an action."""
    texts = map(str, args)
    fields = (f"\\*{len(text)}" if len(text) > 100 and not text.strip("x") else escaped(text) for text in texts)
    return "\t".join(["do", step, str(when), action, *fields]) + "\n"


def told(name: str, *fields: str | bytes) -> str:
    """Return a line as the C program writes it."""
    return "\t".join([name, *map(escaped, fields)])


class Scripted(Milter):
    """Does what its script says; its subclasses, by :func:`filter_class`, have callbacks."""

    script: ClassVar[list[list[str]]]
    told: ClassVar[list[str]]
    calls: ClassVar[Counter[str]]
    suspends: ClassVar[bool]

    async def abort(self, ctx: Context) -> None:
        self.told.append("abort")

    async def close(self, ctx: Context) -> None:
        self.told.append("close")

    async def answer(self, step: str, ctx: Context) -> Any:
        if self.suspends:
            await asyncio.sleep(0)
        self.calls[step] += 1
        for word, *rest in self.script:
            if word == "macros" and rest[0] == step:
                for name in rest[1:]:
                    value = ctx.macro(name)
                    self.told.append(told("?", name) if value is None else told("?", name, value))
        verdict: Any = None
        for word, *rest in self.script:
            if word == "do" and rest[0] == step and rest[1] in ("each", str(self.calls[step])):
                verdict = self.act(ctx, verdict, rest[2], *rest[3:])
        return verdict

    def act(self, ctx: Context, verdict: Any, action: str, *args: str) -> Any:
        if action.upper() in Verdict.__members__:
            return Verdict[action.upper()]
        if action == "nonsense":
            return 99
        try:
            if action == "reply":
                code, enhanced, *lines = args
                return Reply(int(code), None if enhanced == "-" else enhanced, *lines)
            if action == "progress":
                ctx.progress()
            elif isinstance(ctx, EndOfMessageContext):
                edit(ctx, action, args)
            else:
                raise LocalProtocolError("not here")
        except LocalProtocolError:
            self.told.append("! reply" if action == "reply" else told("!", action))
            return Verdict.TEMPFAIL if action == "reply" else verdict
        return verdict


def edit(ctx: EndOfMessageContext, action: str, args: tuple[str, ...]) -> None:
    first, *rest = args
    match action:
        case "addheader":
            ctx.add_header(first, rest[0])
        case "insheader":
            ctx.insert_header(rest[0], rest[1], int(first))
        case "chgheader":
            ctx.change_header(first, int(rest[0]), rest[1])
        case "delheader":
            ctx.delete_header(first, int(rest[0]))
        case "replacebody":
            ctx.replace_body(first.encode("utf-8", "surrogateescape"))
        case "chgfrom":
            ctx.change_sender(first, *" ".join(rest).split())
        case "addrcpt":
            ctx.add_recipient(first, *" ".join(rest).split())
        case "delrcpt":
            ctx.delete_recipient(first)
        case "quarantine":
            ctx.quarantine(first)
        case _:
            raise ValueError(action)


def fields(step: str, event: Any) -> list[str | bytes]:
    """Return what a callback is called with, as libmilter hands it out."""
    match event:
        case Connect(hostname, Family.UNKNOWN):
            return [hostname]
        case Connect(hostname, Family.UNIX, _, path):
            return [hostname, "unix", path]
        case Connect(hostname, family, port, address):
            if event.ip is not None:
                address = socket.inet_ntop(
                    socket.AF_INET6 if event.ip.version == 6 else socket.AF_INET, event.ip.packed
                )
            return [hostname, family.name.lower(), address, str(port)]
        case Helo(name):
            return [name]
        case Mail(path, params) | Rcpt(path, params):
            return [path, *params]
        case Header(name, value, separator):
            return [name, value, separator]
        case Unknown(line):
            return [line]
        case bytes():
            return [str(len(event)), event]
        case _:
            return []


def _callback(step: str) -> Callable[..., Any]:
    if step in _ALONE:

        async def alone(self: Scripted, ctx: Context) -> Any:
            self.told.append(step)
            return await self.answer(step, ctx)

        return alone

    async def callback(self: Scripted, ctx: Context, event: Any) -> Any:
        self.told.append(told(step, *fields(step, event)))
        return await self.answer(step, ctx)

    return callback


def filter_class(script: str, *, suspends: bool = False) -> type[Scripted]:
    """Make a filter that does what a script says; ``suspends`` has each of its callbacks wait for a turn of the loop."""
    lines = [[unescaped(field) for field in line.split("\t")] for line in script.splitlines()]
    said: dict[str, list[str]] = {}
    for word, *rest in lines:
        said.setdefault(word, []).extend(rest)
    members: dict[str, Any] = {STEPS[step]: _callback(step) for step in said.get("callbacks", STEPS)}
    for step in said.get("silent", ()):
        members[STEPS[step]] = no_reply(members[STEPS[step]])
    how = said.get("negotiate", ())
    heard: list[str] = []
    if {"look", "refuse"} & set(how):

        async def negotiate(self: Scripted, ctx: Context, offer: Negotiate) -> None:
            if "look" in how:
                # libmilter shows all bits for "no reply", since it can do without the MTA's help.
                self.told.append(told("negotiate", f"{offer.actions:#x}", f"{offer.protocol & ~0xFF080:#x}"))
            if "refuse" in how:
                raise NegotiationError("refused")

        members["negotiate"] = negotiate
    if "require" in said:
        members["actions"] = Action(int(said["require"][0], 16))
    lists = {Stage(_STAGES[rest[0]]): tuple(rest[1].split()) for word, *rest in lines if word == "list"}
    members |= {"macros": lists, "leading_space": "leading" in said, "rejected_recipients": "rejected" in said}
    members |= {"script": lines, "told": heard, "calls": Counter(), "suspends": suspends}
    return type("Filter", (Scripted,), members)
