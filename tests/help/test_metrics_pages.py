"""What the pages on metrics and health say of files and programs beside aiomilter."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from aiomilter._cli.metric_files import ALERTS
from aiomilter.observe.metric_table import METRICS
from tests.interop.rigs import promtool
from tests.programs import needed

from .pages import PAGES, literal


def test_each_metric_that_is_named_is_one_and_has_its_labels() -> None:
    text = PAGES["metrics"].read_text("utf-8") + PAGES["health"].read_text("utf-8")
    known = {row.name: set(row.labels) for row in METRICS}
    assert set(re.findall(r"``(aiomilter_\w+)``", text)) <= known.keys()
    for name, what in re.findall(r"(?m)^``(aiomilter_\w+)``  +(.*)$", text):
        assert set(re.findall(r"``(\w+)``", what)) <= known[name]
    assert ("eight" in text) == (len(ALERTS) == 8)


def test_the_configuration_of_prometheus_is_one(tmp_path: Path) -> None:
    (block,) = [block.text for block in literal("metrics") if block.language == "yaml"]
    assert yaml.safe_load(block)["scrape_configs"][0]["static_configs"][0]["targets"] == ["127.0.0.1:9464"]
    if promtool.missing() is None:
        (tmp_path / "prometheus.yml").write_text(block)
        (tmp_path / "aiomilter.rules.yml").write_text("groups: []\n")
        command = [str(promtool.PROMTOOL), "check", "config", str(tmp_path / "prometheus.yml")]
        subprocess.run(command, check=True, capture_output=True, timeout=300)


@pytest.mark.interop
def test_the_configuration_of_haproxy_is_one(tmp_path: Path) -> None:
    haproxy = needed("haproxy")
    (block,) = [block.text for block in literal("health") if block.text.startswith("backend")]
    frame = "defaults\n    timeout connect 1s\n    timeout server 1s\n    timeout client 1s\n"
    (tmp_path / "haproxy.cfg").write_text(frame + block + "\n")
    done = subprocess.run(
        [haproxy, "-c", "-f", str(tmp_path / "haproxy.cfg")], capture_output=True, text=True, check=False, timeout=300
    )
    assert "Configuration file has no error" in done.stdout + done.stderr, done.stderr
