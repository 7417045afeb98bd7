"""Rates: how many messages or recipients a login, a client or a domain may have in a time.

The generic cell rate algorithm keeps one number for each: the time at which all that was counted will have been worked off.  A
burst is exact, the rate is exact, and there is no edge of a window at which twice as many would pass.

Source: aiomilter/help/rates.rst.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal, NamedTuple, Self, TypeAlias

from aiomilter.exceptions import StoreError
from aiomilter.policy.stores.guarded import GuardedStore
from aiomilter.policy.stores.keys import address, network, subject
from aiomilter.policy.stores.memory import MemoryStore
from aiomilter.policy.stores.operations import SECOND, Mode, Op

__all__ = ["OnFailure", "Rate", "RateLimit", "RateState"]

OnFailure: TypeAlias = Literal["pass", "local", "tempfail"]
"""What holds while the store is down: nothing; the same rates, counted by this process alone; or that nobody may send."""

_MAX_PER: Final = 366 * 86_400
_MAX_COUNT: Final = 1_000_000
_MAX_TOLERANCE: Final = 10 * 366 * 86_400 * SECOND
_AGAIN: Final = 30.0
"""Seconds to wait for a store that is down."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in a time: ``Rate(200, per=3600, burst=50)``.

    Args:
        limit: How many, 1 to 1,000,000.
        per: In how many seconds, up to a year.
        burst: How many of them at once, ``limit`` if None.

    Raises:
        ValueError: One of them is not as described.
    """

    limit: int
    per: float
    burst: int | None = None

    def __post_init__(self) -> None:
        counts = (self.limit, self.limit if self.burst is None else self.burst)
        if not all(isinstance(each, int) and 1 <= each <= _MAX_COUNT for each in counts):
            raise ValueError(f"expected a limit and a burst of 1 to {_MAX_COUNT}, found {counts}")
        if not 0 < self.per <= _MAX_PER:
            raise ValueError(f"expected per of more than 0 and up to {_MAX_PER} s, found {self.per}")
        if self.tolerance > _MAX_TOLERANCE:
            raise ValueError("expected a burst that the rate works off in less than 10 years")

    @property
    def interval(self) -> int:
        """Microseconds that one takes, rounded up."""
        return max(1, math.ceil(self.per * SECOND / self.limit))

    @property
    def tolerance(self) -> int:
        """Microseconds that a whole burst takes."""
        return (self.limit if self.burst is None else self.burst) * self.interval


@dataclass(frozen=True, slots=True)
class RateState:
    """How things stand with a rate.

    Args:
        exceeded: Whether it was too much; then it was not counted.  Answer 4xx.
        wait: Seconds until as much would be let through; 0 if it was.
        remaining: How many more may follow at once.
        problem: Why the store had no answer; "" if it had.
    """

    exceeded: bool
    wait: float = 0.0
    remaining: int = 0
    problem: str = ""


class _Plan(NamedTuple):
    """The rates of a name, as the store is asked."""

    kind: str
    numbers: tuple[str, ...]
    burst: int
    args: tuple[int, ...]

    @classmethod
    def of(cls, name: str, given: Rate | Sequence[Rate]) -> Self:
        rates = (given,) if isinstance(given, Rate) else tuple(given)
        if not rates:
            raise ValueError(f"rates: expected one or more for {name!r}, found none")
        burst = min(rate.tolerance // rate.interval for rate in rates)
        args = tuple(number for rate in rates for number in (rate.interval, rate.tolerance))
        return cls(f"rate_{name}", tuple(map(str, range(len(rates)))), burst, args)


class RateLimit:
    """Counts against named rates.

    Several rates under one name all count, or none does: ``{"user": [Rate(20, per=60), Rate(500, per=86400)]}``.

    Args:
        store: Where.
        rates: The rates by name, of lower-case letters, digits and underscores.
        on_failure: What holds while the store is down, for all or by name.  By default ``local`` for ``user``, so that a
            stolen password is of limited use even then, and ``pass`` for all others.

    Raises:
        ValueError: ``rates`` or ``on_failure`` is not as described.

    Source: aiomilter/help/rates.rst.
    """

    def __init__(
        self,
        store: GuardedStore,
        rates: Mapping[str, Rate | Sequence[Rate]],
        *,
        on_failure: OnFailure | Mapping[str, OnFailure] | None = None,
    ) -> None:
        self._store = store
        self._plans = {name: _Plan.of(name, rate) for name, rate in rates.items()}
        chosen = {"user": "local"} if on_failure is None else on_failure
        by_name = dict.fromkeys(rates, chosen) if isinstance(chosen, str) else dict(chosen)
        self._on_failure = {name: by_name.get(name, "pass") for name in rates}
        if wrong := set(self._on_failure.values()) - {"pass", "local", "tempfail"}:
            raise ValueError(f"on_failure: expected pass, local or tempfail, found {sorted(map(str, wrong))[0]!r}")
        for name, plan in self._plans.items():
            for kind in (name, plan.kind):
                store.keys.of(kind, "")  # says what is wrong with a name
        self._local: MemoryStore | None = None

    async def hit(self, name: str, key: str | IPv4Address | IPv6Address | None, cost: int = 1) -> RateState:
        """Count, if all rates of this name allow it.

        Args:
            name: Of the rates.
            key: A login, an address or a domain, in any letter case; or a client's address, whose IPv6 /64 counts as one.
                None, for what has no address, is never too much.
            cost: How many: 1 for each recipient or each message, or the recipients of a message at once.
        Raises:
            ValueError: There is no such name, or ``cost`` is below 0.
        """
        return await self._step(Mode.DO, name, key, cost)

    async def peek(self, name: str, key: str | IPv4Address | IPv6Address | None, cost: int = 1) -> RateState:
        """Return what :meth:`hit` would, and count nothing."""
        return await self._step(Mode.LOOK, name, key, cost)

    async def forgive(self, name: str, key: str | IPv4Address | IPv6Address | None) -> RateState:
        """Forget what was counted."""
        return await self._step(Mode.FORGET, name, key, 0)

    async def _step(self, mode: Mode, name: str, key: str | IPv4Address | IPv6Address | None, cost: int) -> RateState:
        plan = self._plans.get(name)
        if plan is None or cost < 0:
            raise ValueError(
                f"expected one of {', '.join(self._plans)} and a cost of 0 or more, found {name!r}, {cost}"
            )
        if key is None:
            return RateState(False, remaining=plan.burst)
        who, keys = _who(key), self._store.keys
        names = [each for number in plan.numbers for each in keys.of(plan.kind, who, number)]
        # Above the smallest burst it is too much however large; and numbers stay small.
        args = (keys.each, mode, min(cost, plan.burst + 1), *plan.args)
        try:
            return _state(mode, await self._store.step(Op.GCRA, names, args))
        except StoreError as error:
            return await self._without(self._on_failure[name], mode, names, args, str(error))

    async def _without(
        self, how: str, mode: Mode, names: Sequence[bytes], args: Sequence[int], problem: str
    ) -> RateState:
        """Return what holds while the store is down."""
        if how == "tempfail":
            return RateState(True, _AGAIN, 0, problem)
        if how == "pass":
            return RateState(False, problem=problem)
        if self._local is None:
            self._local = MemoryStore()
        return _state(mode, await self._local.step(Op.GCRA, names, args), problem)


def _state(mode: Mode, answer: Sequence[int], problem: str = "") -> RateState:
    exceeded, wait, remaining = answer
    if mode is Mode.FORGET:
        return RateState(False, problem=problem)
    return RateState(bool(exceeded), wait / SECOND, remaining, problem)


def _who(key: str | IPv4Address | IPv6Address) -> str:
    client = address(key)
    return subject(str(key)) if client is None else network(client, 32, 64)
