"""Messages that are played to ready filters, over a store with a clock of the test's own, or one that is away."""

from collections.abc import Sequence
from typing import Any

from aiomilter import ACCEPT, CONTINUE, Reply, filters, mta
from aiomilter.compose import compose
from aiomilter.exceptions import StoreError
from aiomilter.observe import MessageEnded, Observer
from aiomilter.policy.stores import Store
from aiomilter.policy.stores.memory import MemoryStore
from aiomilter.secret import Secret
from aiomilter.testing import session
from aiomilter.testing.resolver import ZoneResolver

__all__ = ["MESSAGE", "PASS", "AwayStore", "Reasons", "Timed", "answers", "site", "told"]

MESSAGE = b"From: a@x.example\r\nSubject: x\r\n\r\nHello\r\n"
PASS = ["passes", "passes"]
"""Nothing is refused."""


class AwayStore:
    """Has no answer."""

    def __init__(self) -> None:
        self.asked = 0

    async def step(self, op: object, keys: Sequence[bytes], args: Sequence[int]) -> Sequence[int]:
        self.asked += 1
        raise StoreError("it is away")

    async def ready(self) -> str | None:
        return "it is away"

    async def aclose(self) -> None:
        """Do nothing."""


class Timed(MemoryStore):
    """Has a time that the test sets, in seconds; it outlives sessions."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        super().__init__(clock=lambda: round(self.now * 1_000_000))

    async def aclose(self) -> None:
        """Keep everything."""

    @property
    def kinds(self) -> set[str]:
        """What is kept: the beginnings of its keys."""
        return {kind.decode().rstrip(":") for kind, states in self._kinds.items() if states}


def site(store: Store | None = None, zone: str = "", **changes: Any) -> filters.Site:
    """Return a site for ``mx.corp.example``."""
    given: dict[str, Any] = {
        "hostname": "mx.corp.example",
        "own_domains": ("corp.example",),
        "internal": ("198.51.100.0/24",),
        "trusted_relays": ("203.0.113.7",),
        "store": Timed() if store is None else store,
        "keys": (Secret("0123456789abcdef"),),
        "resolver": ZoneResolver(zone),
    }
    return filters.Site(**given | changes)


class Reasons(Observer):
    """Collects why messages and recipients were refused."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def message_ended(self, event: MessageEnded) -> None:
        self.found |= {event.reason, *(each.reason for each in event.refused)} - {""}


def told(answer: mta.Answer) -> str:
    """Return an answer as text."""
    if answer in (CONTINUE, ACCEPT):
        return "passes"
    return str(answer) if isinstance(answer, Reply) else str(answer).rpartition(".")[2]


async def answers(
    store: Store,
    *members: Any,
    client: str = "192.0.2.1",
    login: str = "",
    sender: str = "a@x.example",
    recipients: Sequence[str] = ("u@corp.example",),
    octets: bytes = MESSAGE,
    where: filters.Site | None = None,
    reasons: Reasons | None = None,
) -> list[str]:
    """Return the answers to the recipients, and, if one is accepted, to the message, with the stage if it is refused."""
    macros = {"auth_authen": login, "auth_type": "PLAIN"} if login else {}
    milter = compose(*members, site=where or site(store))
    async with session(milter, client=client, macros=macros, observer=reasons) as s:
        if told(first := await s.mail(f"<{sender}>")) != "passes":
            return [f"MAIL {told(first)}"]
        found = [told(await s.rcpt(f"<{each}>")) for each in recipients]
        if "passes" not in found:
            return found
        result = await s.message(octets)
    end = told(result.answer)
    return [*found, end if end == "passes" else f"{result.stage.name} {end}"]
