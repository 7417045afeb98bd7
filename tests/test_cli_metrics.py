"""``aiomilter metrics`` and ``aiomilter health``."""

import asyncio
import json
import logging
import re
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from aiomilter import EndOfMessageContext, Milter, serve
from aiomilter._cli import main
from aiomilter._cli.metric_files import ALERTS, PANELS, alerts, dashboard, names
from aiomilter.mta import connect
from aiomilter.observe import HealthChecked, Observer
from aiomilter.observe.log import LogObserver
from aiomilter.observe.metric_table import METRICS
from tests.patience import PATIENCE

LABEL = re.compile(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}")
BY = re.compile(r"by \(([^)]*)\)")
NAME = re.compile(r"aiomilter_\w+")
KNOWN = {
    name: {*row.labels, *(["le"] if row.bounds else []), "instance", "job"}
    for row in METRICS
    for name in ([f"{row.name}_{end}" for end in ("bucket", "sum", "count")] if row.bounds else [row.name])
}


def expressions() -> list[tuple[str, str]]:
    """Return the expressions of dashboard and alerts, and the texts that name their labels."""
    document = json.loads(dashboard())
    queries = [(target["expr"], target["legendFormat"]) for panel in document["panels"] for target in panel["targets"]]
    rules = yaml.safe_load(alerts())["groups"][0]["rules"]
    return queries + [(rule["expr"], rule["annotations"]["summary"]) for rule in rules]


@pytest.mark.parametrize(("expression", "text"), expressions())
def test_dashboard_and_alerts_use_names_and_labels_that_there_are(expression: str, text: str) -> None:
    used = set(NAME.findall(expression))
    assert used
    assert used <= KNOWN.keys()
    labels = set.intersection(*(KNOWN[name] for name in used))
    grouped = {label for by in BY.findall(expression) for label in by.split(", ")}
    assert grouped <= labels
    assert set(LABEL.findall(text)) <= grouped


def test_the_dashboard_shows_every_metric() -> None:
    used = {name for expression, _ in expressions() for name in NAME.findall(expression)}
    for row in METRICS:
        assert row.name in used or f"{row.name}_bucket" in used


def test_panels_do_not_overlap_and_alerts_are_eight() -> None:
    panels = json.loads(dashboard())["panels"]
    assert len(panels) == len({(each["gridPos"]["x"], each["gridPos"]["y"]) for each in panels}) == len(PANELS)
    assert len({each["id"] for each in panels}) == len(panels)
    assert len({alert.name for alert in ALERTS}) == 8


@pytest.mark.parametrize(("word", "made"), [("dashboard", dashboard), ("alerts", alerts), ("names", names)])
def test_a_command_prints_them(word: str, made: Callable[[], str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", word]) == 0
    assert capsys.readouterr().out == made()


# --------------------------------------------------------------------------------------------------------------- health


class Ends(Milter):
    """Asks for the end of messages."""

    async def eom(self, ctx: EndOfMessageContext) -> None:
        return None


class Checks(Observer):
    """Counts checks."""

    def __init__(self) -> None:
        self.number = 0

    def health_checked(self, event: HealthChecked) -> None:
        self.number += 1


async def test_a_milter_that_answers_is_well(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    checks = Checks()
    async with serve(Ends, f"unix:{tmp_path}/s", observer=checks):
        assert await asyncio.to_thread(main, ["health", f"unix:{tmp_path}/s"]) == 0
        async with connect(f"unix:{tmp_path}/s", timeout=PATIENCE) as session:
            await session.connect()
    assert capfd.readouterr() == ("", "")
    assert checks.number == 1


async def test_a_filter_that_asks_for_no_client_counts_no_mail_as_a_check(tmp_path: Path) -> None:
    checks = Checks()
    async with serve(Milter, f"unix:{tmp_path}/s", observer=checks):
        await checked(f"unix:{tmp_path}/s", 2)
    assert checks.number == 0


async def checked(address: str, number: int) -> None:
    for _ in range(number):
        async with connect(address, timeout=PATIENCE):
            """Negotiated, and quit."""


@pytest.mark.parametrize("number", [300, pytest.param(10_000, marks=pytest.mark.long)])
async def test_many_checks_leave_no_line_and_nothing_grows(
    number: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checks = Checks()
    with caplog.at_level(logging.INFO, "aiomilter"):
        async with serve(Ends, f"unix:{tmp_path}/s", observer=[LogObserver(), checks]) as server:
            await checked(f"unix:{tmp_path}/s", number // 3)
            caplog.clear()
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            await checked(f"unix:{tmp_path}/s", number)
            assert number < 10_000 or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < memory + 8192
            assert sum(server.load().connections.values()) <= 2
            assert [record.getMessage() for record in caplog.records] == []
    assert checks.number in range(number + number // 3 - 1, number + number // 3 + 1)


def test_one_that_does_not_answer_is_said_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["health", f"unix:{tmp_path}/none"]) == 1
    assert re.search(r"none: cannot connect: No such file or directory", capsys.readouterr().err)
    assert main(["health", "nonsense"]) == 2


@pytest.mark.parametrize("says", [b"", b"HTTP/1.0 400 Bad Request\r\n\r\n", b"\0\0\0\1O", b"\xff\xff\xff\xff"])
async def test_one_that_is_no_milter_is_said_so(
    says: bytes, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    writers = []

    def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says)
        writers.append(writer)
        if says:
            writer.close()

    server = await asyncio.start_unix_server(answer, tmp_path / "s")
    command = ["health", f"unix:{tmp_path}/s", "--timeout", "0.2"]
    assert await asyncio.to_thread(main, command) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no answer within 0.2 s" in error or says
    server.close()
    for writer in writers:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
