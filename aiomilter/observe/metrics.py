"""Counting what happens, for metrics: an observer that adds to plain lists of numbers, a few for each message."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from time import time
from typing import Final, NamedTuple

from aiomilter._tally import SECONDS
from aiomilter.observe.events import (
    CallbackFailed,
    CallbackTimedOut,
    CallbackWaited,
    ClientRefused,
    HealthChecked,
    Lifecycle,
    LifecycleKind,
    LimitReached,
    LoopStalled,
    MessageCount,
    MessageEnded,
    RefusedRecipient,
    TemporaryFailed,
    Where,
)
from aiomilter.observe.metric_table import METRICS, metric
from aiomilter.observe.observer import Observer

__all__ = ["MOST_REASONS", "Metrics", "Tally"]

MOST_REASONS: Final = 100
"""Words that filters give as reasons, each of which is counted; further ones are "other"."""
_MOST_LABELS: Final = 1000
"""Combinations of labels for each metric; a further one is counted under "other"."""
_OTHER: Final = "other"
_REFUSALS: Final = frozenset({"reject", "tempfail"})
_SIZES: Final = metric("aiomilter_message_size_bytes").bounds


class Tally(NamedTuple):
    """A metric's value for some labels, as it is sent to another process.

    Args:
        key: Name of the metric, its labels; for a histogram also the number of a bucket, or "sum".
        value: The value.
    """

    key: tuple[str, ...]
    value: float


class _Counter:
    """Counts by labels."""

    __slots__ = ("_cells", "_name", "_width")

    def __init__(self, name: str) -> None:
        self._name = name
        self._width = len(metric(name).labels)
        self._cells: dict[tuple[str, ...], list[float]] = {}

    def add(self, labels: tuple[str, ...], number: float = 1) -> None:
        self.cell(labels)[0] += number

    def cell(self, labels: tuple[str, ...]) -> list[float]:
        cell = self._cells.get(labels)
        if cell is None:
            if len(self._cells) >= _MOST_LABELS:
                labels = (_OTHER,) * self._width
            cell = self._cells.setdefault(labels, [0])
        return cell

    def tallies(self) -> Iterator[Tally]:
        for labels, (value,) in list(self._cells.items()):
            yield Tally((self._name, *labels), value)


class _Histogram:
    """Counts by labels and buckets; the last number is the sum of all values."""

    __slots__ = ("_bounds", "_cells", "_name", "_width")

    def __init__(self, name: str) -> None:
        self._name = name
        self._bounds: Sequence[float] = metric(name).bounds
        self._width = len(metric(name).labels)
        self._cells: dict[tuple[str, ...], list[float]] = {}

    def add(self, labels: tuple[str, ...], value: float) -> None:
        cell = self.cell(labels)
        cell[bisect_left(self._bounds, value)] += 1
        cell[-1] += value

    def cell(self, labels: tuple[str, ...]) -> list[float]:
        cell = self._cells.get(labels)
        if cell is None:
            if len(self._cells) >= _MOST_LABELS // len(self._bounds):
                labels = (_OTHER,) * self._width
            cell = self._cells.setdefault(labels, [0] * (len(self._bounds) + 2))
        return cell

    def tallies(self) -> Iterator[Tally]:
        for labels, cell in list(self._cells.items()):
            if not any(cell):
                continue
            for bucket, count in enumerate(cell[:-1]):
                yield Tally((self._name, *labels, str(bucket)), count)
            yield Tally((self._name, *labels, "sum"), cell[-1])


class Metrics(Observer):
    """Counts what happens; ``observer=[LogObserver(), Metrics()]`` keeps the log beside it.

    :class:`aiomilter.observe.prometheus.Collector` shows it to Prometheus.  See ``aiomilter help metrics``.

    Args:
        generation: How often the filter was loaded, this time included.
    """

    def __init__(self, generation: int = 1) -> None:
        self.generation: int = generation
        """How often the filter was loaded."""
        self.loaded: float = time()
        """When that was the last time, seconds since 1970."""
        self._counters = {row.name: _Counter(row.name) for row in METRICS if row.kind == "counter"}
        self._histograms = {row.name: _Histogram(row.name) for row in METRICS if row.kind == "histogram"}
        self._messages = self._counters["aiomilter_messages_total"]
        self._durations = self._histograms["aiomilter_message_duration_seconds"]
        self._sizes = self._histograms["aiomilter_message_size_bytes"]
        self._edits = self._counters["aiomilter_edits_total"]
        self._cells: dict[tuple[str, str, str, str], tuple[list[float], list[float], list[float]]] = {}
        self._reasons: set[str] = set()

    def tallies(self) -> Iterator[Tally]:
        """Yield all that was counted."""
        yield Tally(("aiomilter_generation",), self.generation)
        yield Tally(("aiomilter_config_reload_success_timestamp_seconds",), self.loaded)
        for counter in self._counters.values():
            yield from counter.tallies()
        for histogram in self._histograms.values():
            yield from histogram.tallies()

    # --------------------------------------------------------------------------------------------------------- events

    def message_counted(self, event: MessageCount) -> None:
        """Count a message."""
        (
            listener,
            filter_name,
            callback,
            verdict,
            code,
            reason,
            edits,
            refused,
            refused_count,
            duration,
            size,
            authors,
        ) = event
        key = (listener, filter_name, verdict, callback)
        cells = self._cells.get(key)
        if cells is None:
            cells = self._new_cells(key)
        number, durations, sizes = cells
        number[0] += 1
        durations[bisect_left(SECONDS, duration)] += 1
        durations[-1] += duration
        if size is not None:
            sizes[bisect_left(_SIZES, size)] += 1
            sizes[-1] += size
        if code is not None and verdict in _REFUSALS:
            self._replied(code, reason)
        for at, kind in enumerate(edits):
            author = authors[at] if at < len(authors) else ""
            self._edits.add((author or filter_name, kind))
        if refused_count:
            self._refused(filter_name, refused, refused_count)

    def _new_cells(self, key: tuple[str, str, str, str]) -> tuple[list[float], list[float], list[float]]:
        """Return where messages of a kind are counted: the number, the buckets of their durations, those of their sizes."""
        cells = self._messages.cell(key), self._durations.cell(key[:1]), self._sizes.cell(key[:1])
        if len(self._cells) < _MOST_LABELS:
            self._cells[key] = cells
        return cells

    def _refused(self, filter_name: str, refused: Sequence[RefusedRecipient], count: int) -> None:
        counter = self._counters["aiomilter_recipients_refused_total"]
        for each in refused:
            counter.add((each.filter or filter_name, each.answer.verdict))
            self._replied(each.answer.code, each.reason)
        if rest := count - len(refused):
            counter.add((filter_name, _OTHER), rest)

    def shadows_compared(self, event: MessageEnded) -> None:
        """Count what shadows would have done otherwise."""
        for outcome in event.shadow:
            if outcome.differs:
                labels = outcome.filter, outcome.live, outcome.shadow
                self._counters["aiomilter_shadow_differences_total"].add(labels)

    def client_refused(self, event: ClientRefused) -> None:
        """Count the reply to a client."""
        if event.answer.verdict in _REFUSALS:
            self._replied(event.answer.code, event.reason)

    def _replied(self, code: int | None, reason: str) -> None:
        if reason and reason not in self._reasons:
            if len(self._reasons) >= MOST_REASONS:
                reason = _OTHER
            self._reasons.add(reason)
        self._counters["aiomilter_replies_total"].add((str(code or ""), reason))

    def callback_failed(self, event: CallbackFailed) -> None:
        """Count a failure."""
        self._counters["aiomilter_failures_total"].add(_callback(event.where))

    def temporary_failed(self, event: TemporaryFailed) -> None:
        """Count a failure of something that the filter depends on."""
        self._counters["aiomilter_failures_total"].add(_callback(event.where))

    def callback_timed_out(self, event: CallbackTimedOut) -> None:
        """Count a callback that took too long."""
        if not event.stuck:  # it was counted when its time was up
            self._counters["aiomilter_timeouts_total"].add(_callback(event.where))

    @property
    def timing(self) -> bool:
        """Have the times of callbacks."""
        return True

    def callback_waited(self, event: CallbackWaited) -> None:
        """Count a callback that waited, and how long."""
        self._histograms["aiomilter_callback_duration_seconds"].add(_callback(event.where), event.duration)

    def limit_reached(self, event: LimitReached) -> None:
        """Count a limit."""
        self._counters["aiomilter_limits_total"].add((event.limit.value,))

    def loop_stalled(self, event: LoopStalled) -> None:
        """Count a blocked event loop, once it is over: the first report comes from another thread."""
        if event.over:
            self._counters["aiomilter_loop_stalls_total"].add((event.where.filter,))
            self._counters["aiomilter_loop_stall_seconds_total"].add((event.where.filter,), event.duration)

    def health_checked(self, event: HealthChecked) -> None:
        """Count a check."""
        self._counters["aiomilter_health_checks_total"].add((event.where.listener,))

    def lifecycle(self, event: Lifecycle) -> None:
        """Note a reload."""
        if event.kind is LifecycleKind.RELOADED:
            self.generation += 1
            self.loaded = time()


def _callback(where: Where) -> tuple[str, str]:
    return where.filter, where.callback
