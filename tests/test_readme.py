"""README.rst: what it says of the code is so, and CI runs its commands.  Its blocks of code run in tests/help."""

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

import aiomilter
from aiomilter import CONTINUE, Milter, Reply
from aiomilter.context import Context, EndOfMessageContext
from aiomilter.handler import CALLBACKS
from aiomilter.observe import Answer, Edit, MessageEnded, Where
from aiomilter.observe.log import LogObserver
from aiomilter.testing import session
from aiomilter.wire.replies import Verdict
from tests.help.pages import PAGES, literal, python
from tests.shards import NEED_PROGRAMS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.rst").read_text("utf-8")
ANSWERS = PAGES["answers"].read_text("utf-8")
TEST_COMMAND = "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/python -m tests"


async def test_the_first_filter_does_what_it_says() -> None:
    names: dict[str, Any] = {}
    exec(python("README")[0].text, names)
    async with session(names["Welcome"]) as s:
        for sender in ("<x@spam.example>", "<X@SPAM.example>", "<x@spam.example.>"):
            assert await s.mail(sender) == Reply(550, "5.7.1", "Not from you, please")
        assert await s.mail("<alice@example.org>") is CONTINUE
        await s.rcpt("<bob@example.net>")
        result = await s.message(b"Subject: hi\r\n\r\nHello\r\n")
    assert b"X-Seen: 192.0.2.1, 1 recipient(s)\r\n" in result.octets


def test_the_first_filter_has_no_more_than_20_lines() -> None:
    assert len(python("README")[0].text.strip().splitlines()) <= 20


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 260


def test_the_line_of_a_message_in_the_readme_is_one_that_the_log_writes(caplog: pytest.LogCaptureFixture) -> None:
    (shown,) = (line for block in literal("README") for line in block.text.splitlines() if "eom: continue" in line)
    where = Where(1, "192.0.2.1", "eom", "4XyZ", "127.0.0.1:40312", filter="first_filter.Welcome")
    envelope = ("h", "alice@example.org", ("bob@example.net",), (), 0)
    edits = (Edit("add_header", "X-Seen"),)
    with caplog.at_level("INFO", logger="aiomilter"):
        LogObserver().message_ended(MessageEnded(where, *envelope, Answer("continue"), "", edits, 1, None, 0.002))
    (record,) = caplog.records
    assert shown == f"{record.levelname} {record.name}: {record.getMessage()}"


@pytest.mark.parametrize("text", [README, ANSWERS], ids=["README", "answers"])
def test_the_tables_name_every_callback_and_every_answer(text: str) -> None:
    missing = [name for name in (*CALLBACKS.values(), "abort", "close", "negotiate") if f"\n``{name}`` " not in text]
    missing += [verdict.name for verdict in Verdict if f"``{verdict.name}``" not in text]
    assert missing == []


def test_the_context_has_what_the_manual_names() -> None:
    line = ANSWERS.partition("In ``eom`` the context also has ")[2].partition("; see")[0]
    named = set(re.findall(r"``(\w+)``", line))
    public = {name for name in dir(EndOfMessageContext) if not name.startswith("_")} - set(dir(Context))
    assert named == public


def test_ci_calls_the_test_command_of_the_readme_and_what_that_leaves_out() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    (pattern,) = re.findall(r"command=\$\(grep -m 1 -E '(.*)' README\.rst\)", script)

    assert re.findall(pattern, README, re.MULTILINE) == [f"    {TEST_COMMAND}"]
    assert script.count('bash -c "$command"') == 1
    assert script.count(f"python -m tests --shard {' --shard '.join(NEED_PROGRAMS)}") == 1


def test_the_readme_links_every_page_of_the_manual_and_no_other() -> None:
    links = dict(re.findall(r"`(\w+) <(aiomilter/help/\S+)>`__", README))
    assert links == {
        name: f"aiomilter/help/{name}.rst" for name in PAGES if name != "README" and not name.startswith("filter-")
    }


def test_the_filter_that_help_shows_first_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[type[Milter], str]] = []
    monkeypatch.setattr(aiomilter, "run", lambda factory, socket: served.append((factory, socket)))
    shown = (aiomilter.__doc__ or "").partition("::\n\n")[2].partition("\n\n``aiomilter check")[0]
    exec(textwrap.dedent(shown), {})
    ((factory, socket),) = served
    assert issubclass(factory, Milter)
    assert socket == "inet:8890@127.0.0.1"
    assert len(shown.splitlines()) <= 12


def test_class_attributes_named_in_the_manual_exist() -> None:
    for name in ("macros", "leading_space", "rejected_recipients", "actions"):
        assert f"``{name} = " in ANSWERS
        assert hasattr(Milter, name)
