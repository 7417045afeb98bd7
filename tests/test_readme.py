"""What README.rst says is so."""

import re
from pathlib import Path
from typing import Any

import pytest

from aiomilter import CONTINUE, REJECT, Milter, Refusal, Reply, Response
from aiomilter.handler import CALLBACKS
from aiomilter.observe import MessageEnded, RefusedRecipient, Where
from aiomilter.observe.log import LogObserver
from aiomilter.testing import session
from aiomilter.wire.replies import Verdict

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.rst").read_text()
TEST_COMMAND = "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/python -m tests"


def code_blocks() -> list[str]:
    blocks = re.findall(r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", README, re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks]


async def test_the_first_filter_does_what_it_says() -> None:
    names: dict[str, Any] = {}
    exec(code_blocks()[0], names)
    async with session(names["Welcome"]) as s:
        for sender in ("<x@spam.example>", "<X@SPAM.example>", "<x@spam.example.>"):
            assert await s.mail(sender) == Reply(550, "5.7.1", "Not from you, please")
        assert await s.mail("<alice@example.org>") is CONTINUE
        await s.rcpt("<bob@example.net>")
        result = await s.message(b"Subject: hi\r\n\r\nHello\r\n")
    assert b"X-Seen: 192.0.2.1, 1 recipient(s)\r\n" in result.octets


async def test_the_observer_counts_what_it_says() -> None:
    names: dict[str, Any] = {}
    (block,) = (each for each in code_blocks() if "class Counts(Observer)" in each)
    exec(block, names)

    class Refusing(Milter):
        async def envfrom(self, ctx: object, mail: object) -> Response:
            return Refusal(REJECT, reason="spf_fail")

    counts = names["Counts"]()
    async with session(Refusing, observer=[counts]) as s:
        assert await s.mail("<x@spam.example>") is REJECT
    assert counts.answers == {"spf_fail": 1}


def test_the_line_of_a_message_in_the_readme_is_one_that_the_log_writes(caplog: pytest.LogCaptureFixture) -> None:
    shown = README.partition("postmaster needs to know::\n\n")[2].partition("\n\n")[0]
    where = Where(1, "192.0.2.1", "eom", "4XyZ", "127.0.0.1:40312")
    refused = RefusedRecipient("c@y.example", "550 5.1.1 no such mailbox")
    envelope = ("h", "a@x.example", ("b@y.example",), (refused,), 1)
    with caplog.at_level("INFO", logger="aiomilter"):
        LogObserver().message_ended(MessageEnded(where, *envelope, "reject", "spf_fail", (), 0, None, 0.012))
    assert " ".join(shown.split()) == caplog.records[0].getMessage()


def test_the_first_filter_has_no_more_than_20_lines() -> None:
    assert len(code_blocks()[0].strip().splitlines()) <= 20


def test_the_tables_name_every_callback_and_every_answer() -> None:
    missing = [name for name in (*CALLBACKS.values(), "abort", "close", "negotiate") if f"\n``{name}`` " not in README]
    missing += [verdict.name for verdict in Verdict if f"``{verdict.name}``" not in README]
    assert missing == []


def test_the_context_has_what_the_readme_names() -> None:
    line = README.partition("In ``eom`` it also has ")[2].partition("\n\n")[0]
    named = set(re.findall(r"``(\w+)``", line))
    from aiomilter import Context, EndOfMessageContext

    public = {name for name in dir(EndOfMessageContext) if not name.startswith("_")} - set(dir(Context))
    assert named == public


def test_ci_calls_the_test_command_of_the_readme_and_what_that_leaves_out() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    (pattern,) = re.findall(r"command=\$\(grep -m 1 -E '(.*)' README\.rst\)", script)

    assert re.findall(pattern, README, re.MULTILINE) == [f"    {TEST_COMMAND}"]
    assert script.count('bash -c "$command"') == 1
    assert script.count("python -m tests --shard 1/2") == 1


def test_every_file_that_the_readme_names_is_there() -> None:
    for name in re.findall(r"(?:examples|tests|aiomilter)/[\w/]+\.?(?:py|rst)?", README):
        assert (ROOT / name.rstrip("/.")).exists(), name


def test_class_attributes_named_in_the_readme_exist() -> None:
    for name in ("macros", "leading_space", "rejected_recipients", "actions"):
        assert f"``{name} = " in README
        assert hasattr(Milter, name)
