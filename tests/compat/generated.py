"""Conversations made at random from a seed, legal ones and such as no MTA sends, with callbacks that do anything.

Left out is what ours does otherwise by design (improvements.txt): a difference here is never expected.
"""

from collections.abc import Mapping
from random import Random
from typing import Any, Final

from aiomilter.wire.constants import ALL_ACTIONS, ALL_PROTOCOL, NR_FLAGS
from tests.compat.playing import Case
from tests.peer import (
    ABORT,
    DATA,
    EOH,
    EOM,
    ONLY_BASIC,
    QUIT,
    QUIT_NC,
    body,
    connect,
    header,
    helo,
    macros,
    mail,
    offer,
    rcpt,
    unknown,
)

__all__ = ["SHAPES", "cases"]

SHAPES: Final[Mapping[str, Mapping[str, Any]]] = {
    "all callbacks": {},
    "no-reply content": {"noreply": ["header", "body"]},
    "no reply": {"noreply": ["connect", "hello", "envfrom", "envrcpt", "data", "header", "eoh", "body", "unknown"]},
    # Without envfrom pymilter tells of each ABORT, whether a message is open or not.
    "content only": {"callbacks": ["envfrom", "header", "eoh", "body", "eom", "unknown", "abort", "close"]},
    "envelope only": {"callbacks": ["connect", "hello", "envfrom", "envrcpt", "eom", "unknown", "abort", "close"]},
    "leading space": {"leading": True, "rejected": True, "decode": {"header": "bytes", "envfrom": "strict"}},
    "exceptions pass": {"policy": "CONTINUE", "noreply": ["header"]},
}
_STEPS: Final = ("connect", "hello", "envfrom", "envrcpt", "data", "header", "eoh", "body", "eom", "unknown")
_TEXTS: Final = ("plain", "", "two words", "caf\udce9", "caf\u00e9", " x", "a\n b", "<a@b>", "%s %%", "x" * 300)
_NAMES: Final = ("Subject", "X", "x-caf\u00e9", "bad\udcff", "From ")
_OFFERS: Final = (
    *(offer(), offer(), offer(ALL_ACTIONS, ALL_PROTOCOL & ~NR_FLAGS), offer(ALL_ACTIONS, ONLY_BASIC)),
    *(offer(0x3F, 0x7F, 2), offer(0x1FF, 0x37F, 4), offer(0x1D, ALL_PROTOCOL), offer(0x1FF, ALL_PROTOCOL & ~0x5480)),
)
_EDITS: Final = (
    *("addheader('X-A', 'b')", "addheader('X-A', 'c', 0)", "addheader('', 'c')", "chgheader('Subject', 1, 'new')"),
    *("chgheader('x', 2, None)", "chgheader('x', -1, 'y')", "addrcpt('<n@b>')", "addrcpt('<n@b>', 'NOTIFY=NEVER')"),
    *(
        "delrcpt('<bob@example.net>')",
        "delrcpt('')",
        "chgfrom('<n@b>')",
        "chgfrom('<n@b>', 'RET=HDRS')",
        "quarantine('why')",
    ),
    *("replacebody(b'new')", "replacebody('n' * 70000)", "progress()", "replacebody(b'')", "addheader('a', b'c')"),
)
_ACTS: Final = (
    *(
        "getsymval('i')",
        "getsymval('j')",
        "getsymval('{two}')",
        "setreply('550', '5.7.1', 'no')",
        "setreply('451', None, 'a', 'b')",
    ),
    *("setreply('421', '4.7.0', 'bye')", "setreply('250', None, 'x')", "setreply('554', '5.0.0', '100 %%')"),
    "addheader('X-A', 'b')",
)


def _verdict(random: Random, step: str) -> str:
    kinds = ["Milter.CONTINUE"] * 6 + [
        "Milter.REJECT",
        "Milter.TEMPFAIL",
        "Milter.ACCEPT",
        "Milter.DISCARD",
        "Milter.SKIP",
    ]
    return (
        random.choice([*kinds, "True", "False", "None", "1 / 0", "'x'"])
        if step != "unknown"
        else random.choice(kinds[:8])
    )


def _plan(random: Random, silent: frozenset[str]) -> dict[str, str]:
    """What callbacks do: in each some calls, and for the first ones of them an answer each."""
    plan = {}
    for step in _STEPS:
        if random.random() < 0.5:
            continue
        calls = random.choices(_EDITS if step == "eom" else _ACTS, k=random.randrange(4))
        lines = [f"self.attempt({call.partition('(')[0]!r}, {call.partition('(')[2]}" for call in calls]
        if step not in silent:
            answers = ", ".join(f"lambda: {_verdict(random, step)}" for _ in range(4))
            lines.append(f"return [{answers}][n % 4]()")
        plan[step] = "\n".join(lines or ["return 0"])
        if step in silent:
            plan[step] += "\nreturn 0"
    for step in ("abort", "close"):
        if random.random() < 0.2:
            plan[step] = random.choice(
                ["1 / 0", "return Milter.REJECT", "self.attempt('getsymval', 'i')", "return None"]
            )
    return plan


class _Mta:
    """What an MTA says, most of the time in order."""

    def __init__(
        self, random: Random, names: tuple[str, ...], ends: list[bytes], silent: frozenset[str], offers: int
    ) -> None:
        self.random = random
        self.offers = _OFFERS[:offers]
        self.silent = silent
        self.names = names
        self.ends = ends
        self.said: list[bytes] = []
        self.orderly = random.random() < 0.6

    def say(self, packet: bytes, code: str = "") -> None:
        random = self.random
        if code and random.random() < 0.3:
            names = {"i": f"Q{random.randrange(9)}", "j": "mx", "two": random.choice(_TEXTS[:5])}
            lent = random.sample(sorted(names), random.randrange(4))
            self.said.append(macros(code, **{name: names[name] for name in lent}))
        if not self.orderly and random.random() < 0.15:
            self.said.append(self.any())
        if self.orderly or random.random() < 0.9:
            self.said.append(packet)

    def any(self) -> bytes:
        choice = self.random.choice
        return choice(
            (
                *(ABORT, DATA, EOH, EOM, helo("again"), mail("<m@x>"), rcpt("<r@x>"), header("X", "y")),
                *(body(b"z"), unknown("FOO"), connect("other"), offer(), self.ends[-1]),
            )
        )

    def text(self) -> str:
        return self.random.choice(_TEXTS)

    def session(self) -> None:
        random = self.random
        self.said.append(random.choice(self.offers))
        self.say(connect(random.choice(["client.example", "[192.0.2.1]", "caf\u00e9"])), "C")
        for _ in range(random.choice((1, 1, 1, 0, 2))):
            self.say(helo(random.choice(["client.example", self.text() if "hello" not in self.silent else "x"])), "H")
        for _ in range(random.choice((1, 2, 3))):
            self.message()
            # More than one in a row is told of again by pymilter where there is no callback for unknown commands.
            self.said += [ABORT] * random.randrange(2)
            if random.random() < 0.1:
                self.say(unknown(self.random.choice(["FOO bar", "caf\u00e9"])), "U")
            if random.random() < 0.05:
                # In other places libmilter does not answer, and not to the CONNECT after it.
                self.said += [unknown("LAST"), QUIT_NC, connect("next.example"), helo("next")]
        if random.random() < 0.8:
            self.said.append(QUIT)

    def message(self) -> None:
        random = self.random
        params = random.sample(["SIZE=5", "SMTPUTF8", "BODY=8BITMIME", "caf\udce9", ""], random.randrange(3))
        self.say(mail(random.choice(["<alice@example.org>", "<>", self.text()]), *params), "M")
        for _ in range(random.randrange(1, 4)):
            self.say(rcpt(random.choice(["<bob@example.net>", self.text()]), *params[:1]), "R")
        if random.random() < 0.1:
            return
        self.say(DATA, "T")
        for _ in range(random.randrange(4)):
            self.say(header(random.choice(self.names if random.random() < 0.2 else self.names[:1]), self.text()), "L")
        self.say(EOH, "N")
        for _ in range(random.randrange(3)):
            self.say(body(random.choice([b"Hello\r\n", b"\0\xff", b"x" * 70])), "B")
        self.say(random.choice(self.ends), "E")


def cases(shape: str, seeds: range) -> dict[str, Case]:
    """Make a conversation for each seed, for a class of that shape."""
    silent = frozenset(SHAPES[shape].get("noreply", ()))
    made = {}
    for seed in seeds:
        random = Random(f"{shape} {seed}")
        plan = _plan(random, silent)
        # What a no-reply callback cannot answer, and a second answer to one packet, is lost on pymilter.
        names = _NAMES if "header" not in silent else tuple(name for name in _NAMES if "\udcff" not in name)
        ends = [EOM, EOM, EOM] if "body" in silent or "body" in plan else [EOM, EOM, b"\0\0\0\5Erest"]
        # libmilter keeps for all connections what it was once agreed not to be sent.
        offers = 3 if "callbacks" in SHAPES[shape] else len(_OFFERS)
        mta = _Mta(random, names, ends, silent, offers)
        mta.session()
        made[f"seed {seed}"] = Case(b"".join(mta.said), plan)
    return made
