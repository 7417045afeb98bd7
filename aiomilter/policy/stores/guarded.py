"""A store that is asked no longer than callers can wait: each step has a deadline, and none is asked for while it is down."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from aiomilter._tally import count
from aiomilter.exceptions import StoreError
from aiomilter.policy.stores.keys import Keys
from aiomilter.policy.stores.operations import Mode, Op, Store

__all__ = ["GuardedStore"]

_FAILURES: Final = 3
_LONGEST: Final = 30.0
_OPERATIONS: Final = "aiomilter_store_operations_total"


class GuardedStore:
    """What :func:`~aiomilter.policy.stores.open_store` gives.

    After three failures in a row nothing is asked for 1, 2, 4 ... 30 s; then one step tries, and the others fail at once until
    it is known how that went.

    Args:
        store: What does the steps.
        keys: Makes the keys of subjects.
        timeout: Seconds that a step may take; None where it never waits.
        on_change: Told in a sentence when it is found to be down, and when it is back.
        clock: Returns seconds.
    """

    def __init__(
        self,
        store: Store,
        keys: Keys,
        *,
        timeout: float | None = 0.5,
        on_change: Callable[[str], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store: Final[Store] = store
        self._backend = type(store).__name__.removesuffix("Store").lower()
        self.keys: Final[Keys] = keys
        self._timeout = timeout
        self._on_change = on_change
        self._clock = clock
        self._failed = 0
        self._until = 0.0
        self._why = ""
        self._trying = False
        self._successes = 0
        self.steps: int = 0
        """Steps that were asked for."""
        self.failures: int = 0
        """Steps that failed."""

    @property
    def problem(self) -> str:
        """Why nothing is asked now; "" if it is."""
        return self._why if self._failed >= _FAILURES else ""

    async def step(self, op: Op, keys: Sequence[bytes], args: Sequence[int]) -> Sequence[int]:
        """Do one atomic step for all keys.

        Raises:
            StoreError: It failed, took too long, or the store is down.
        """
        self.steps += 1
        if self._timeout is None:
            answer = await self.store.step(op, keys, args)
            count(_OPERATIONS, "ok", self._backend)
            return answer
        if down := self._failed >= _FAILURES:
            if self._trying or self._clock() < self._until:
                self.failures += 1
                count(_OPERATIONS, "down", self._backend)
                raise StoreError(f"the store is down: {self._why}")
            self._trying = True
        why, before = "", self._successes
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self.store.step(op, keys, args)
        except TimeoutError:
            why = f"no answer in {self._timeout:g} s"
        except (StoreError, OSError) as error:
            why = str(error)
        finally:
            if down:
                self._trying = False
        if why:
            self.failures += 1
            count(_OPERATIONS, "failed", self._backend)
            # What was under way when the store was found to be down, or when another step succeeded, says nothing new.
            if down or (self._failed < _FAILURES and before == self._successes):
                self._fail(why)
            raise StoreError(why)
        self._successes += 1
        count(_OPERATIONS, "ok", self._backend)
        if self._failed:
            self._succeed()
        return answer

    def _fail(self, why: str) -> None:
        self._failed += 1
        self._why = why
        if self._failed >= _FAILURES:
            self._until = self._clock() + min(2.0 ** min(self._failed - _FAILURES, 10), _LONGEST)
            if self._failed == _FAILURES:
                self._tell(f"the store is down: {why}")

    def _succeed(self) -> None:
        was_down = self._failed >= _FAILURES
        self._failed = 0
        if was_down:
            self._tell("the store is back")

    def _tell(self, what: str) -> None:
        if self._on_change is not None:
            self._on_change(what)

    async def ready(self, *, reads_only: bool = False) -> str | None:
        """Return what keeps the store from working; None if nothing does.  At most the time of one step.

        A server may answer, and yet take nothing, as a replica or one with a full disk does: something is written, and removed.

        Args:
            reads_only: Whether that does not matter.
        """
        try:
            async with asyncio.timeout(self._timeout):
                problem = await self.store.ready()
                if problem is None and not reads_only and self._timeout is not None:
                    for mode in (Mode.DO, Mode.FORGET):
                        await self.store.step(Op.PAIR, self.keys.of("ready"), (self.keys.each, int(mode), 1))
                return problem
        except TimeoutError:
            return f"no answer in {self._timeout:g} s"
        except (StoreError, OSError) as error:
            return str(error)

    async def aclose(self) -> None:
        """Close the store."""
        await self.store.aclose()
