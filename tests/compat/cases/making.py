"""What conversations are made of: octets, and bodies of callbacks for scripts/driven.py."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from aiomilter.wire.constants import ALL_ACTIONS, ALL_PROTOCOL, NR_FLAGS
from tests.compat.playing import Case
from tests.peer import (
    ABORT,
    DATA,
    EOH,
    EOM,
    MESSAGE,
    ONLY_BASIC,
    OPENING,
    QUIT,
    body,
    connect,
    header,
    helo,
    mail,
    offer,
    rcpt,
    unknown,
)

__all__ = [
    "CONTENT",
    "ENVELOPE",
    "EVERYWHERE",
    "HANGS",
    "NEXT",
    "SESSION",
    "STEPS",
    "Group",
    "at",
    "offered",
    "once",
    "packet",
    "tries",
]


class Group(NamedTuple):
    """Conversations with one kind of filter.

    Args:
        shape: What its class is like, see scripts/driven.py.
        cases: What is played to it, by name.
        script: The program.
    """

    shape: Mapping[str, Any]
    cases: Mapping[str, Case]
    script: str = "driven.py"


ENVELOPE: Final = mail() + rcpt()
CONTENT: Final = DATA + header() + EOH + body() + EOM
NEXT: Final = ABORT + mail("<carol@example.org>") + rcpt("<dave@example.net>") + CONTENT + QUIT
"""Another message, which shows what is left of the first."""
SESSION: Final = OPENING + unknown() + MESSAGE + NEXT
STEPS: Final = ("connect", "hello", "envfrom", "envrcpt", "data", "header", "eoh", "body", "eom", "unknown")
EVERYWHERE: Final = (*STEPS, "abort", "close")
HANGS: Final = 0.3
"""Seconds after which a conversation that is known to hang in pymilter is given up."""
ABORTED: Final = OPENING + ENVELOPE + ABORT + MESSAGE + NEXT
"""A session in which the first message is given up."""


def tries(*calls: str, then: str = "") -> str:
    """A body that tries calls, one after the other, then answers."""
    return "\n".join(
        [*(f"self.attempt({call[: call.index('(')]!r}, {call[call.index('(') + 1 :]}" for call in calls), then]
    )


def at(step: str, source: str, octets: bytes = b"") -> Case:
    """A session in which one callback does something."""
    return Case(octets or (ABORTED if step == "abort" else SESSION), {step: source})


def once(source: str) -> str:
    """Do it in the first call only."""
    return "if n == 1:\n" + "\n".join(f" {line}" for line in source.splitlines()) + "\nreturn Milter.CONTINUE"


_OFFERS: Final = {
    "6": offer(),
    "6 without steps": offer(ALL_ACTIONS, ONLY_BASIC),
    "6 without no-reply": offer(ALL_ACTIONS, ALL_PROTOCOL & ~NR_FLAGS),
    "6 without SKIP": offer(ALL_ACTIONS, ALL_PROTOCOL & ~0x400),
    "6 without SETSYMLIST": offer(0xFF, ALL_PROTOCOL),
    "6 without HDR_LEADSPC": offer(ALL_ACTIONS, ALL_PROTOCOL & ~0x100000),
    "6 without RCPT_REJ": offer(ALL_ACTIONS, ALL_PROTOCOL & ~0x800),
    "6 with nothing": offer(0, 0),
    "6 with large packets": offer(0x1FF, 0x301FFFFF),
    "6 with all bits": offer(0xFFFFFFFF, 0xFFFFFFFF),
    "7": offer(version=7),
    "2": offer(0x3F, 0x7F, 2),
    "2 of Postfix": offer(0x1FF, 0x7F, 2),
    "2 with nothing": offer(0, 0, 2),
    "3": offer(0x1FF, 0x17F, 3),
    "4": offer(0x1FF, 0x37F, 4),
    "5": offer(0x1FF, 0x37F, 5),
    "1": offer(0xF, 0x3F, 1),
    "0": offer(0xF, 0x3F, 0),
}


def offered(plan: Mapping[str, str] | None = None) -> dict[str, Case]:
    """A session after each offer."""
    rest = connect() + helo() + unknown() + MESSAGE + NEXT
    return {f"offer {name}": Case(octets + rest, plan or {}) for name, octets in _OFFERS.items()}


def packet(code: str, payload: bytes) -> bytes:
    return (len(payload) + 1).to_bytes(4, "big") + code.encode() + payload
