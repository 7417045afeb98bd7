"""Metrics for Prometheus: a collector for ``prometheus_client``, which is asked at a scrape and counts nothing itself.

In a program of your own::

    metrics = Metrics()
    REGISTRY.register(Collector(metrics))
    async with serve(MyFilter, "inet:8890@127.0.0.1", observer=[LogObserver(), metrics]):
        ...

It needs prometheus-client (``pip install prometheus-client``).  ``aiomilter run --metrics`` does all of it, for several
processes too; see ``aiomilter help metrics``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from aiomilter.observe.metric_table import METRICS
from aiomilter.observe.metric_table import Metric as Row
from aiomilter.observe.metrics import Metrics, Tally

__all__ = ["Collector", "exposition"]


class Collector:
    """Shows what was counted; ``REGISTRY.register(Collector(metrics))``.

    Args:
        source: What counts; or a function that returns the values.
    """

    def __init__(self, source: Metrics | Callable[[], Iterable[Tally]]) -> None:
        self._source: Callable[[], Iterable[Tally]] = source.tallies if isinstance(source, Metrics) else source

    def describe(self) -> Iterator[Metric]:
        """Yield the metrics without values, so that a registry finds names that are taken."""
        for row in METRICS:
            yield _family(row, {})

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics that have values."""
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for (name, *rest), value in self._source():
            found.setdefault(name, {})[tuple(rest)] = value
        for row in METRICS:
            if row.name in found:
                yield _family(row, found[row.name])


def exposition(source: Callable[[], Iterable[Tally]], accept: str) -> tuple[bytes, str]:
    """Return the values as text, and its content type.

    Args:
        source: Returns the values.
        accept: What the scraper takes, as in the header field Accept.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(source))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _family(row: Row, values: Mapping[tuple[str, ...], float]) -> Metric:
    match row.kind:
        case "counter":
            counter = CounterMetricFamily(row.name.removesuffix("_total"), row.help, labels=row.labels)
            for labels, value in values.items():
                counter.add_metric(labels, value)
            return counter
        case "gauge":
            gauge = GaugeMetricFamily(row.name, row.help, labels=row.labels)
            for labels, value in values.items():
                gauge.add_metric(labels, value)
            return gauge
        case "info":
            info = InfoMetricFamily(row.name.removesuffix("_info"), row.help)
            for labels in values:
                info.add_metric((), dict(zip(row.labels, labels, strict=True)))
            return info
        case "histogram":
            return _histogram(row, values)


def _histogram(row: Row, values: Mapping[tuple[str, ...], float]) -> Metric:
    family = HistogramMetricFamily(row.name, row.help, labels=row.labels)
    ends = [*(str(float(bound)) for bound in row.bounds), "+Inf"]
    for labels in dict.fromkeys(key[:-1] for key in values):
        counts = accumulate(values.get((*labels, str(bucket)), 0) for bucket in range(len(ends)))
        buckets = list(zip(ends, counts, strict=True))
        family.add_metric(labels, buckets=buckets, sum_value=values.get((*labels, "sum"), 0))
    return family
