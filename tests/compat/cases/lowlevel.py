"""The module milter alone, see scripts/lowlevel.py."""

from typing import Final

from tests.compat.cases.actions import FEW
from tests.compat.cases.making import SESSION, at, offered, once
from tests.compat.cases.negotiation import UNINTERRUPTED
from tests.compat.cases.values import VALUES
from tests.compat.playing import Case

__all__ = ["LOW", "LOW_ANSWERS_TO_OFFERS"]

_LOW_STEPS: Final = ("connect", "helo", "envfrom", "envrcpt", "data", "header", "eoh", "body", "eom", "unknown")


def _low(*calls: str, then: str = "return 0") -> str:
    """As :func:`tries`, on a bare context."""
    lines = (f"attempt(ctx, {call[: call.index('(')]!r}, {call[call.index('(') + 1 :]}" for call in calls)
    return "\n".join([*lines, then])


_LOW_FEW: Final = tuple(
    call.removeprefix("_ctx.") for call in FEW if not call.startswith("_ctx.") or "setsymlist" in call
)
LOW: Final = {
    **offered(),
    "session": Case(SESSION),
    **{
        f"{step} {source}": at(step, once(source).replace("Milter", "milter"))
        for step in (*_LOW_STEPS, "abort", "close")
        for source in (
            "1/0",
            "return None",
            "return Milter.REJECT",
            "return Milter.NOREPLY",
            "return 99",
            "return Milter.SKIP",
        )
    },
    **{f"all actions at {step}": at(step, _low(*_LOW_FEW)) for step in (*_LOW_STEPS, "abort", "close")},
    "private data": at(
        "helo",
        "old = ctx.setpriv(None)\nnow = ctx.getpriv()\nctx.setpriv(old)\n"
        "attempt(ctx, 'getpriv')\ntell(old, str(now))\nreturn 0",
    ),
    "private data that stays": at("close", "return 0"),
    "keywords": at(
        "eom", _low("addheader(field='X', value='y')", "getsymval(name='i')", "setreply(rcode='550', xcode='5.7.1')")
    ),
    **{f"values {name}": case for name, case in VALUES.items() if "macro" not in name},
}

LOW_ANSWERS_TO_OFFERS: Final = {
    "all actions": Case(UNINTERRUPTED, {"negotiate": _low(*_LOW_FEW)}),
    **{
        f"negotiate: {source}": Case(UNINTERRUPTED, {"negotiate": source})
        for source in (
            *(
                "1/0",
                "return None",
                "return milter.ALL_OPTS",
                "return milter.REJECT",
                "a[0][1] = 0\nreturn 0",
                "a[0][:2] = [0, 0]\nreturn 0",
            ),
            *(
                "ctx.setsymlist(3, 'i {rcpt_addr}')\nreturn milter.CONTINUE",
                "ctx.setsymlist(3, 'i')\nreturn milter.ALL_OPTS",
            ),
            *("ctx.setsymlist(3, 'i')\nctx.setsymlist(3, 'j')\nreturn milter.CONTINUE", "a[0][2] = 5\nreturn 0"),
        )
    },
    "everything is agreed": Case(UNINTERRUPTED, {"negotiate": "return 0"}),
}
