"""What callbacks may return, and raise."""

from typing import Final

from tests.compat.cases.making import EVERYWHERE, HANGS, SESSION, at, once, tries
from tests.compat.playing import Case

__all__ = ["ANSWERS"]

_ODD: Final = (
    *("True", "False", "None", "'x'", "''", "1.0", "0.0", "b''", "[]", "(1,)", "object", "-1", "5", "6", "7", "8", "9"),
    *("10", "11", "99", "2**31", "2**32", "2**63", "-2**31", "2**70"),
)
_RAISED: Final = (
    *("1/0", "raise KeyboardInterrupt", "raise GeneratorExit"),
    *("raise BaseException('x')", "raise StopIteration", "raise Milter.error('x')", "raise MemoryError"),
    *("raise UnicodeDecodeError('utf-8', b'x', 0, 1, 'y')", "raise RecursionError", "self.missing"),
    "import asyncio; raise asyncio.CancelledError",
)
ANSWERS: Final = {
    **{
        f"{step} answers {verdict}": at(step, once(f"return Milter.{verdict}"))
        for step in EVERYWHERE
        for verdict in ("ACCEPT", "REJECT", "TEMPFAIL", "DISCARD", "SKIP", "NOREPLY", "ALL_OPTS")
    },
    **{f"{step} returns {odd}": at(step, once(f"return {odd}")) for step in EVERYWHERE for odd in _ODD},
    **{f"{step}: {raised}": at(step, once(raised)) for step in EVERYWHERE for raised in _RAISED},
    **{
        f"{step} raises after edits and a reply": at(
            step, once(tries("addheader('X', 'y')", "setreply('550', '5.7.1', 'text')", then="1/0"))
        )
        for step in EVERYWHERE
    },
    "eom raises after all edits": at(
        "eom",
        tries(
            "replacebody('x')",
            "chgfrom('<a@b>')",
            "addrcpt('<a@b>')",
            "addheader('X', 'y', 0)",
            "quarantine('why')",
            "progress()",
            "delrcpt('<bob@example.net>')",
            then="1/0",
        ),
    ),
    **{
        f"{step}: {raised}": at(step, once(raised))._replace(patience=HANGS, deadly=True)
        for step in ("connect", "envrcpt", "eom", "close")
        for raised in ("raise SystemExit", "raise SystemExit(3)")
    },
    "every callback raises": Case(SESSION, dict.fromkeys(EVERYWHERE, "1/0")),
    "every callback rejects": Case(SESSION, dict.fromkeys(EVERYWHERE, "return Milter.REJECT")),
    "exception with a text of two lines": at("envrcpt", "raise ValueError('a\\nb')"),
    "a class that is an int": at("envrcpt", "class I(int): pass\nreturn I(4)"),
    "an enum that is an int": at("envrcpt", "import enum\nclass E(enum.IntEnum):\n  A = 4\nreturn E.A"),
}
