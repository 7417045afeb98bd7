"""The names of all metrics, with their types, labels and what they mean: one table, of which everything else is made.

Labels have values from code, configuration or enums, never from mail.  Names and labels are a promise; what a row adds to is
:mod:`aiomilter.observe.metrics`.
"""

from typing import Final, Literal, NamedTuple

from aiomilter._tally import SECONDS

__all__ = ["METRICS", "Metric", "metric"]

_OCTETS: Final = (1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0, 67108864.0)


class Metric(NamedTuple):
    """One metric.

    Args:
        name: As Prometheus stores it; a histogram has ``_bucket``, ``_sum`` and ``_count`` behind it.
        kind: Its type.
        help: What it is, a sentence.
        labels: Names of its labels.
        bounds: Upper bounds of the buckets of a histogram, without the infinite one.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


def _rows() -> tuple[Metric, ...]:
    return (
        Metric(
            "aiomilter_messages_total",
            "counter",
            "Messages that have ended, by what decided them.",
            ("listener", "filter", "answer", "stage"),
        ),
        Metric("aiomilter_replies_total", "counter", "Refusals, by code and the filter's reason.", ("code", "reason")),
        Metric("aiomilter_recipients_refused_total", "counter", "Recipients that were refused.", ("filter", "kind")),
        Metric("aiomilter_edits_total", "counter", "Changes to messages.", ("filter", "kind")),
        Metric(
            "aiomilter_callback_duration_seconds",
            "histogram",
            "Time of callbacks that waited for something.",
            ("filter", "callback"),
            SECONDS,
        ),
        Metric("aiomilter_message_size_bytes", "histogram", "Size of messages.", ("listener",), _OCTETS),
        Metric(
            "aiomilter_message_duration_seconds", "histogram", "Time from MAIL to the answer.", ("listener",), SECONDS
        ),
        Metric("aiomilter_connections", "gauge", "Open connections of mail servers.", ("listener", "worker")),
        Metric("aiomilter_messages_in_progress", "gauge", "Messages between MAIL and answer.", ("listener", "worker")),
        Metric("aiomilter_memory_bytes", "gauge", "Octets that all connections buffer.", ("listener", "worker")),
        Metric("aiomilter_failures_total", "counter", "Callbacks that failed.", ("filter", "callback")),
        Metric("aiomilter_timeouts_total", "counter", "Callbacks that took too long.", ("filter", "callback")),
        Metric("aiomilter_limits_total", "counter", "Limits that were reached.", ("limit",)),
        Metric("aiomilter_loop_stalls_total", "counter", "Times that the event loop was blocked.", ("filter",)),
        Metric("aiomilter_loop_stall_seconds_total", "counter", "Time that it was blocked for.", ("filter",)),
        Metric("aiomilter_dns_queries_total", "counter", "Questions to name servers.", ("result", "backend")),
        Metric("aiomilter_dns_duration_seconds", "histogram", "Time of these.", ("result", "backend"), SECONDS),
        Metric("aiomilter_store_operations_total", "counter", "Steps of stores.", ("result", "backend")),
        Metric("aiomilter_scanner_requests_total", "counter", "Requests to scanners.", ("result", "backend")),
        Metric(
            "aiomilter_shadow_differences_total",
            "counter",
            "Messages that a shadow filter would have answered otherwise.",
            ("filter", "live", "shadow"),
        ),
        Metric("aiomilter_health_checks_total", "counter", "Connections that negotiated and quit.", ("listener",)),
        Metric("aiomilter_info", "info", "What runs.", ("version", "python", "loop")),
        Metric("aiomilter_generation", "gauge", "How often the filter was loaded."),
        Metric(
            "aiomilter_config_reload_success_timestamp_seconds",
            "gauge",
            "When the filter was loaded, seconds since 1970.",
        ),
    )


METRICS: Final = _rows()
"""All of them."""


def metric(name: str) -> Metric:
    """Return a metric by its name."""
    return next(row for row in METRICS if row.name == name)
