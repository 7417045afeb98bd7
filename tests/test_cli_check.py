"""``aiomilter check``: what it prints, and how it ends."""

import contextlib
import importlib
import io
import json
import os
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
    assert [line.rstrip() for line in lines[2:]] == [
        "connect  client.example [192.0.2.1]                  (no reply wanted)",
        "helo     client.example                              (no reply wanted)",
        "",
        "== m.eml",
        "mail     <alice@example.org> SIZE=43                 (no reply wanted)",
        "rcpt     <trap@x.example>                            550 5.1.1 no such mailbox",
        "rcpt     <bob@x.example>                             continue",
        "data                                                 (not wanted)",
        "header   2 fields                                    continue",
        "eoh                                                  (not wanted)",
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


@pytest.mark.parametrize(("mta", "first"), [("postfix", "X-Mailbox-Line Subject"), ("sendmail", "Subject")])
def test_a_message_saved_from_an_mbox_has_its_fields(check: Command, mta: str, first: str) -> None:
    check.filter(
        """\
async def header(self, ctx, header): ctx.notes["names"] = [*ctx.notes.get("names", []), header.name]
async def eom(self, ctx): ctx.add_header("X-Fields", " ".join(ctx.notes["names"]))
"""
    )
    check.write(b"From alice@x.example Mon Nov 30 00:00:00 2026\nSubject: a\n\nb\n", "m.eml")

    assert check("f.py", "m.eml", "--mta", mta) == 0
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
    monkeypatch.setattr("aiomilter._cli.play_text._MOST_LINES", 100)
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

    assert check(target) == 1
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

    assert check("f.py", "nope.eml") == 1
    assert check.err == "aiomilter: there is no message 'nope.eml'\n"
    assert check("f.py", ".") == 1
    assert check.err == "aiomilter: '.' cannot be read: Is a directory\n"


def test_nobody_listening_is_one_line(check: Command) -> None:
    assert check("--connect", f"unix:{check.directory}/s") == 1
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
