"""What ``aiomilter check`` and ``aiomilter run --smtp`` show of a composition."""

import json
from pathlib import Path

import pytest

from aiomilter import CONTINUE, mta
from aiomilter._cli import main
from aiomilter._cli.printer import Printer
from aiomilter.smtp import Outcome
from aiomilter.wire.events import Mail, Rcpt

FILTERS = """
from aiomilter import *
from aiomilter.compose import *
from aiomilter.message import *

class Access(Milter):
    async def envrcpt(self, ctx, rcpt):
        return Reply(550, "5.1.1", "nobody") if rcpt.local_part == "nobody" else None

class Broken(Milter):
    async def eom(self, ctx):
        raise ValueError("as asked")

class Footer(MessageMilter):
    async def message(self, ctx, message):
        message.banner("Footer", place="bottom")
        return REJECT if "spam" in message.headers.text("Subject") else None

milter = compose(check(Access, name="access"), check(Broken, name="broken", on_error=CONTINUE), edit(Footer, name="footer"))
"""
RECIPIENTS = ["--recipient", "bob@example.net", "--recipient", "nobody@example.net"]


@pytest.fixture
def filters(tmp_path: Path) -> str:
    file = tmp_path / "filters_of_a_composition.py"
    file.write_text(FILTERS)
    (tmp_path / "spam.eml").write_text("Subject: spam\n\nHello\n")
    return str(file)


def test_check_names_the_filter_that_has_answered(filters: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", filters, *RECIPIENTS]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("rcpt     <nobody")).endswith("550 5.1.1 nobody  [access]")
    assert next(line for line in lines if line.startswith("rcpt     <bob")).endswith("continue")
    assert next(line for line in lines if line.startswith("eom")).endswith("continue")
    assert "failed: broken, eom: ValueError: as asked" in lines
    assert {"--- as sent", "+++ as delivered", "+Footer"} <= set(lines)


def test_check_names_the_filter_that_has_refused_the_message(filters: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", filters, str(Path(filters).parent / "spam.eml"), *RECIPIENTS])
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("eom")).endswith("reject  [footer]")


def test_check_names_no_filter_where_there_is_one(filters: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{filters}:Access", *RECIPIENTS]) == 0
    assert "[" not in capsys.readouterr().out.partition("== a sample")[2]


def test_the_json_names_it_too(filters: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", filters, "--json", *RECIPIENTS])
    (message,) = json.loads(capsys.readouterr().out)["messages"]
    assert [each["filter"] for each in message["stages"] if each["stage"] == "RCPT"] == ["", "access"]


@pytest.mark.parametrize("changed", [True, False])
async def test_the_smtp_front_prints_what_the_filters_change(capsys: pytest.CaptureFixture[str], changed: bool) -> None:
    original = b"Subject: hello\r\n\r\nHello\r\n"
    sent = mta.deliver("postfix", Mail("<a@x.example>"), (Rcpt("<b@y.example>"),), mta.cut(original, "postfix"))
    octets = original.replace(b"Hello\r\n", b"Hello\r\nFooter\r\n") if changed else sent.octets
    delivered = mta.Delivered(sent.sender, sent.recipients, None, octets)
    result = mta.MessageResult(CONTINUE, 8, (), 0, delivered)  # type: ignore[arg-type]
    Printer()(Outcome("1", "192.0.2.1", "client", result, "250 2.0.0 Ok", original))
    printed = capsys.readouterr().out
    assert ("+Footer" in printed.splitlines()) is changed
    assert ("-------- changed" in printed) is changed
