"""``aiomilter run`` writes its log as it is asked to."""

import json
import os
import signal
import smtplib
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.patience import PATIENCE

FILTER: Final = """\
import logging
import warnings
from aiomilter import DISCARD, Milter, Reply

class Gate(Milter):
    async def envfrom(self, ctx, mail):
        if "raise" in mail.path:
            raise ValueError("one\\ntwo")

    async def envrcpt(self, ctx, rcpt):
        ctx.log.info("seen")
        if "trap" in rcpt.path:
            return Reply(550, "5.1.1", "no such mailbox", reason="trap")

    async def eom(self, ctx):
        logging.getLogger("mine").warning("mine %s", "too", extra={"order": 5})
        warnings.warn("old")
        ctx.reason("late")
        return DISCARD
"""


def environment() -> dict[str, str]:
    """Return one in which stderr takes ASCII alone, as in a unit without a locale."""
    return {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}


def run(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    (folder / "f.py").write_text(FILTER)
    command = [sys.executable, "-m", "aiomilter", "run", "f.py", "--smtp", "0", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=pipe, text=True, encoding="ascii"
    )


def lines_of(folder: Path, *arguments: str) -> list[str]:
    """Play two messages to a daemon, and return its log."""
    with run(folder, *arguments) as process:
        assert process.stderr is not None
        try:
            lines = [next(process.stderr), next(process.stderr)]
            port = int(lines[1].partition("127.0.0.1:")[2].partition(" ")[0])
            with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE) as client:
                client.sendmail("alice@x.example", ["trap@y.example", "b@y.example"], "Subject: x\r\n\r\nx\r\n")
                assert client.mail("<raise@x.example>")[0] == 451
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=PATIENCE)[1], process.returncode
        finally:
            process.kill()
    return [*(line.rstrip("\n") for line in lines), *rest.splitlines()]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What a daemon writes as JSON."""
    return [json.loads(line) for line in lines_of(tmp_path_factory.mktemp("json"), "--log-format", "json")]


pytestmark = pytest.mark.slow


def only(records: list[dict[str, Any]], **wanted: object) -> dict[str, Any]:
    (found,) = [record for record in records if wanted.items() <= record.items()]
    return found


def test_as_json_each_line_is_an_object_whoever_has_written_it(records: list[dict[str, Any]]) -> None:
    assert {"aiomilter", "aiomilter.filter", "mine"} <= {record["logger"] for record in records}
    assert only(records, text="mine too")["extra"] == {"order": 5}
    assert sum("UserWarning: old" in record.get("text", "") for record in records) == 1
    assert sum(record.get("kind") == "listener_stopped" for record in records) == 2


def test_as_json_a_failure_has_its_traceback(records: list[dict[str, Any]]) -> None:
    failed = only(records, event="callback_failed")
    assert failed["error"] == r"ValueError: one\x0atwo"
    assert any("f.py" in line for line in failed["traceback"])


def test_as_json_a_message_and_the_filters_records_of_it_have_one_id(records: list[dict[str, Any]]) -> None:
    (message,) = [each for each in records if each["event"] == "message_ended" and each["reason"] == "late"]
    seen = [record for record in records if record.get("text") == "seen"]
    assert [record["id"] for record in seen] == [message["id"]] * 2
    assert message["refused"][0]["answer"] == {
        "verdict": "reject",
        "code": 550,
        "enhanced": "5.1.1",
        "text": "no such mailbox",
    }


def test_addresses_are_shown_as_a_hash_of_the_key_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "log.key").write_text("0123456789abcdef\n")
    (tmp_path / "log.key").chmod(0o600)
    lines = lines_of(tmp_path, "--log-addresses", "hash", "--log-key", "log.key")
    assert not any("@x.example" in line or "@y.example" in line for line in lines)
    assert any("sender='#" in line and "refused=['#" in line for line in lines)
    # As text a record of the filter ends in what it is about.
    assert any("seen, client='127.0.0.1'" in line and "Gate'" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--log-addresses", "hash"], "--log-addresses hash needs a secret: make one with "),
        (["--log-addresses", "hash", "--log-key", "none"], "--log-key: cannot take keys from "),
        (["--log-format", "xml"], "expected one of text, json, found 'xml'"),
    ],
)
def test_a_hash_without_a_key_is_refused_with_the_way_to_one(tmp_path: Path, arguments: list[str], said: str) -> None:
    with run(tmp_path, *arguments) as process:
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert said in err
    assert "Traceback" not in err


def test_a_check_of_a_file_finds_a_hash_without_a_key(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(FILTER)
    (tmp_path / "x.toml").write_text('filter = "f.py"\n[log]\naddresses = "hash"\n')
    command = [sys.executable, "-m", "aiomilter", "config", "check", "x.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, "--log-addresses hash needs a secret" in done.stderr) == (2, True)


def test_a_file_may_ask_for_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('[log]\nformat = "json"\naddresses = "domain"\n')
    lines = lines_of(tmp_path, "--config", "x.toml")
    (message,) = [
        found for line in lines if (found := json.loads(line))["event"] == "message_ended" and found["reason"]
    ]
    assert message["sender"] == "***@x.example"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AIOMILTER_LOG")]:
        monkeypatch.delenv(name)
