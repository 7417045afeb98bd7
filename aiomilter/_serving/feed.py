"""What serving processes tell the one that shows it: values that add up, gauges, their state, and records.

Each thing told is a frame of octets, which keeps its bounds on a datagram: a letter, the process it is from, and the content.
Values are sent as they are, not by how much they have changed, so that a frame that was lost is made up for by the next one.
A record is any octets; one that finds the pipe full is dropped.

A :class:`Reporter` is in each serving process.  A :class:`Feed` is where everything arrives: in the process of the HTTP
listener, which may be the same one, and in the supervisor, which tells it all to an HTTP listener that takes another's place.
"""

import asyncio
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final, TypeAlias

__all__ = [
    "INTERVAL",
    "MOST_FRAME",
    "MOST_RECORD",
    "MOST_SERIES",
    "Feed",
    "Key",
    "Process",
    "Report",
    "Reporter",
    "ended_frame",
]

Key: TypeAlias = tuple[str, ...]
"""Names a value: that of the metric, then the values of its labels."""

INTERVAL: Final = 0.5
"""Seconds between the reports of a process, which are also its signs of life."""
MOST_RECORD: Final = 64 * 1024
"""Octets of the largest record."""
MOST_FRAME: Final = 2 * MOST_RECORD
"""Octets of the largest frame."""
MOST_SERIES: Final = 5000
"""Values that are kept of all processes; further ones are dropped.  What is counted bounds them far below this."""

_AT_ONCE: Final = 200
"""Values in one frame: it has to fit into the buffer of a socket."""
_ENDED_ONES: Final = 0
"""Stands for all processes that have ended."""
_BETWEEN: Final = "\x1f"
"""Stands between the parts of a key, and is in none of them."""
_VALUES: Final = b"V"
_RECORD: Final = b"R"
_ENDED: Final = b"E"
_AGAIN: Final = b"A"
_WHOLE: Final = b"W"
_HEAD: Final = 1 + 4
"""Octets before the content: the letter, and the number of the process."""


@dataclass(slots=True)
class Report:
    """What a process reports of itself.

    Args:
        counts: Values that only grow, and add up over processes; they stay when the process has ended.
        gauges: Values of the moment.
        state: Anything else, of a few keys.
    """

    counts: Mapping[Key, float] = field(default_factory=dict)
    gauges: Mapping[Key, float] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)


class Reporter:
    """Sends, from a serving process, what it counts, twice a second, and records at once.

    Args:
        send: Sends a frame, and returns whether it was taken; it never blocks.
    """

    def __init__(self, send: Callable[[bytes], bool]) -> None:
        self._send = send
        self._sources: list[Callable[[], Report]] = []
        self._sent: dict[Key, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, source: Callable[[], Report]) -> None:
        """Ask a function for its part at each report."""
        self._sources.append(source)

    def record(self, octets: bytes) -> bool:
        """Send a record, and return whether it was sent: one that is too large, or finds the pipe full, is dropped."""
        return len(octets) <= MOST_RECORD and self._send(_frame(_RECORD, os.getpid(), octets))

    def start(self) -> None:
        """Report from now on, in the running event loop."""
        loop = asyncio.get_running_loop()

        def beat() -> None:
            self.report()
            self._timer = loop.call_later(INTERVAL, beat)

        beat()

    def stop(self) -> None:
        """Report once more, and then no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.report()

    def report(self) -> None:
        """Send what has changed since the last time, and the gauges and the state in any case."""
        parts = [source() for source in self._sources]
        changed = {key: value for part in parts for key, value in part.counts.items() if self._sent.get(key) != value}
        gauges = {key: value for part in parts for key, value in part.gauges.items()}
        state = {name: value for part in parts for name, value in part.state.items()}
        pid = os.getpid()
        for some in _in_parts(changed):
            if self._send(_values(pid, some)):
                self._sent.update(some)
        self._send(_values(pid, {}, gauges, state))


@dataclass(slots=True)
class Process:
    """A serving process, as far as it has reported.

    Args:
        pid: Its number.
        seen: When its last report arrived, by ``time.monotonic``.
        counts: See :class:`Report`.
        gauges: See :class:`Report`.
        state: See :class:`Report`.
    """

    pid: int
    seen: float
    counts: dict[Key, float] = field(default_factory=dict)
    gauges: dict[Key, float] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


class Feed:
    """What has arrived from all serving processes: what the routes of an HTTP listener show.

    Args:
        clock: Returns seconds; ``time.monotonic``.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.processes: dict[int, Process] = {}
        """Those that run, by their numbers."""
        self._ended: dict[Key, float] = {}
        self._clock = clock
        self._followers: list[Callable[[int, bytes], object]] = []
        # What another feed is about to tell anew; it takes the place of the rest once it is whole.
        self._again: Feed | None = None

    def snapshot(self) -> dict[Key, float]:
        """Return the sums of what all processes have counted, those that have ended included."""
        sums = dict(self._ended)
        for process in self.processes.values():
            _add(sums, process.counts)
        return sums

    def follow(self, take: Callable[[int, bytes], object]) -> None:
        """Have a function called with each record from here on: the number of its process, and its octets.

        A function that raises is not called any more.
        """
        self._followers.append(take)

    def take(self, frame: bytes) -> bool:
        """Take a frame that has arrived, and return whether it is one that must not be lost: all but records.

        One that cannot be read is left out.
        """
        kind, pid, content = frame[:1], int.from_bytes(frame[1:_HEAD]), frame[_HEAD:]
        if kind == _RECORD:
            self._take_record(pid, content)
            return False
        if kind == _AGAIN:
            self._again = Feed(self._clock)
        elif kind == _WHOLE and self._again is not None:
            self.processes, self._ended, self._again = self._again.processes, self._again._ended, None
        elif kind == _VALUES:
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                (self._again or self)._take_values(pid, json.loads(content))
        elif kind == _ENDED:
            self.end(pid)
        return True

    def _take_values(self, pid: int, values: Mapping[str, Any]) -> None:
        counts = {tuple(text.split(_BETWEEN)): value for text, value in values["counts"].items()}
        if pid == _ENDED_ONES:
            self._ended.update(counts)
            return
        process = self.processes.get(pid)
        if process is None:
            process = self.processes[pid] = Process(pid, self._clock())
        process.seen = self._clock()
        for key, value in counts.items():
            if key in process.counts or len(process.counts) < MOST_SERIES:
                process.counts[key] = value
        if "gauges" in values:
            process.gauges = {tuple(text.split(_BETWEEN)): value for text, value in values["gauges"].items()}
            process.state = values["state"]

    def _take_record(self, pid: int, octets: bytes) -> None:
        for follower in list(self._followers):
            try:
                follower(pid, octets)
            except Exception:  # noqa: BLE001 - the metrics are to go on whatever another route does
                self._followers.remove(follower)

    def end(self, pid: int) -> None:
        """Note that a process has ended: what it has counted stays."""
        process = self.processes.pop(pid, None)
        if process is not None:
            _add(self._ended, process.counts)

    def frames(self) -> Iterator[bytes]:
        """Yield frames that tell all of this to another feed, whatever that knows."""
        yield _frame(_AGAIN, 0, b"")
        for some in _in_parts(self._ended):
            yield _values(_ENDED_ONES, some)
        for process in self.processes.values():
            for some in _in_parts(process.counts):
                yield _values(process.pid, some)
            yield _values(process.pid, {}, process.gauges, process.state)
        yield _frame(_WHOLE, 0, b"")


def ended_frame(pid: int) -> bytes:
    """Return the frame that says that a process has ended."""
    return _frame(_ENDED, pid, b"")


def _add(sums: dict[Key, float], counts: Mapping[Key, float]) -> None:
    for key, value in counts.items():
        if key in sums or len(sums) < MOST_SERIES:
            sums[key] = sums.get(key, 0) + value


def _in_parts(values: Mapping[Key, float]) -> Iterator[dict[Key, float]]:
    items = list(values.items())
    for begin in range(0, len(items), _AT_ONCE):
        yield dict(items[begin : begin + _AT_ONCE])


def _values(
    pid: int,
    counts: Mapping[Key, float],
    gauges: Mapping[Key, float] | None = None,
    state: Mapping[str, Any] | None = None,
) -> bytes:
    content: dict[str, Any] = {"counts": _texts(counts)}
    if gauges is not None:
        content |= {"gauges": _texts(gauges), "state": dict(state or {})}
    return _frame(_VALUES, pid, json.dumps(content).encode())


def _texts(values: Mapping[Key, float]) -> dict[str, float]:
    return {_BETWEEN.join(key): value for key, value in values.items()}


def _frame(kind: bytes, pid: int, content: bytes) -> bytes:
    return kind + pid.to_bytes(4) + content
