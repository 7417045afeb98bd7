"""promtool judges what Prometheus would read: the metrics as text, and the alert rules."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiomilter._cli.metric_files import ALERTS, alerts
from aiomilter.observe.metric_table import METRICS
from aiomilter.observe.prometheus import exposition
from tests.interop.rigs import promtool
from tests.programs import need

pytestmark = pytest.mark.interop


def judged(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[str]:
    need(promtool.missing())
    command = [str(promtool.PROMTOOL), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, check=False, timeout=300)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def values() -> Iterator[Any]:
    for row in METRICS:
        for end in ([str(bucket) for bucket in range(len(row.bounds) + 1)] + ["sum"]) if row.bounds else [None]:
            yield (row.name, *(["x"] * len(row.labels)), *([end] if end else [])), 7


def test_it_finds_no_fault_with_the_metrics() -> None:
    done = judged("check", "metrics", given=exposition(values, "")[0])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_would_find_one() -> None:
    done = judged("check", "metrics", given=b"# TYPE aiomilter_messages counter\naiomilter_messages 1\n")
    assert done.returncode == 3
    assert "counter metrics should have" in done.stderr


def test_it_finds_no_fault_with_the_alert_rules(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(alerts())
    done = judged("check", "rules", str(tmp_path / "rules.yml"))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"SUCCESS: {len(ALERTS)} rules found" in done.stdout


def test_an_alert_fires_when_a_callback_fails(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(alerts())
    (tmp_path / "test.yml").write_text("""\
rule_files: [rules.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: aiomilter_info{version="1"}
        values: 1x30
      - series: aiomilter_failures_total{instance="mx",filter="f.F",callback="eom"}
        values: 0x10 1x20
      - series: aiomilter_messages_total{instance="mx",answer="tempfail"}
        values: 0+5x30
      - series: aiomilter_messages_total{instance="mx",answer="accept"}
        values: 0+5x30
    alert_rule_test:
      - eval_time: 9m
        alertname: AiomilterCallbackFails
        exp_alerts: []
      - eval_time: 12m
        alertname: AiomilterCallbackFails
        exp_alerts:
          - exp_labels: {severity: critical, instance: mx, filter: f.F, callback: eom}
            exp_annotations:
              summary: eom of f.F fails; on_error is answered.
              description: The traceback is in the log.
      - eval_time: 25m
        alertname: AiomilterTempfails
        exp_alerts:
          - exp_labels: {severity: critical, instance: mx}
            exp_annotations:
              summary: More than a fifth of the messages is put off.
              description: aiomilter_replies_total has the reasons; see the log for failures.
      - eval_time: 25m
        alertname: AiomilterAbsent
        exp_alerts: []
""")
    done = judged("test", "rules", str(tmp_path / "test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
