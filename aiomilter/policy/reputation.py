"""Reputation: how much of what a client, a domain or a user has sent was good, the latest counting most.

Source: aiomilter/help/reputation.rst.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from aiomilter.exceptions import StoreError
from aiomilter.policy.stores.guarded import GuardedStore
from aiomilter.policy.stores.keys import address, network, subject
from aiomilter.policy.stores.operations import SECOND, Mode, Op

__all__ = ["Reputation", "Standing"]

_ONE: Final = 1000
"""Thousandths: counts are whole numbers, and halve."""
_MAX_WEIGHT: Final = 1000
_EVIDENCE: Final = 10
"""Messages after which half of the certainty is there."""
_HALVINGS: Final = 10
"""After so many without a message nothing is left to keep."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a subject.

    Args:
        score: From 0 for all bad to 1 for all good; 0.5 where nothing is known.
        confidence: From 0 for nothing known towards 1; 0.5 for ten messages.
        good: Good messages that still count.
        bad: Bad ones.
        problem: Why the store had no answer; "" if it had.
    """

    score: float = 0.5
    confidence: float = 0.0
    good: float = 0.0
    bad: float = 0.0
    problem: str = ""


class Reputation:
    """Keeps two counts of each subject, which halve with time.

    Args:
        store: Where.
        half_life: Seconds after which a message counts half.

    Raises:
        ValueError: ``half_life`` is not a second to a year.

    Source: aiomilter/help/reputation.rst.
    """

    def __init__(self, store: GuardedStore, *, half_life: float = 30 * 86_400) -> None:
        if not 1 <= half_life <= 366 * 86_400:
            raise ValueError(f"expected a half_life of 1 s to a year, found {half_life}")
        self._store = store
        self._half_life = round(half_life)

    async def record(
        self, kind: str, key: str | IPv4Address | IPv6Address | None, good: bool, *, weight: float = 1
    ) -> Standing:
        """Count a message, and return how things stand then.

        Args:
            kind: What the subject is: ``ip_net``, ``domain``, ``user``, or another word of lower-case letters.
            key: Which: a client's address stands for its network, /24 or /56; a domain or login in any letter case.  None,
                for local mail, is not counted.
            good: Whether it was good.
            weight: For how many messages it counts, 0 to 1000.
        Raises:
            ValueError: ``kind`` or ``weight`` is not as described.
        """
        if not 0 <= weight <= _MAX_WEIGHT:
            raise ValueError(f"expected a weight of 0 to {_MAX_WEIGHT}, found {weight}")
        added = round(weight * _ONE)
        return await self._step(Mode.DO, kind, key, (added, 0) if good else (0, added))

    async def standing(self, kind: str, key: str | IPv4Address | IPv6Address | None) -> Standing:
        """Return how things stand; nothing is known while the store has no answer."""
        return await self._step(Mode.LOOK, kind, key, (0, 0))

    async def forget(self, kind: str, key: str | IPv4Address | IPv6Address | None) -> Standing:
        """Forget a subject, and return how things stood."""
        return await self._step(Mode.FORGET, kind, key, (0, 0))

    async def _step(
        self, mode: Mode, kind: str, key: str | IPv4Address | IPv6Address | None, added: Sequence[int]
    ) -> Standing:
        keys = self._store.keys
        keys.of(kind, "")  # says what is wrong with a kind
        if key is None:
            return Standing()
        names = keys.of(f"rep_{kind}", _who(key))
        args = (keys.each, mode, self._half_life, self._half_life * _HALVINGS * SECOND, *added)
        try:
            good, bad = await self._store.step(Op.COUNT, names, args)
        except StoreError as error:
            return Standing(problem=str(error))
        return _standing(good / _ONE, bad / _ONE)


def _standing(good: float, bad: float) -> Standing:
    """Return what counts say: as if there were one good message and one bad one more."""
    seen = good + bad
    return Standing((good + 1) / (seen + 2), seen / (seen + _EVIDENCE), good, bad)


def _who(key: str | IPv4Address | IPv6Address) -> str:
    client = address(key)
    if client is not None:
        return network(client, 24, 56)
    text = str(key)
    return subject(text if "@" in text else f"@{text}")
