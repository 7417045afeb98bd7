"""A store in the memory of one process: for one worker, and for tests."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from aiomilter.policy.stores.clock import Clock
from aiomilter.policy.stores.operations import Op, State, apply

__all__ = ["MemoryStore"]


class MemoryStore:
    """Keeps states of the keys that were used last.

    Where there are too many keys, one of the most numerous kind goes, the one that was not used for the longest time: a
    flood of client addresses pushes out client addresses, and no rates of users.

    Args:
        max_keys: How many.
        clock: Returns microseconds since 1970.
    """

    def __init__(self, *, max_keys: int = 100_000, clock: Callable[[], int] | None = None) -> None:
        self._max_keys = max_keys
        self._clock = Clock() if clock is None else clock
        self._kinds: dict[bytes, OrderedDict[bytes, State]] = {}
        self._size = 0
        self.evicted: int = 0
        """Keys that have gone before their time."""

    async def step(self, op: Op, keys: Sequence[bytes], args: Sequence[int]) -> Sequence[int]:
        """Do one step."""
        return apply(op, self, self._clock(), keys, args)

    def get(self, key: bytes) -> State | None:
        """Return the state of a key, which counts as used."""
        kind = self._kinds.get(key[:-16])
        if kind is None or (state := kind.get(key)) is None:
            return None
        kind.move_to_end(key)
        return state

    def put(self, key: bytes, state: State) -> None:
        """Write the state of a key."""
        kind = self._kinds.get(key[:-16])
        if kind is None:
            kind = self._kinds[key[:-16]] = OrderedDict()
        if key in kind:
            kind[key] = state
            kind.move_to_end(key)
            return
        kind[key] = state
        self._size += 1
        if self._size > self._max_keys:
            largest = max(self._kinds.values(), key=len)
            _, gone = largest.popitem(last=False)
            self._size -= 1
            self.evicted += gone.expiry > self._clock()

    def remove(self, key: bytes) -> None:
        """Remove a key."""
        kind = self._kinds.get(key[:-16])
        if kind is not None and kind.pop(key, None) is not None:
            self._size -= 1

    def __len__(self) -> int:
        """Return the number of keys."""
        return self._size

    async def ready(self) -> str | None:
        """Return None."""
        return None

    async def aclose(self) -> None:
        """Forget everything."""
        self._kinds.clear()
        self._size = 0
