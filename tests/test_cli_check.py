"""``aiomilter check``: what it prints, and how it ends."""

import contextlib
import importlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiomilter._cli import main
from tests.programs import needed

FILTER = """\
from aiomilter import ACCEPT, CONTINUE, DISCARD, REJECT, SKIP, TEMPFAIL, Action, Milter, Reply

class Filter(Milter):
"""


class Command:
    """Runs ``aiomilter check`` in this process, in a directory of its own."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.capsys = capsys
        self.out = ""
        self.err = ""

    def filter(self, body: str, name: str = "f.py") -> str:
        """Write a filter whose class has this body."""
        return self.write(FILTER + "".join(f"    {line}\n" for line in body.splitlines()), name)

    def write(self, text: str | bytes, name: str = "f.py") -> str:
        (self.directory / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    def __call__(self, *arguments: str) -> int:
        status = main(["check", *arguments])
        self.out, self.err = self.capsys.readouterr()
        return status

    def json(self, *arguments: str, status: int = 0) -> Any:
        assert self(*arguments, "--json") == status, self.err
        found = json.loads(self.out)
        schema.validate(found)
        return found


class Schema:
    """What the JSON is promised to look like."""

    def __init__(self) -> None:
        jsonschema: Any = importlib.import_module("jsonschema")
        path = Path(main.__code__.co_filename).parent / "check.schema.json"
        self.document = json.loads(path.read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator.check_schema(self.document)
        self.validate = jsonschema.Draft202012Validator(self.document).validate


schema = Schema()


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    # A busy machine may keep the whole process waiting for longer than a call that blocks.
    monkeypatch.setattr("aiomilter._cli.check._STALL_TIMEOUT", 60.0)
    before = set(sys.modules)
    yield Command(tmp_path, capsys)
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


# ------------------------------------------------------------------------------------------------------- for people


def test_a_filter_may_run_a_loop_of_its_own_and_leave_the_directory_while_it_is_imported(check: Command) -> None:
    check.write("import asyncio, os\nasyncio.run(asyncio.sleep(0))\nos.chdir('/')\n" + FILTER + "    pass\n", "loop.py")
    check.write("Subject: x\r\n\r\n", "message.eml")
    assert check("loop.py", "message.eml") == 0, check.err


def test_it_shows_answers_edits_diff_and_what_the_client_is_told(check: Command) -> None:
    check.filter(
        """\
async def envrcpt(self, ctx, rcpt):
    return Reply(550, "5.1.1", "no such mailbox") if rcpt.address.startswith("trap") else CONTINUE
async def header(self, ctx, header): pass
async def body(self, ctx, chunk): return SKIP
async def eom(self, ctx):
    ctx.change_header("Subject", 1, "[EXT] hello")
    ctx.add_recipient("new@x.example")
    ctx.quarantine("look at it")
    return ACCEPT
"""
    )
    check.write(b"Subject: hello\nFrom: a@x.example\n\nbody\n", "m.eml")

    status = check("f.py", "m.eml", "--recipient", "trap@x.example", "--recipient", "bob@x.example")

    assert status == 0
    *lines, told = check.out.splitlines()
    assert [re.sub(r" +[\d.]+ ms$", "", line.rstrip()) for line in lines[1:]] == [
        "connect  client.example [192.0.2.1]                  (no reply)",
        "helo     client.example                              (no reply)",
        "",
        "== m.eml",
        "mail     <alice@example.org> SIZE=43                 (no reply)",
        "rcpt     <trap@x.example>                            550 5.1.1 no such mailbox",
        "rcpt     <bob@x.example>                             continue",
        "data                                                 (not sent)",
        "header   2 fields                                    continue",
        "eoh                                                  (not sent)",
        "body     6 octets                                    skip",
        "eom                                                  accept",
        "",
        "edits:",
        "  change_header Subject (1): [EXT] hello",
        "  add_recipient <new@x.example>",
        "  quarantine look at it",
        "",
        "recipient refused: <trap@x.example>",
        "recipient added: <new@x.example>",
        "held in the queue: look at it",
        "--- as sent",
        "+++ as delivered",
        "@@ -1,4 +1,4 @@",
        "-Subject: hello",
        "+Subject: [EXT] hello",
        " From: a@x.example",
        "",
        " body",
        "",
    ]
    assert told.startswith("the SMTP client is told after the message: 250 2.0.0 Ok: queued as ")


@pytest.mark.parametrize(
    ("callback", "fate", "told"),
    [
        ("envfrom(self, ctx, mail): return REJECT", "refused at MAIL", "at MAIL: 550 5.7.1 Command rejected"),
        ("envrcpt(self, ctx, rcpt): return TEMPFAIL", "refused at RCPT, for now", "at RCPT: 451 4.7.1 Service unav"),
        ("data(self, ctx): return Reply(554, '5.7.1', 'no')", "refused at DATA", "at DATA: 554 5.7.1 no"),
        ("header(self, ctx, header): return REJECT", "refused at HEADER", "after the message: 550 5.7.1"),
        ("eoh(self, ctx): return DISCARD", "the message is discarded", "after the message: 250 2.0.0 Ok"),
        ("connect(self, ctx, connect): return REJECT", "refused at CONNECT", "at MAIL: 550 5.7.1 Command rejected"),
        ("helo(self, ctx, helo): return ACCEPT", "the message is not changed", "after the message: 250 2.0.0 Ok"),
        ("eom(self, ctx): return None", "the message is not changed", "after the message: 250 2.0.0 Ok"),
    ],
)
def test_each_verdict_is_told_at_its_place(check: Command, callback: str, fate: str, told: str) -> None:
    check.filter(f"async def {callback}")

    assert check("f.py") == 0
    assert fate in check.out
    assert f"the SMTP client is told {told}" in check.out


def test_sendmail_has_texts_of_its_own(check: Command) -> None:
    check.filter("async def header(self, ctx, header): return TEMPFAIL")

    assert check("f.py", "--mta", "sendmail") == 0
    assert "asked as Sendmail does" in check.out
    assert "after the message: 451 4.3.2 Please try again later" in check.out


def test_what_sendmail_refuses_itself_is_told_and_the_rest_is_played(check: Command) -> None:
    check.filter("async def eom(self, ctx): ctx.add_header('X-Seen', 'yes')")
    check.write(b"Subject: a\r\n\r\nb\nc\r\n", "bare.eml")
    check.write(b"Subject: a\n\nb\nc\n", "file.eml")

    assert check("f.py", "bare.eml", "file.eml", "--mta", "sendmail") == 0
    refused, _, played = check.out.partition("== file.eml")
    assert "the MTA itself refuses the message, whatever the filter says" in refused
    assert "after the message: 421 4.5.0 Bare linefeed (LF) not allowed" in refused
    assert "+X-Seen: yes" in played

    refused, played = check.json("f.py", "bare.eml", "file.eml", "--mta", "sendmail")["messages"]
    assert (refused["decided"]["stage"], refused["decided"]["code"]) == ("DATA", 421)
    assert refused["delivered"] is None
    assert played["delivered"] is not None


FIELDS = """\
async def envfrom(self, ctx, mail): self.names = []
async def header(self, ctx, header): self.names.append(header.name)
async def eom(self, ctx): ctx.add_header("X-Fields", " ".join(self.names))
"""


@pytest.mark.parametrize(("mta", "first"), [("postfix", "X-Mailbox-Line Subject"), ("sendmail", "Subject")])
def test_a_line_of_an_mbox_in_a_message_is_what_the_mta_makes_of_it(
    check: Command, monkeypatch: pytest.MonkeyPatch, mta: str, first: str
) -> None:
    check.filter(FIELDS)
    octets = b"From alice@x.example Mon Nov 30 00:00:00 2026\nSubject: a\n\nb\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(octets)))

    assert check("f.py", "-", "--mta", mta) == 0
    assert f"+X-Fields: {first}\n" in check.out


@pytest.mark.parametrize("mta", ["postfix", "sendmail"])
def test_what_the_mta_changes_is_no_change_of_the_filter(check: Command, mta: str) -> None:
    check.filter("async def eom(self, ctx): return None")
    check.write(b"From a\nBcc: b@x.example\nSubject : c", "m.eml")

    assert check("f.py", "m.eml", "--mta", mta) == 0
    assert "the message is not changed" in check.out


def test_nothing_of_a_message_reaches_the_terminal_as_a_command(check: Command) -> None:
    check.filter(
        """\
async def eom(self, ctx):
    ctx.add_header("X-Evil", "\\x1b]0;title\\x07 \\u202e \\x9b31m")
    ctx.replace_body(b"\\x1b[2J\\r\\xff caf\\xc3\\xa9\\tx\\r\\n")
"""
    )
    check.write(b"Subject: \x1b[31mred\x00\n\nbell\x07\n", "m\x1b.eml")

    assert check("f.py", "m\x1b.eml", "--helo", "\x1bc") == 0
    assert not [one for one in check.out if not one.isprintable() and one not in "\n\t"]
    assert "+\\x1b[2J\\x0d\\xff café\tx" in check.out
    assert "add_header X-Evil: \\x1b]0;title\\x07 \\u202e \\x9b31m" in check.out


def test_a_change_far_down_is_shown_with_its_place(check: Command) -> None:
    check.filter("async def eom(self, ctx): ctx.add_header('X', 'y')")
    check.write(b"".join(b"A%d: b\n" % number for number in range(100)) + b"\nbody\n", "m.eml")

    assert check("f.py", "m.eml") == 0
    assert "@@ -98,5 +98,6 @@\n A97: b\n A98: b\n A99: b\n+X: y\n \n body\n" in check.out


def test_a_large_new_body_is_told_not_compared(check: Command) -> None:
    check.filter(
        "async def eom(self, ctx):\n    ctx.replace_body(b'new line\\r\\n' * 9000)\n    ctx.change_header('A', 1, 'c')"
    )
    check.write(b"A: b\nX: y\n\n" + b"old\n" * 5000, "m.eml")

    assert check("f.py", "m.eml") == 0
    assert "@@ -1,2 +1,2 @@\n-A: b\n+A: c\n X: y\nthe body changes, 5000 lines before and 9000 after: " in check.out


def test_a_large_new_header_section_is_told_not_compared(check: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiomilter._cli.diff._MOST_LINES", 100)
    check.filter("async def eom(self, ctx):\n    for n in range(200): ctx.insert_header('X', str(n))")

    assert check("f.py") == 0
    assert "the message changes" not in check.out
    assert "the header section changes, 5 lines before and 205 after: too many to show\n\nthe SMTP" in check.out


def test_several_messages_are_played_on_one_connection(check: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    check.filter(
        """\
async def connect(self, ctx, connect): self.count = 0
async def eom(self, ctx):
    self.count += 1
    ctx.add_header("X-Count", str(self.count))
    return REJECT if self.count == 2 else None
"""
    )
    check.write(b"A: b\n\n", "a.eml")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"C: d\n\n")))

    found = check.json("f.py", "a.eml", "--client", "2001:db8::1", "-", "a.eml")

    assert [played["source"] for played in found["messages"]] == ["a.eml", "-", "a.eml"]
    assert [played["decided"]["verdict"] for played in found["messages"]] == ["CONTINUE", "REJECT", "CONTINUE"]
    assert [played["edits"][0]["value"] for played in found["messages"] if played["edits"]] == ["1", "3"]


# ---------------------------------------------------------------------------------------------------------- the scene


def test_the_scene_is_what_the_options_say(check: Command) -> None:
    check.filter(
        """\
macros = {}
async def eom(self, ctx):
    seen = (ctx.client.hostname, str(ctx.client.ip), ctx.helo, ctx.sender.path, ctx.sender.params,
            [(rcpt.path, rcpt.params) for rcpt in ctx.recipients], ctx.auth.login, ctx.macro("mine"), ctx.queue_id)
    ctx.add_header("X-Seen", repr(seen))
"""
    )

    found = check.json(
        *("f.py", "--client", "198.51.100.7", "--hostname", "h.example", "--helo", "hi", "--auth", "alice"),
        *("--sender", "<> BODY=7BIT", "--recipient", "b@x NOTIFY=NEVER", "--macro", "mine=5", "--macro", "i=ABC"),
    )

    seen = found["messages"][0]["edits"][0]["value"]
    assert seen == repr(
        ("h.example", "198.51.100.7", "hi", "<>", ("BODY=7BIT",), [("<b@x>", ("NOTIFY=NEVER",))], "alice", "5", "ABC")
    )


# --------------------------------------------------------------------------------------------------------------- JSON


def test_octets_that_are_no_text_survive_in_json(check: Command) -> None:
    check.filter(
        """\
async def eom(self, ctx):
    ctx.change_header("Subject", 1, "caf\\udce9")
    ctx.change_header("X", 1, "")
    ctx.insert_header("Y", "\\u00e9")
    ctx.replace_body(b"a" * 70000 + b"\\xff\\r\\n")
    ctx.change_sender("<c@x>", "RET=FULL")
    ctx.delete_recipient("bob@example.net")
"""
    )
    check.write(b"Subject: x\nX: z\n\nbody\n", "m.eml")

    (played,) = check.json("f.py", "m.eml")["messages"]

    by_name = {edit["edit"]: edit for edit in played["edits"]}
    assert by_name["change_header"]["value"] == {"base64": "Y2Fm6Q=="}
    assert by_name["delete_header"] == {"edit": "delete_header", "name": "X", "occurrence": 1}
    assert by_name["insert_header"]["value"] == "é"
    assert len(played["edits"]) == 6
    assert played["delivered"]["recipients"] == []
    assert played["delivered"]["sender"] == {"path": "<c@x>", "address": "c@x", "params": ["SIZE=26", "RET=FULL"]}
    assert by_name["change_sender"] == {
        "edit": "change_sender",
        "path": "<c@x>",
        "address": "c@x",
        "params": "RET=FULL",
    }
    assert by_name["delete_recipient"] == {
        "edit": "delete_recipient",
        "path": "<bob@example.net>",
        "address": "bob@example.net",
    }
    assert played["recipients"] == [{"path": "<bob@example.net>", "address": "bob@example.net", "params": []}]
    assert set(played["delivered"]["message"]) == {"base64"}


def test_replies_and_stages_are_in_json(check: Command) -> None:
    check.filter("async def data(self, ctx): return Reply(450, '4.7.1', 'one', 'two')")

    (played,) = check.json("f.py")["messages"]

    assert played["decided"] == {
        "stage": "DATA",
        "verdict": "REPLY",
        "code": 450,
        "enhanced": "4.7.1",
        "lines": ["one", "two"],
    }
    assert played["reply"] == "450-4.7.1 one\r\n450 4.7.1 two"
    assert [stage["stage"] for stage in played["stages"]] == ["MAIL", "RCPT", "DATA"]
    assert played["delivered"] is None


def test_the_schema_is_printed(check: Command) -> None:
    assert check("--json-schema") == 0
    assert json.loads(check.out) == schema.document


# ------------------------------------------------------------------------------------------------------------- failures


def test_a_filter_that_raises_is_shown_with_its_traceback_from_its_own_line_on(check: Command) -> None:
    check.filter("async def eom(self, ctx): raise ValueError('\\x1b oh')")

    found = check.json("f.py", status=1)
    (failure,) = found["failures"]
    assert (failure["callback"], failure["what"], failure["fatal"]) == ("eom", "ValueError: \x1b oh", True)
    assert failure["traceback"].startswith("Traceback (most recent call last):\n  File ")
    assert "aiomilter/" not in failure["traceback"]
    assert found["failed"] is True
    assert found["messages"][0]["decided"]["verdict"] == "TEMPFAIL"

    assert check("f.py") == 1
    assert "failed: eom: ValueError: \\x1b oh\n  Traceback (most recent call last):\n" in check.out


def test_nonsense_is_a_failure_and_a_temporary_failure_a_note(check: Command) -> None:
    check.filter("async def eom(self, ctx): return True")
    assert check("f.py") == 1
    assert "failed: eom: expected a verdict or Reply that this stage takes, or None, found True" in check.out

    check.write(
        "from aiomilter import *\nclass F(Milter):\n    async def eom(self, ctx): raise TemporaryFailure('later')\n",
        "g.py",
    )
    assert check("g.py") == 0
    assert "note: eom: temporary failure: " in check.out


def test_a_filter_that_is_late_is_told_so(check: Command) -> None:
    check.write(
        "import asyncio\nfrom aiomilter import *\n"
        "class F(Milter):\n    async def eom(self, ctx): await asyncio.Event().wait()\n"
    )

    assert check("f.py", "--timeout", "0.02") == 1
    assert "failed: eom: the callback did not end within 0.02 s (callback_timeout); cancelled" in check.out


def test_a_filter_that_refuses_the_mta_is_no_traceback(check: Command) -> None:
    check.write(
        "from aiomilter import *\n"
        "class F(Milter):\n    async def negotiate(self, ctx, offer): raise NegotiationError('not you')\n"
    )

    found = check.json("f.py", status=1)

    assert [failure["what"] for failure in found["failures"]] == [
        "not you",
        "OPTNEG: expected an answer, found the connection closed",
    ]
    assert found["negotiated"] is None


def test_a_factory_that_fails_at_its_end_is_a_failure(check: Command) -> None:
    check.write(
        """\
from contextlib import asynccontextmanager
from aiomilter import Milter

@asynccontextmanager
async def milter():
    yield Milter
    raise RuntimeError("cannot close")
"""
    )

    assert check("f.py") == 1
    assert "failed: RuntimeError left the factory at its end" in check.out
    assert "RuntimeError: cannot close" in check.out


def test_the_traceback_ends_at_the_last_line_of_the_filter(check: Command) -> None:
    check.filter("async def eom(self, ctx): ctx.add_header('a b', 'x')")
    assert check("f.py") == 1
    assert check.out.count('  File "') == 1
    assert "LocalProtocolError: " in check.out

    check.write("from aiomilter import Milter\nclass F(Milter):\n    async def hello(self, ctx): pass\n", "g.py")
    assert check("g.py") == 1
    assert check.err.count('  File "') == 1
    assert "\nTypeError: F.hello would never be called" in check.err


def test_an_exception_in_a_library_is_shown_with_the_lines_of_the_library(check: Command) -> None:
    check.filter("async def eom(self, ctx):\n    import json\n    json.loads('{')")
    assert check("f.py") == 1
    assert "json/decoder.py" in check.out


def test_a_failure_stands_with_its_message(check: Command) -> None:
    check.filter(
        """\
async def envfrom(self, ctx, mail): self.subject = ""
async def header(self, ctx, header): self.subject = header.value
async def eom(self, ctx):
    if self.subject == "bad": raise ValueError("oh")
"""
    )
    for subject in ("good", "bad", "fine"):
        check.write(f"Subject: {subject}\n\n", f"{subject}.eml")

    assert check("f.py", "good.eml", "bad.eml", "fine.eml") == 1
    good, bad, fine = check.out.split("\n== ")[1:]
    assert ("failed" in good, "failed: eom: ValueError: oh" in bad, "failed" in fine) == (False, True, False)

    found = check.json("f.py", "good.eml", "bad.eml", "fine.eml", status=1)
    assert [failure["message"] for failure in found["failures"]] == [1]
    assert found["summary"]["failed"] == 1


def test_a_filter_that_breaks_off_gets_the_next_message_in_a_session_of_its_own(check: Command) -> None:
    check.filter(
        """\
async def header(self, ctx, header):
    if header.value == "bad":
        import asyncio
        await asyncio.Event().wait()
"""
    )
    check.write("Subject: good\n\n", "good.eml")
    check.write("Subject: bad\n\n", "bad.eml")
    slow = ("--timeout", "0.02", "--callback-timeout", "60", "--answer-timeout", "60")

    found = check.json("f.py", "bad.eml", "good.eml", "bad.eml", *slow, status=1)

    assert [played["outcome"] for played in found["messages"]] == ["broken off", "accept", "broken off"]
    assert found["summary"]["outcomes"] == {"broken off": 2, "accept": 1}
    assert [failure["message"] for failure in found["failures"]] == [0, 2]


def test_a_filter_that_cannot_be_opened_again_leaves_what_was_played(check: Command) -> None:
    check.write(
        """\
import asyncio
from contextlib import asynccontextmanager
from aiomilter import Milter

class F(Milter):
    async def eom(self, ctx): await asyncio.Event().wait()

opened = []

@asynccontextmanager
async def milter():
    opened.append(1)
    if len(opened) > 1:
        raise RuntimeError("only once")
    yield F
"""
    )
    check.write("A: b\n\n", "a.eml")
    slow = ("--timeout", "0.02", "--callback-timeout", "60", "--answer-timeout", "60")

    found = check.json("f.py", "a.eml", "a.eml", "a.eml", *slow, status=1)

    assert (found["summary"]["messages"], found["summary"]["unplayed"]) == (1, 2)
    assert [failure["what"] for failure in found["failures"] if failure["message"] is None] == [
        "f.py cannot be started: RuntimeError: only once"
    ]


def test_messages_are_counted_that_a_filter_cannot_be_asked_about(check: Command) -> None:
    check.write(
        "from aiomilter import *\n"
        "class F(Milter):\n    async def negotiate(self, ctx, offer): raise NegotiationError('not you')\n"
    )
    check.write("A: b\n\n", "a.eml")

    assert check.json("f.py", "a.eml", "a.eml", status=1)["summary"]["unplayed"] == 2
    assert check("f.py", "a.eml", "a.eml") == 1
    assert check.out.startswith("f.py, asked as Postfix does: 0 messages in 0.00 s: 2 not played\n")


# -------------------------------------------------------------------------------------- expectations and exit codes


EXPECTATIONS = ("accept", "continue", "reject", "tempfail", "discard", "250", "550", "451", "2.0.0", "5.7.1", "4.7.1")


@pytest.mark.parametrize(
    ("answer", "matching"),
    [
        ("None", "accept continue 250 2.0.0 250\t2.0.0"),
        ("ACCEPT", "accept 250 2.0.0"),
        ("REJECT", "reject 550 5.7.1"),
        ("TEMPFAIL", "tempfail 451 4.7.1"),
        ("DISCARD", "discard 250 2.0.0"),
        ("Reply(552, '5.3.4', 'one', 'two')", "reject 552 5.3.4 552\t5.3.4"),
        ("Reply(450, None, 'later')", "tempfail 450"),
    ],
)
def test_an_outcome_is_expected_by_its_word_or_its_code(check: Command, answer: str, matching: str) -> None:
    check.filter(f"async def eom(self, ctx): return {answer}")
    expected = {text.replace("\t", " ") for text in matching.split(" ")}
    found = {text for text in {*EXPECTATIONS, *expected} if check("f.py", "--expect", text) == 0}
    assert found == expected


def test_an_outcome_that_is_not_expected_is_named(check: Command) -> None:
    check.filter("async def envrcpt(self, ctx, rcpt): return REJECT")

    assert check("f.py", "--expect", "accept") == 3
    assert check.out.endswith("\nexpected accept, found reject\n")
    found = check.json("f.py", "--expect", "accept", status=3)
    assert (found["messages"][0]["expected"], found["summary"]["unexpected"]) == (False, 1)


def test_a_filter_that_fails_is_not_as_expected(check: Command) -> None:
    check.filter("async def eom(self, ctx): raise ValueError")
    assert check("f.py", "--expect", "tempfail") == 1


def test_each_exit_code_is_in_the_help(check: Command) -> None:
    assert check("--help") == 0
    for status in range(5):
        assert f"\n  {status}  " in check.out
    assert "inet:HOST:PORT" in check.out


@pytest.mark.parametrize("text", ["maybe", "", "99", "650", "5.7", "550 x", "250-2.0.0 Ok"])
def test_an_expectation_that_is_none_is_one_line(check: Command, text: str) -> None:
    assert check("f.py", "--expect", text) == 2
    assert check.err.startswith(
        "aiomilter check: argument --expect: expected one of accept, continue, reject, tempfail, "
    )


# ------------------------------------------------------------------------------------------------------- many messages


def test_several_messages_begin_with_a_summary(check: Command) -> None:
    check.filter(
        """\
async def header(self, ctx, header): self.subject = header.value
async def eom(self, ctx):
    ctx.add_header("X", "y")
    return REJECT if self.subject == "bad" else None
"""
    )
    check.write("Subject: good\n\n", "good.eml")
    check.write("Subject: bad\n\n", "bad.eml")

    assert check("f.py", "good.eml", "bad.eml", "--expect", "accept") == 3
    first, good, bad, *_ = check.out.splitlines()
    assert re.sub(r"[\d.]+ s:", "0 s:", first) == (
        "f.py, asked as Postfix does: 2 messages in 0 s: 1 accept, 1 reject, 1 not as expected"
    )
    assert good.split() == ["accept", "good.eml", "add_header"]
    assert bad.split(maxsplit=2) == ["reject", "bad.eml", "550 5.7.1 Command rejected; not as expected"]


def test_many_messages_are_a_line_each_and_details_are_for_who_asks(check: Command) -> None:
    check.filter(
        "async def eom(self, ctx):\n    ctx.add_header('X', 'é')\n    ctx.replace_body(b'x')\n"
        "    if ctx.recipients[0].local_part == 'bad': raise ValueError('oh')"
    )
    (check.directory / "d").mkdir()
    for number in range(30):
        check.write("A: b\n\n", f"d/{number:02}.eml")

    assert check("f.py", "d") == 0
    assert check.out.count(" add_header, replace_body; see the note\n") == 30
    assert check("f.py", "d", "--recipient", "bad@x.example") == 1
    assert len(check.out.splitlines()) < 50
    assert check.out.count("failed: eom: ValueError: oh") == 1, "alike ones once"
    assert check("f.py", "d", "-v", "--recipient", "bad@x.example") == 1
    assert check.out.count("failed: eom: ValueError: oh") == 30


# --------------------------------------------------------------------------------------- time, blocking, what goes out


def test_time_is_shown_of_an_answer_that_is_slow_and_of_all_stages_on_request(
    check: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiomilter._cli.play_text._SLOW", 0.05)
    check.filter("async def eom(self, ctx):\n    import asyncio\n    await asyncio.sleep(0.06)")

    assert check("f.py") == 0
    assert re.search(r"^eom +continue +\d+\.\d ms$", check.out, re.M)
    assert not re.search(r"^rcpt .*\d ms$", check.out, re.M)
    assert "\nmay: " not in check.out
    assert check("f.py", "--verbose") == 0
    assert re.search(r"^rcpt .*\d ms$", check.out, re.M)
    assert "\nmay: add headers, " in check.out
    (played,) = check.json("f.py")["messages"]
    assert {stage["stage"]: stage["seconds"] for stage in played["stages"]}["EOM"] > 0.05


def test_a_call_that_blocks_the_loop_is_noted_with_its_line(check: Command) -> None:
    check.filter("async def eom(self, ctx):\n    import time\n    time.sleep(0.2)")
    check.write("A: b\n\n", "a.eml")

    found = check.json("f.py", "a.eml", "a.eml", "--stall-timeout", "0.02")

    assert [(each["message"], each["callback"], each["fatal"]) for each in found["failures"]] == [
        (0, "eom", False),
        (1, "eom", False),
    ]
    for note in found["failures"]:
        seconds = re.fullmatch(r"blocked the event loop for (.*) s, and with it every other session", note["what"])
        assert seconds is not None
        assert float(seconds[1]) > 0.1
        assert "time.sleep(0.2)" in note["traceback"]


@pytest.mark.parametrize(
    ("edit", "note"),
    [
        ("ctx.add_header('X', 'caf\u00e9')", "note: eom: X: non-ASCII text goes out as it is"),
        ("ctx.insert_header('X', 'v' * 1200)", "note: eom: X: a line of more than 998 octets; fold it"),
        (
            "ctx.change_header('Subject', 1, 'v' * 990 + '\\n\\tx')",
            "note: eom: Subject: a line of more than 998 octets",
        ),
        ("ctx.replace_body(b'a\\nb\\n')", "note: eom: the new body has LF alone as line ends; write CRLF"),
        ("ctx.replace_body(b'a\\r\\nb\\nc\\n')", "note: eom: the new body has LF alone as line end in 2 places"),
        ("ctx.replace_body(b'a' * 999)", "note: eom: the new body has a line of more than 998 octets"),
        ("ctx.replace_body(b'a' * 998 + b'\\r\\n' + b'caf\\xe9')", None),
        ("ctx.add_header('X', 'v' * 990 + '\\n\\t' + 'w' * 990)", None),
        ("ctx.delete_header('Subject', 1)", None),
    ],
)
def test_what_goes_out_as_it_is_is_noted(check: Command, edit: str, note: str | None) -> None:
    check.filter(f"async def eom(self, ctx): {edit}")

    assert check("f.py") == 0
    assert [line for line in check.out.splitlines() if line.startswith("note: ")] == (
        [] if note is None else [next(line for line in check.out.splitlines() if line.startswith(note))]
    )


def test_utf8_is_as_it_should_be_in_a_message_that_announces_it(check: Command) -> None:
    check.filter("async def eom(self, ctx): ctx.add_header('X', '\u00e9')")
    assert check("f.py", "--sender", "a@x SMTPUTF8") == 0
    assert "note: " not in check.out


def test_a_fold_is_shown_as_in_the_diff(check: Command) -> None:
    check.filter("async def eom(self, ctx): ctx.add_header('X', 'one\\n\\ttwo\\n three')")
    assert check("f.py") == 0
    assert "\n  add_header X: one\n  \ttwo\n   three\n" in check.out
    assert "\n+X: one\n+\ttwo\n+ three\n" in check.out


# ---------------------------------------------------------------------------------------------------- output, options


def test_the_delivered_message_is_written(check: Command) -> None:
    check.filter("async def eom(self, ctx): ctx.add_header('X', 'caf\\udce9')")
    check.write(b"A: b\n\nc\n", "a.eml")

    assert check("f.py", "a.eml", "--output", "out.eml") == 0
    assert (check.directory / "out.eml").read_bytes() == b"A: b\r\nX: caf\xe9\r\n\r\nc\r\n"
    assert check("f.py", "a.eml", "--output", "none/out.eml") == 4
    assert check.err == "aiomilter: 'none/out.eml' cannot be written: No such file or directory\n"
    assert check("f.py", "a.eml", "a.eml", "--output", "two.eml") == 2
    assert check.err == "aiomilter: --output takes one message; play several one by one\n"
    assert not (check.directory / "two.eml").exists()


def test_nothing_is_written_of_a_message_that_is_not_delivered(check: Command) -> None:
    check.filter("async def eom(self, ctx): return REJECT")
    assert check("f.py", "--output", "out.eml") == 3
    assert check.err == "aiomilter: nothing is written to 'out.eml': the message is not delivered\n"
    assert not (check.directory / "out.eml").exists()


@pytest.mark.slow
def test_what_a_filter_prints_is_not_in_the_json(check: Command) -> None:
    check.write(
        "import atexit, os, subprocess, sys\nprint('import')\natexit.register(print, 'exit')\n"
        + FILTER
        + "    async def eom(self, ctx):\n"
        + "        print('eom')\n        os.write(1, b'descriptor\\n')\n        subprocess.run(['echo', 'child'])\n"
    )
    command = [sys.executable, "-m", "aiomilter", "check", "f.py", "--json"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(found.stdout)["messages"][0]["outcome"] == "accept"
    assert found.stderr.split() == ["import", "eom", "descriptor", "child", "exit"]


def test_options_of_the_server_are_those_of_run(check: Command) -> None:
    check.filter("async def eom(self, ctx): raise ValueError")
    assert check.json("f.py", "--on-error", "accept", status=1)["messages"][0]["outcome"] == "accept"
    assert check.json("f.py", "--on-error", "451 4.3.0 x", status=1)["messages"][0]["reply"] == "451 4.3.0 x"
    check.filter("async def eom(self, ctx):\n    import asyncio\n    await asyncio.Event().wait()", "late.py")
    (played,) = check.json("late.py", "--answer-timeout", "eom=0.02", "--on-timeout", "reject", status=1)["messages"]
    assert played["outcome"] == "reject"


def test_options_of_the_server_are_not_for_one_that_runs(check: Command) -> None:
    assert check("--connect", "inet:1", "--on-error", "accept") == 2
    assert check.err == "aiomilter: --on-error is for TARGET; a filter that runs has its own\n"


# ------------------------------------------------------------------------------------------------ mistakes of the user

MILTER = "from aiomilter import Milter\n"


@pytest.mark.parametrize(
    ("text", "target", "line"),
    [
        (None, "nope.py", "there is no file 'nope.py'; expected FILE.py, FILE.py:NAME or MODULE:NAME"),
        (None, "./", "'.' is a directory; name a file in it, as in filter.py"),
        (None, "no_such:x", "there is no module 'no_such'; for a file write its path, as in ./no_such.py"),
        (None, "no such:x", "'no such' is not a module; write FILE.py, FILE.py:NAME or MODULE:NAME"),
        (None, "f.py:", "'f.py:' names no filter; write FILE.py, FILE.py:NAME or MODULE:NAME"),
        (None, "json:loads.x", "json has no 'loads.x'; nor any other subclass of aiomilter.Milter"),
        ("", "f.py", "f.py has no filter; expected a function 'milter' or one subclass of aiomilter.Milter"),
        (MILTER, "f.py", "f.py has no filter; expected a function 'milter' or one subclass of aiomilter.Milter"),
        (MILTER + "class A(Milter): pass\n", "f.py:B", "f.py has no 'B'; it has A"),
        (
            MILTER + "class A(Milter): pass\nclass B(Milter): pass\n",
            "f.py",
            "f.py has several filters (A, B); name one, as in f.py:A",
        ),
        (
            MILTER + "class A(Milter):\n def __init__(self, x): pass\n",
            "f.py",
            "f.py: A needs arguments; write a function milter() that makes one",
        ),
        (
            MILTER + "class A(Milter):\n def __init__(self, x): pass\n",
            "f.py:A",
            "f.py:A needs arguments; write a function milter() that gives them",
        ),
        (
            MILTER + "a = Milter()\n",
            "f.py:a",
            "f.py:a is one filter, but each connection needs its own; name the class Milter instead",
        ),
        ("class A: pass\n", "f.py:A", "f.py:A is a class, but not a subclass of aiomilter.Milter"),
        ("a = 5\n", "f.py:a", "f.py:a is of type int; expected a subclass of aiomilter.Milter or a factory"),
        (
            "async def milter(): pass\n",
            "f.py",
            "f.py:milter is an async function; make it an @asynccontextmanager that yields a factory, or a plain function",
        ),
        ("def milter(): return 5\n", "f.py", "f.py: expected it to make a Milter, found int"),
        ("x = (\n", "f.py", "f.py:1: '(' was never closed"),
        (
            "import sys\nsys.exit(3)\n",
            "f.py",
            "f.py ended the program while it was imported; put that under if __name__ == '__main__':",
        ),
        (
            MILTER + "class A(Milter):\n async def hello(self, ctx): pass\n",
            "f.py",
            "f.py cannot be imported: TypeError: A.hello would never be called: expected the callback's name, 'helo'",
        ),
    ],
)
def test_a_wrong_target_is_one_line(check: Command, text: str | None, target: str, line: str) -> None:
    if text is not None:
        check.write(text)

    assert check(target) == (4 if text is None and line.startswith(("there is no", "'.' is")) else 1)
    assert check.err.splitlines()[-1].replace(f"{check.directory}/", "") == f"aiomilter: {line}"
    assert "cannot be imported" in line or len(check.err.splitlines()) == 1
    assert check.out == ""


def test_the_users_own_code_gets_a_traceback_from_its_first_line_on(check: Command) -> None:
    check.write("import no_such_module\n")

    assert check("f.py") == 1
    assert check.err.startswith("Traceback (most recent call last):\n")
    assert "importlib" not in check.err
    assert check.err.endswith(
        "aiomilter: f.py cannot be imported: ModuleNotFoundError: No module named 'no_such_module'\n"
    )

    check.write("def milter(): raise OSError('no database')\n", "g.py")
    assert check("g.py") == 1
    assert "in milter" in check.err
    assert check.err.endswith("aiomilter: g.py cannot be started: OSError: no database\n")


def test_a_file_may_import_what_lies_beside_it_and_have_any_name(check: Command) -> None:
    check.write("from aiomilter import Milter\n", "beside_it.py")
    check.write("from beside_it import Milter\nclass F(Milter): pass\n", "json.py")

    assert check("./json.py") == 0
    assert check("beside_it:Milter") == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--client", "me"], "argument --client: expected an IP address, found 'me'; for its name see --hostname"),
        (["--macro", "x"], "argument --macro: expected NAME=VALUE, as in auth_type=PLAIN, found 'x'"),
        (["--sender", "<a"], "argument --sender: expected ADDRESS or <ADDRESS>, as in alice@example.org, found '<a'"),
        (["--helo", "a\nb"], "argument --helo: expected one line, found a line end or NUL"),
        (["--timeout", "0"], "argument --timeout: expected seconds above 0, as in 30 or 0.5, found '0'"),
        (["--nope"], "unknown argument: --nope"),
        (["--sendr", "x"], "unknown argument: --sendr; did you mean --sender?"),
        (
            ["--mta", "sendmial"],
            "argument --mta: expected one of postfix, sendmail, found 'sendmial'; did you mean sendmail?",
        ),
        (
            ["--connect", "x:1"],
            "argument --connect: 'x:1': expected inet:PORT@HOST, inet:HOST:PORT, inet6:PORT@HOST, unix:/PATH or fd:NUMBER;"
            " write inet:1@x",
        ),
    ],
)
def test_wrong_usage_is_one_line(check: Command, arguments: list[str], line: str) -> None:
    assert check("f.py", *arguments) == 2
    assert check.err == f"aiomilter check: {line}; see 'aiomilter check --help'\n"


def test_no_filter_at_all_is_one_line(check: Command) -> None:
    assert check() == 2
    assert check.err == "aiomilter: which filter? write aiomilter check FILE.py [MESSAGE.eml], or --connect SOCKET\n"


def test_a_missing_message_is_one_line(check: Command) -> None:
    check.filter("pass")

    assert check("f.py", "nope.eml") == 4
    assert check.err == "aiomilter: there is no message 'nope.eml'\n"
    (check.directory / "empty").mkdir()
    assert check("f.py", "empty") == 4
    assert check.err == "aiomilter: there is no message in the directory 'empty'\n"
    check.write("", "secret.eml")
    (check.directory / "secret.eml").chmod(0)
    if not os.access("secret.eml", os.R_OK):
        assert check("f.py", "secret.eml") == 4
        assert check.err == "aiomilter: 'secret.eml' cannot be read: Permission denied\n"


def test_a_second_filter_is_not_taken_for_a_message(check: Command) -> None:
    check.filter("pass")
    check.filter("pass", "second.py")

    assert check("f.py", "second.py") == 2
    assert check.err == (
        "aiomilter: 'second.py' is a Python file, not a message; several filters run as one process each, and are checked one"
        " by one\n"
    )


def test_nobody_listening_is_one_line(check: Command) -> None:
    assert check("--connect", f"unix:{check.directory}/s") == 4
    assert check.err.endswith("/s: No such file or directory; does the milter run, and listen there?\n")
    assert len(check.err.splitlines()) == 1


# ------------------------------------------------------------------------------------------------ a filter that runs


@pytest.mark.interop
@pytest.mark.slow
def test_opendkim_is_asked_like_any_other(check: Command) -> None:
    check.write(
        "Syslog no\nRequireSafeKeys no\nMode sv\nDomain example.org\nSelector sel\nKeyFile key\n"
        "InternalHosts 192.0.2.1\nCanonicalization relaxed/simple\n",
        "conf",
    )
    subprocess.run([needed("openssl"), "genrsa", "-out", "key", "2048"], check=True, capture_output=True)
    command = [needed("opendkim"), "-f", "-x", "conf", "-p", f"local:{check.directory}/s"]
    check.write(b"From: a@example.org\nSubject: caf\xe9\n\nbody\n", "m.eml")

    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            listening(check.directory / "s", process)
            signed = check.json("m.eml", "m.eml", "--connect", f"unix:{check.directory}/s")
            assert check("m.eml", "--connect", f"unix:{check.directory}/s", "--mta", "sendmail") == 0
        finally:
            process.kill()  # libmilter takes seconds to stop when asked to

    assert signed["filter"] == f"unix:{check.directory}/s"
    assert "LEADING_SPACE" in signed["negotiated"]["protocol"]
    assert [stage["stage"] for stage in signed["connection"] if stage["seconds"] is None] == []
    for played in signed["messages"]:
        (edit,) = played["edits"]
        assert (edit["edit"], edit["name"]) == ("insert_header", "DKIM-Signature")
        assert set(played["delivered"]["message"]) == {"base64"}
    assert "\n+DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=example.org;" in check.out
    assert "\n Subject: caf\\xe9\n" in check.out


def listening(path: Path, process: "subprocess.Popen[bytes]") -> None:
    """Wait until another process listens on a socket; there is nothing to be notified of."""
    for _ in range(2000):
        assert process.poll() is None, f"ended with status {process.returncode}"
        with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            client.connect(str(path))
            return
        threading.Event().wait(0.01)
    raise AssertionError("does not listen")


# ---------------------------------------------------------------------------------------------------------- the process


@pytest.mark.slow
def test_a_reader_that_has_enough_is_no_traceback(check: Command) -> None:
    check.filter("async def eom(self, ctx): ctx.replace_body(b'x\\r\\n' * 50)")
    check.write(b"A: b\n" * 30000 + b"\nx\n", "m.eml")
    command = [sys.executable, "-m", "aiomilter", "check", "f.py", "m.eml", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


@pytest.mark.slow
def test_without_utf8_nothing_raises(check: Command) -> None:
    check.filter("pass")
    check.write("A: é\n\nü\n".encode(), "m.eml")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict", "LC_ALL": "C"}
    command = [sys.executable, "-m", "aiomilter", "check", "f.py", "m.eml", "--helo", "é"]

    found = subprocess.run(command, env=environment, capture_output=True, check=False)

    assert (found.returncode, found.stderr) == (0, b"")
    assert b"helo     \\xe9" in found.stdout


@pytest.mark.slow
def test_version_and_help(check: Command) -> None:
    def output(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "aiomilter", *arguments], capture_output=True, text=True, check=True
        ).stdout

    assert output("--version").startswith("aiomilter 0.")
    for arguments in (["--help"], ["run", "--help"], ["check", "--help"]):
        assert "examples:\n  aiomilter " in output(*arguments)
