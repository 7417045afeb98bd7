"""Known senders: those whom our users have written to.

Source: aiomilter/help/reputation.rst.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from aiomilter.exceptions import StoreError
from aiomilter.mail.envelope import domain
from aiomilter.policy.stores.guarded import GuardedStore
from aiomilter.policy.stores.keys import subject
from aiomilter.policy.stores.operations import SECOND, Mode, Op

__all__ = ["Authenticated", "Known", "KnownSenders"]

_TOGETHER: Final = 100
"""Pairs that are noted in one step."""


@dataclass(frozen=True, slots=True)
class Authenticated:
    """What proves that a sender is who it says: the domain that passed, and by which method.

    Args:
        domain: Of the envelope sender that SPF passed for; or of a DKIM signature that passed.
        by: Which.
    """

    domain: str
    by: Literal["spf", "dkim"]

    def covers(self, sender: str) -> bool:
        """Return whether an address is in this domain or below it."""
        ours, theirs = domain(f"x@{self.domain}"), domain(sender)
        return bool(ours) and (theirs == ours or theirs.endswith(f".{ours}"))


@dataclass(frozen=True, slots=True)
class Known:
    """Whether a sender is known to a recipient.

    Args:
        known: Whether the recipient has written to the sender, and the sender is who it says.
        count: How often.
        problem: Why the store had no answer; "" if it had.
    """

    known: bool = False
    count: int = 0
    problem: str = ""


class KnownSenders:
    """Remembers whom our users write to.

    Args:
        store: Where.
        keep: Seconds for which a pair is remembered, after the last time.

    Raises:
        ValueError: ``keep`` is not above 0, or more than 10 years.

    Source: aiomilter/help/reputation.rst.
    """

    def __init__(self, store: GuardedStore, *, keep: float = 60 * 86_400) -> None:
        if not 0 < keep <= 3660 * 86_400:
            raise ValueError(f"expected keep of more than 0 s and up to 10 years, found {keep}")
        self._store = store
        self._keep = round(keep * SECOND)

    async def note(self, user: str, recipients: Iterable[str]) -> str:
        """Note that one of our users, who has logged in, writes to some addresses.

        Returns:
            Why the store could not; "" if it could.
        """
        keys, author = self._store.keys, subject(user)
        others = list(dict.fromkeys(map(subject, recipients)))
        try:
            for start in range(0, len(others), _TOGETHER):
                names = [key for other in others[start : start + _TOGETHER] for key in keys.of("known", author, other)]
                await self._store.step(Op.PAIR, names, (keys.each, Mode.DO, self._keep))
        except StoreError as error:
            return str(error)
        return ""

    async def knows(self, sender: str, recipient: str, authenticated: Authenticated | None) -> Known:
        """Return whether a recipient has written to a sender.

        Args:
            sender: Whom the message is from: as anybody can write any address there, it counts only if ``authenticated``
                covers it.
            recipient: One of our users.
            authenticated: What proves the sender; None if nothing does.
        """
        if authenticated is None or not authenticated.covers(sender):
            return Known()
        names = self._store.keys.of("known", subject(recipient), subject(sender))
        try:
            (count,) = await self._store.step(Op.PAIR, names, (self._store.keys.each, Mode.LOOK, self._keep))
        except StoreError as error:
            return Known(problem=str(error))
        return Known(count > 0, count)

    async def forget(self, user: str, other: str) -> str:
        """Forget a pair; return why the store could not, "" if it could."""
        names = self._store.keys.of("known", subject(user), subject(other))
        try:
            await self._store.step(Op.PAIR, names, (self._store.keys.each, Mode.FORGET, 0))
        except StoreError as error:
            return str(error)
        return ""
