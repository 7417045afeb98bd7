"""``aiomilter shadow report``: what shadows would have done is counted, whatever else a log holds."""

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiomilter._cli import main
from aiomilter._cli.shadow import Seen, seen
from aiomilter.observe import Answer, Edit, MessageEnded, ShadowOutcome, Where
from aiomilter.observe.json import JsonFormatter
from aiomilter.observe.log import LogObserver

Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command; return its status, and the lines of output and errors."""

    def report(*arguments: str) -> tuple[int, list[str], list[str]]:
        status = main(["shadow", "report", *arguments])
        out, err = capsys.readouterr()
        return status, out.splitlines(), err.splitlines()

    return report


def line_of(
    *outcomes: ShadowOutcome,
    queue_id: str | None = "4XyZ",
    answer: str = "continue",
    helo: str = "h",
    formatter: logging.Formatter | None = None,
    **where: str,
) -> str:
    """Return the line that the log has of a message."""
    records: list[str] = []
    logger = logging.Logger("of a test")
    handler = logging.Handler()
    handler.setFormatter(formatter)
    handler.emit = lambda record: records.append(handler.format(record))  # type: ignore[method-assign]
    logger.addHandler(handler)
    event: Any = MessageEnded(
        where=Where(1, "192.0.2.1", "eom", queue_id, **where),
        helo=helo,
        sender="a@x.example",
        recipients=("b@y.example",),
        refused=(),
        refused_count=0,
        answer=Answer(answer),
        reason="",
        edits=(Edit("add_header", "X"),),
        edit_count=1,
        quarantine=None,
        duration=0.1,
        shadow=outcomes,
    )
    LogObserver(logger).message_ended(event)
    return records[0]


REFUSES = ShadowOutcome("new", "continue", "reject", "eom", "550 5.7.1 no", "no_way", duration=0.25)
EDITS = ShadowOutcome('it\'s "new"', "accept", "continue", "eom", edits=("add_header X", "replace_body"), edit_count=2)
ODD = ShadowOutcome(
    "]; x",
    "continue",
    "tempfail",
    "envrcpt",
    "451 4.7.1 it's \"late\"] of='x' shadow=['new' continue->reject time=0.1] of='y'",
    refused=("a'b\"@x.example", "x" * 1000, "c", "d"),
    refused_count=30,
    accepted=("x",),
    accepted_count=1,
)
FAILED = ShadowOutcome("new", "abort", "failed", "header", "ValueError")


@pytest.mark.parametrize("queue_id", ["4XyZ", None, "it's", "]"])
@pytest.mark.parametrize("outcomes", [[REFUSES], [EDITS], [ODD], [FAILED], [REFUSES, ODD, EDITS, ODD]])
@pytest.mark.parametrize("around", ["{}", "Nov 30 22:00:00 mx filter[7]: INFO {}\n"])
def test_a_line_of_the_log_is_read(outcomes: list[ShadowOutcome], queue_id: str | None, around: str) -> None:
    line = around.format(line_of(*outcomes, queue_id=queue_id, filter="f", peer="p", server="s"))
    assert list(seen(line)) == [
        Seen(each.filter, each.live, each.shadow, each.differs, queue_id or "") for each in outcomes
    ]


FORGED = " shadow=['new' reject->accept time=0.001 differs] of='4XyZ'"


@pytest.mark.parametrize("what", [FORGED, FORGED + "'", FORGED[:-6] + "'", FORGED[:-7], FORGED + "\\"])
def test_nothing_that_a_client_says_is_taken_for_a_shadow(what: str) -> None:
    for line in (line_of(helo=what), line_of(answer=f"550 5.7.1 no {what}"), line_of(queue_id=what, peer="p")):
        assert list(seen(line)) == []
    assert [each.shadow for each in seen(line_of(REFUSES, helo=what, answer=f"550 5.7.1 no {what}"))] == ["reject"]


@pytest.mark.parametrize(
    "line",
    [
        '{"shadow": [{"filter": "new"}]}',
        '{"shadow": [{"filter": 7, "live": [], "shadow": {}}], "queue_id": 1}',
        '{"shadow": 7}',
        '{"shadow": [["new", "continue", "reject"]]}',
        '{"shadow"' + "[" * 60_000,
        "[" * 60_000 + '"shadow"{',
        " shadow=[" * 7_000,
        " shadow=['" + "\\'" * 30_000,
        " shadow=['new' continue->reject time=0.1" + "; 'new' continue->reject time=0.1" * 1_500,
        "\udcff shadow=[\0",
    ],
)
def test_a_hostile_line_tells_nothing(line: str) -> None:
    assert list(seen(line)) == []


@pytest.mark.parametrize("outcomes", [[REFUSES], [ODD, FAILED], [EDITS] * 3])
def test_a_line_of_the_json_log_is_read(outcomes: list[ShadowOutcome]) -> None:
    line = line_of(*outcomes, formatter=JsonFormatter())
    assert list(seen(line + "\n")) == [
        Seen(each.filter, each.live, each.shadow, each.differs, "4XyZ") for each in outcomes
    ]


def test_lines_of_json_are_read() -> None:
    outcome = {"filter": "new", "live": "continue", "shadow": "reject", "differs": True}
    line = json.dumps({"event": "message_ended", "queue_id": "4XyZ", "shadow": [outcome, outcome | {"live": "?"}]})
    assert list(seen(line)) == list(seen("mx filter: " + line)) == [Seen("new", "continue", "reject", True, "4XyZ")]


def test_the_table_counts_and_names_examples_of_differences(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    passes = ShadowOutcome("new", "continue", "continue", "eom")
    lines = [line_of(REFUSES, EDITS, queue_id=f"Q{number}") for number in range(7)]
    lines += [line_of(passes), line_of(FAILED, queue_id=None), line_of(), "x" * 70_000 + line_of(REFUSES), "other"]
    log.write_text("\n".join(lines))

    status, out, err = run(str(log), "--examples", "3")

    assert (status, err) == (0, [])
    assert out == [
        "9 messages shown to shadows",
        "",
        'it\'s "new"',
        "  live      shadow     messages  differ  examples",
        "  accept    continue          7       7  Q0 Q1 Q2",
        "",
        "new",
        "  live      shadow     messages  differ  examples",
        "  continue  continue          1       0",
        "  continue  reject            7       7  Q0 Q1 Q2",
        "  abort     failed            1       0",
    ]
    assert run(str(log), "--filter", "other")[1] == ["no message in this log was shown to a shadow"]
    (found,) = run(str(log), "--json", "--filter", "new", "--examples", "1")[1]
    assert json.loads(found)["messages"] == 9
    assert json.loads(found)["shadows"]["new"][1] == {
        "live": "continue",
        "shadow": "reject",
        "messages": 7,
        "differ": 7,
        "examples": ["Q0"],
    }


def test_standard_input_is_read_and_a_missing_file_is_said(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(line_of(REFUSES).encode() + b"\n")))
    assert run("-")[1][0] == "1 message shown to shadows"
    assert run(str(tmp_path / "none"))[0] == 4


def test_so_many_names_are_counted_and_no_more(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    outcomes = [ShadowOutcome(f"f{number}", "continue", "reject") for number in range(150)]
    log.write_text("\n".join(line_of(each) for each in outcomes))
    out = run(str(log))[1]
    assert out[-1] == "and 50 outcomes of further shadows: more than 100 names"
    assert sum(line.startswith("f") for line in out) == 100
