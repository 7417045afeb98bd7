"""What is measured for the charts: messages by answer, callback times, connections, stalls, memory, over the last hour."""

import os
from collections import Counter, deque
from collections.abc import Callable, Sequence
from time import time
from typing import Any, Final

from aiomilter.inspector.conversation import read
from aiomilter.inspector.store import Store
from aiomilter.inspector.view import kind_of
from aiomilter.observe import MessageEnded

__all__ = ["PERIOD", "Charts", "memory_used"]

PERIOD: Final = 5.0
"""Seconds that a value stands for."""
_KEPT: Final = 720
"""Values: an hour."""
_MOST_READ: Final = 40
"""Messages in a period whose times are read, so that measuring costs next to nothing however many come."""
_LARGEST_READ: Final = 262_144
"""Octets of a message that is read."""
_MOST_NAMES: Final = 12
"""Filters in a chart."""


def memory_used() -> int:
    """Return the octets of memory that this process has; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as told:
            return int(told.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


class Charts:
    """Measures once in a period.

    Args:
        store: Has the messages.
        memory: Returns the octets of memory in use.
        clock: Returns the time, as ``time.time``.
        connections: Returns how many are open; None for those of the store.
    """

    def __init__(
        self,
        store: Store,
        memory: Callable[[], int] = memory_used,
        clock: Callable[[], float] = time,
        connections: Callable[[], float] | None = None,
    ) -> None:
        self.last: int = 0
        """How many values were measured."""
        self._store = store
        self._memory = memory
        self._clock = clock
        self._connections = connections
        self._values: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._answers: Counter[str] = Counter()
        self._stalls = 0
        self._read_to = 0

    def measure(self) -> None:
        """Measure."""
        store = self._store
        answers: Counter[str] = Counter()
        for answer, count in store.answers.items():
            answers[kind_of(answer)] += count
        stages, filters = self._times()
        self._values.append(
            {
                "time": self._clock(),
                "answers": {kind: count - self._answers[kind] for kind, count in answers.items()},
                "connections": len(store.connections) if self._connections is None else self._connections(),
                "stalls": store.stalls - self._stalls,
                "memory": self._memory(),
                "kept": store.size,
                "stages": stages,
                "filters": filters,
            }
        )
        self._answers, self._stalls = answers, store.stalls
        self.last += 1

    def all(self) -> dict[str, Any]:
        """Return all values."""
        return {"period": PERIOD, "values": list(self._values)}

    def newest(self) -> dict[str, Any]:
        """Return the last value."""
        return self._values[-1]

    def _times(self) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
        """Return median and 99th percentile of times, by stage and by filter, of messages since the last time."""
        store = self._store
        stages: dict[str, list[float]] = {}
        filters: dict[str, list[float]] = {}
        for number in range(max(self._read_to, store.last - _MOST_READ) + 1, store.last + 1):
            recorded = store.messages.get(number)
            if recorded is None or recorded.size > _LARGEST_READ or not isinstance(recorded.event, MessageEnded):
                continue
            played = read(recorded).stages
            for each in played:
                if each.answer or each.waits:
                    stages.setdefault(each.stage.name, []).append(each.seconds)
            for name, seconds in recorded.event.durations.items():
                filters.setdefault(name, []).append(seconds)
        self._read_to = store.last
        return _percentiles(stages), _percentiles(filters)


def _percentiles(times: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: [_at(values, 0.5), _at(values, 0.99)] for name, values in [*times.items()][:_MOST_NAMES]}


def _at(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 6)
