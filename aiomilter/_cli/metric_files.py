"""A dashboard for Grafana and alert rules for Prometheus, made of the table of metrics."""

import json
from typing import Any, Final, NamedTuple

from aiomilter.observe.metric_table import METRICS

__all__ = ["ALERTS", "PANELS", "Alert", "Panel", "alerts", "dashboard", "names"]


class Panel(NamedTuple):
    """A panel of the dashboard.

    Args:
        title: Its title.
        unit: Of its values, as Grafana names it.
        queries: What it shows: the expression, and how a line is named.
    """

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


class Alert(NamedTuple):
    """An alert rule.

    Args:
        name: Its name.
        expression: When it fires.
        minutes: How long that has to be so.
        severity: A label: "critical" where mail is lost or delayed, else "warning".
        summary: What happens, a sentence.
        action: What to do, a sentence.
    """

    name: str
    expression: str
    minutes: int
    severity: str
    summary: str
    action: str


def _rate(name: str, *by: str) -> str:
    labels = ", ".join(by)
    return f"sum by ({labels}) (rate({name}[$__rate_interval]))" if by else f"sum(rate({name}[$__rate_interval]))"


def _quantile(part: float, name: str, *by: str) -> str:
    return f"histogram_quantile({part}, {_rate(f'{name}_bucket', 'le', *by)})"


PANELS: Final = (
    Panel("Messages by answer", "reqps", ((_rate("aiomilter_messages_total", "answer"), "{{answer}}"),)),
    Panel(
        "Refusals by reason", "reqps", ((_rate("aiomilter_replies_total", "code", "reason"), "{{code}} {{reason}}"),)
    ),
    Panel(
        "Time of a message",
        "s",
        (
            (_quantile(0.5, "aiomilter_message_duration_seconds"), "half of them"),
            (_quantile(0.99, "aiomilter_message_duration_seconds"), "99 of 100"),
        ),
    ),
    Panel(
        "Callbacks that wait, 95 of 100",
        "s",
        ((_quantile(0.95, "aiomilter_callback_duration_seconds", "filter", "callback"), "{{filter}} {{callback}}"),),
    ),
    Panel(
        "Failures and timeouts",
        "reqps",
        (
            (_rate("aiomilter_failures_total", "filter", "callback"), "{{filter}} {{callback}} failed"),
            (_rate("aiomilter_timeouts_total", "filter", "callback"), "{{filter}} {{callback}} took too long"),
        ),
    ),
    Panel(
        "Limits and a blocked event loop",
        "reqps",
        (
            (_rate("aiomilter_limits_total", "limit"), "{{limit}}"),
            (_rate("aiomilter_loop_stalls_total", "filter"), "{{filter}} blocks"),
            (_rate("aiomilter_loop_stall_seconds_total", "filter"), "{{filter}} blocks, seconds a second"),
        ),
    ),
    Panel(
        "Connections and messages in progress",
        "short",
        (
            ("sum by (listener) (aiomilter_connections)", "{{listener}} connections"),
            ("sum by (listener) (aiomilter_messages_in_progress)", "{{listener}} messages"),
        ),
    ),
    Panel("Memory for data of connections", "bytes", (("sum by (worker) (aiomilter_memory_bytes)", "{{worker}}"),)),
    Panel("Size of messages, half of them", "bytes", ((_quantile(0.5, "aiomilter_message_size_bytes"), "size"),)),
    Panel(
        "Recipients refused and edits",
        "reqps",
        (
            (_rate("aiomilter_recipients_refused_total", "filter", "kind"), "{{filter}} refused, {{kind}}"),
            (_rate("aiomilter_edits_total", "filter", "kind"), "{{filter}} {{kind}}"),
        ),
    ),
    Panel(
        "DNS",
        "reqps",
        (
            (_rate("aiomilter_dns_queries_total", "backend", "result"), "{{backend}} {{result}}"),
            (_quantile(0.95, "aiomilter_dns_duration_seconds", "backend"), "{{backend}}, seconds, 95 of 100"),
        ),
    ),
    Panel(
        "Stores and scanners",
        "reqps",
        (
            (_rate("aiomilter_store_operations_total", "backend", "result"), "{{backend}} {{result}}"),
            (_rate("aiomilter_scanner_requests_total", "backend", "result"), "{{backend}} {{result}}"),
        ),
    ),
    Panel(
        "Shadow filters that differ",
        "reqps",
        ((_rate("aiomilter_shadow_differences_total", "filter", "live", "shadow"), "{{filter}} {{live}} {{shadow}}"),),
    ),
    Panel("Health checks", "reqps", ((_rate("aiomilter_health_checks_total", "listener"), "{{listener}}"),)),
    Panel(
        "Versions and reloads",
        "short",
        (
            ("max by (version, python, loop) (aiomilter_info)", "{{version}} on {{python}}, {{loop}}"),
            ("max by (instance) (aiomilter_generation)", "{{instance}} generation"),
            (
                "time() - max by (instance) (aiomilter_config_reload_success_timestamp_seconds)",
                "{{instance}} seconds since the filter was loaded",
            ),
        ),
    ),
)

ALERTS: Final = (
    Alert(
        "AiomilterAbsent",
        "absent(aiomilter_info)",
        2,
        "critical",
        "No aiomilter shows metrics.",
        "See whether it runs: systemctl status, and its log.",
    ),
    Alert(
        "AiomilterCallbackFails",
        "sum by (instance, filter, callback) (increase(aiomilter_failures_total[10m])) > 0",
        0,
        "critical",
        "{{ $labels.callback }} of {{ $labels.filter }} fails; on_error is answered.",
        "The traceback is in the log.",
    ),
    Alert(
        "AiomilterCallbackTimesOut",
        "sum by (instance, filter, callback) (increase(aiomilter_timeouts_total[10m])) > 0",
        0,
        "warning",
        "{{ $labels.callback }} of {{ $labels.filter }} takes too long; on_timeout is answered.",
        "See what it waits for; 'aiomilter help deadlines'.",
    ),
    Alert(
        "AiomilterLimitReached",
        "sum by (instance, limit) (increase(aiomilter_limits_total[10m])) > 0",
        0,
        "warning",
        "The limit on {{ $labels.limit }} was reached.",
        "The log names the option; 'aiomilter help limits'.",
    ),
    Alert(
        "AiomilterLoopBlocked",
        "sum by (instance, filter) (increase(aiomilter_loop_stalls_total[10m])) > 0",
        0,
        "critical",
        "{{ $labels.filter }} blocks the event loop, and all sessions with it.",
        "The log has the line of code where it does.",
    ),
    Alert(
        "AiomilterSlow",
        "histogram_quantile(0.95, sum by (instance, le) (rate(aiomilter_message_duration_seconds_bucket[10m]))) > 20",
        10,
        "warning",
        "One message of twenty takes more than 20 s.",
        "aiomilter_callback_duration_seconds says which callback waits.",
    ),
    Alert(
        "AiomilterTempfails",
        'sum by (instance) (rate(aiomilter_messages_total{answer="tempfail"}[10m]))'
        " / sum by (instance) (rate(aiomilter_messages_total[10m])) > 0.2",
        10,
        "critical",
        "More than a fifth of the messages is put off.",
        "aiomilter_replies_total has the reasons; see the log for failures.",
    ),
    Alert(
        "AiomilterDnsFails",
        'sum by (instance) (rate(aiomilter_dns_queries_total{result=~"failure|timeout"}[10m]))'
        " / sum by (instance) (rate(aiomilter_dns_queries_total[10m])) > 0.2",
        10,
        "warning",
        "More than a fifth of the questions to name servers fails.",
        "See whether the servers of resolv.conf answer; 'aiomilter help dns'.",
    ),
)


def dashboard() -> str:
    """Return a dashboard to import into Grafana, JSON."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    panels: list[dict[str, Any]] = []
    for number, panel in enumerate(PANELS):
        targets = [
            {"datasource": source, "expr": expression, "legendFormat": legend, "refId": chr(ord("A") + place)}
            for place, (expression, legend) in enumerate(panel.queries)
        ]
        panels.append(
            {
                "id": number + 1,
                "type": "timeseries",
                "title": panel.title,
                "datasource": source,
                "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
                "gridPos": {"h": 8, "w": 12, "x": number % 2 * 12, "y": number // 2 * 8},
                "targets": targets,
            }
        )
    variable = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}
    whole = {
        "title": "aiomilter",
        "uid": "aiomilter",
        "schemaVersion": 39,
        "tags": ["mail", "milter"],
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [variable]},
        "panels": panels,
    }
    return json.dumps(whole, indent=2) + "\n"


def alerts() -> str:
    """Return the alert rules, a file for ``rule_files`` of Prometheus, YAML."""
    lines = ["groups:", "  - name: aiomilter", "    rules:"]
    for alert in ALERTS:
        lines += [
            f"      - alert: {alert.name}",
            # A text in quotes of JSON is one of YAML.
            f"        expr: {json.dumps(alert.expression)}",
            *([f"        for: {alert.minutes}m"] if alert.minutes else []),
            "        labels:",
            f"          severity: {alert.severity}",
            "        annotations:",
            f"          summary: {json.dumps(alert.summary)}",
            f"          description: {json.dumps(alert.action)}",
        ]
    return "\n".join(lines) + "\n"


def names() -> str:
    """Return the names of all metrics, with types, labels and what they are."""
    return "".join(f"{row.name} {row.kind} {{{', '.join(row.labels)}}}\n    {row.help}\n" for row in METRICS)
