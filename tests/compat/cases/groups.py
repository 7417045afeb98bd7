"""What is played to pymilter and to ours, by the class that it is played to."""

import os
from collections.abc import Mapping
from typing import Final

from tests.compat import generated
from tests.compat.cases.actions import ACTIONS, FEW, SAME
from tests.compat.cases.answers import ANSWERS
from tests.compat.cases.borrowed import borrowed
from tests.compat.cases.lowlevel import LOW, LOW_ANSWERS_TO_OFFERS
from tests.compat.cases.making import (
    ENVELOPE,
    EVERYWHERE,
    NEXT,
    SESSION,
    STEPS,
    Group,
    at,
    offered,
    once,
    tries,
)
from tests.compat.cases.negotiation import ANSWERS_TO_OFFERS, NEGOTIATION
from tests.compat.cases.replies import SETREPLY
from tests.compat.cases.values import VALUES
from tests.compat.playing import Case
from tests.peer import (
    ABORT,
    DATA,
    MESSAGE,
    OPENING,
    QUIT,
    header,
    unknown,
)

__all__ = ["GROUPS", "Group"]

_DECODED: Final = {
    name: case for name, case in VALUES.items() if "sender" in name or "recipient" in name or "header" in name
}
_LATE: Final = {
    f"{step}: {source}": Case(
        SESSION if more else OPENING + unknown() + MESSAGE + QUIT, {step: once(source) if more else source}
    )
    for step in (*STEPS[:-2], "unknown")
    for more in (True, False)
    for source in (
        *("1/0", "return Milter.REJECT", "return Milter.TEMPFAIL", "return Milter.ACCEPT", "return Milter.DISCARD"),
        *("return Milter.NOREPLY", "return Milter.SKIP", "return None", "return 99"),
        tries("setreply('550', '5.7.1', 'no')", then="return Milter.REJECT"),
    )
}
"""What a no-reply callback may do that is not silent."""

SHAPED: Final[Mapping[str, Group]] = {
    "answers": Group({}, ANSWERS),
    "setreply": Group({}, SETREPLY),
    "actions": Group({}, ACTIONS),
    "negotiation": Group({}, NEGOTIATION),
    "answers to offers": Group({}, ANSWERS_TO_OFFERS),
    "values": Group({}, VALUES),
    "no negotiate of its own": Group({"negotiate": False}, offered() | {"session": Case(SESSION)}),
    "no callback": Group({"callbacks": []}, offered()),
    "no callback, no negotiate": Group({"callbacks": [], "negotiate": False}, offered()),
    "content only": Group({"callbacks": ["header", "eoh", "body", "eom"]}, offered()),
    "no unknown": Group(
        {"callbacks": [name for name in EVERYWHERE if name != "unknown"]},
        {
            **offered(),
            "ABORT twice": Case(OPENING + ENVELOPE + ABORT * 3 + NEXT),
            "ABORT between messages": Case(OPENING + ABORT + MESSAGE + ABORT * 2 + NEXT),
        },
    ),
    "no reply": Group({"noreply": [*STEPS[:-2], "unknown"]}, offered() | _LATE),
    "no reply to content": Group(
        {"noreply": ["header", "body"], "callbacks": ["connect", "envfrom", "header", "body", "eom", "close", "abort"]},
        offered() | {"session": Case(SESSION), "abort": Case(OPENING + ENVELOPE + DATA + header() + ABORT + NEXT)},
    ),
    "no callback by decorator": Group(
        {"nocallback": ["hello", "data", "eoh"], "noreply": ["header"]}, offered() | {"session": Case(SESSION)}
    ),
    "everything by decorator": Group(
        {
            "nocallback": ["hello"],
            "noreply": ["header"],
            "decode": {"envfrom": "bytes"},
            "leading": True,
            "rejected": True,
        },
        offered() | {"session": Case(SESSION)},
    ),
    "leading space": Group(
        {"leading": True}, offered() | {f"field {n}": c for n, c in VALUES.items() if "header" in n}
    ),
    "protocols": Group({"mask": 0x100C00, "noreply": ["header"]}, offered()),
    "rejected recipients": Group({"rejected": True}, offered()),
    "symlist": Group(
        {"symlist": {"envrcpt": ["i", "{rcpt_addr}"], "connect": ["j", "{client_addr}", "v", "_", "{daemon_name}"]}},
        offered() | {"session": Case(SESSION)},
    ),
    "symlist and no reply": Group({"symlist": {"eom": ["i"], "eoh": ["i"]}, "noreply": ["header", "body"]}, offered()),
    **{
        f"decode {strategy}": Group(
            {"decode": {"envfrom": strategy, "envrcpt": strategy, "header": strategy}}, _DECODED
        )
        for strategy in ("bytes", "strict", "surrogateescape", "replace", "ignore", "backslashreplace", "nonsense")
    },
    **{
        f"policy {policy}": Group(
            {"policy": policy},
            {f"{step}: {raised}": at(step, once(raised)) for step in EVERYWHERE for raised in ("1/0", "return None")}
            | {f"values {name}": case for name, case in VALUES.items()},
        )
        for policy in ("CONTINUE", "REJECT", "TEMPFAIL", "ACCEPT")
    },
    "low level": Group({}, LOW, "lowlevel.py"),
    **{
        f"low level, flags {flags:#x}": Group({"flags": flags, "register": []}, LOW, "lowlevel.py")
        for flags in (0, 1, 0x3F, 0x1FF)
    },
    "low level, answers to offers": Group({}, LOW_ANSWERS_TO_OFFERS, "lowlevel.py"),
    "low level, no callback": Group({"callbacks": [], "register": []}, offered(), "lowlevel.py"),
    "low level, few callbacks": Group(
        {"callbacks": ["envfrom", "eom", "close"], "register": []}, offered(), "lowlevel.py"
    ),
    "low level, CONTINUE": Group({"policy": "CONTINUE"}, {"exception": at("envrcpt", "1/0")}, "lowlevel.py"),
    "a long name": Group({"name": "x" * 60}, {"exception": at("envrcpt", "1/0")}),
    "a name of octets": Group({"name": "caf\xe9 %s"}, {"exception": at("envrcpt", "1/0")}),
    "an empty name": Group({"name": ""}, {"exception": at("envrcpt", "1/0")}),
    "no flags": Group({"flags": 0}, {"edits": at("eom", tries(*FEW, then=SAME)), **offered()}),
}

_SEEDS: Final = range(int(os.environ.get("COMPAT_SEEDS", "100")))
"""Of each kind of class; set the variable to play more than CI has time for."""

GROUPS: Final[Mapping[str, Group]] = {
    **dict(borrowed()),
    **SHAPED,
    **{f"generated, {name}": Group(shape, generated.cases(name, _SEEDS)) for name, shape in generated.SHAPES.items()},
}
