"""Every option with a missing, a malformed and an impossible value, every kind of broken filter: one line and a status.

The options are read from the parser, so that a new one is tried without a line here; a new kind of value needs its row in
MALFORMED.  What one command says of options that conflict is beside the other tests of that command.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from aiomilter._cli import _parser, main

COMMANDS: Final = ("run", "check")

MALFORMED: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    # What stands for the value in the help: values that cannot be, and how the line goes on.
    "SECONDS": (("x", "-1", "nan", "inf", "1e99", "", "1,5", "30x", "0x10"), "expected "),
    "[STAGE=]SECONDS": (("x", "-1", "nan", "mail=", "mail=x", "=5", "no_stage=5", "mail=5=5", "MAIL=5"), "expected "),
    "OCTETS": (("x", "-1", "1.5", "1k", "", "1e6", "9" * 30, "\u0661"), "expected a whole number"),
    "N": (("x", "-1", "1.5", "", "9" * 30, "0x10"), "expected "),
    "ANSWER": (("x", "discard", "skip", "250 ok", "55", "999 9.9.9 x", "550 4.7.1 x", ""), "expected one of tempfail"),
    "NETWORK": (("x", "10.0.0.0/33", "10.0.0.1/8", "", "::/129"), ""),
    "USER": (("no-such-user", "99999999999", "", "-1"), ""),
    "GROUP": (("no-such-group", "99999999999", "", "-1"), ""),
    "MODE": (("x", "999", "-1", "1777", "", "rw"), "expected permissions in octal"),
    "SOCKET": (("x", "", "8890", "inet:x", "inet:70000@h", "tcp:1", "unix:", "fd:", "inet:1@a@b", "unix:x\0y"), ""),
    "IP": (("me", "300.1.1.1", "10.0.0.0/8", "::g"), "expected an IP address"),
    "LOGIN": (("a\nb", "a\0b"), "expected one line"),
    "NAME": (("a\rb",), "expected one line"),
    "DOMAIN": (("", " ", "a example"), "expected the name of a domain"),
    "URL": (("a\rb",), "expected one line"),
    "NAME=VALUE": (("x", "=x", ""), "expected NAME=VALUE"),
    "ADDRESS": (("<a", "a>b"), "expected ADDRESS or <ADDRESS>"),
    "OUTCOME": (("x", "", "999", "5.7", "defer"), "expected "),
    "SHARE": (("x", "0", "2", "-1", "nan", ""), "expected a share, more than 0 and at most 1"),
    "WORD[,WORD]...": (("x", "failed,x", ""), "expected one of failed, refused, slow"),
    "HOST:PORT": (("x", "127.0.0.1:99999", "h:", ""), "'"),
    "STAGE=SECONDS": (("x", "5", "mail=x"), "expected "),
}
FILES: Final = frozenset({"FILE", "DIR", "[HOST:]PORT"})
"""Values that are looked at later: any text is a name of a file; a port is tried in the tests of ``run``."""


def options(command: str) -> Iterator[argparse.Action]:
    """Yield the options of a command."""
    (commands,) = [
        each for each in _parser([command, "--help-all"])._actions if isinstance(each, argparse._SubParsersAction)
    ]
    yield from [action for action in commands.choices[command]._actions if action.option_strings]


def named(action: argparse.Action) -> str:
    return max(action.option_strings, key=len)


VALUES: Final = [
    (command, named(action), str(action.metavar or ""), bool(action.choices))
    for command in COMMANDS
    for action in options(command)
    if action.nargs is None
]


def printed(command: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line of a wrong usage, without what is the same in each."""
    assert main([command, "f.py", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.removesuffix("\n").isprintable()
    beginning, end = f"aiomilter {command}: ", f"; see 'aiomilter {command} --help'\n"
    assert err.startswith(beginning)
    assert err.endswith(end)
    return err.removeprefix(beginning).removesuffix(end)


@pytest.mark.parametrize(("command", "option"), [value[:2] for value in VALUES])
def test_an_option_without_its_value_is_one_line(command: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(command, [option], capsys) == f"argument {option}: expected one argument"


@pytest.mark.parametrize(("command", "option", "kind", "chosen"), VALUES)
def test_a_value_that_cannot_be_is_one_line_with_what_is_expected(
    command: str, option: str, kind: str, chosen: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if chosen:
        line = printed(command, [option, "x"], capsys)
        assert line.startswith(f"argument {option}: expected one of ")
        assert line.endswith(", found 'x'")
        return
    if kind in FILES:
        return
    values, beginning = MALFORMED[kind]
    for value in values:
        line = printed(command, [f"{option}={value}"], capsys)
        assert line.startswith(f"argument {option}: {beginning}"), value
        assert len(line) > len(f"argument {option}: {beginning}"), value


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_tried(command: str) -> None:
    """At least sixty wrong invocations, and none of them of a kind that was forgotten."""
    own = [value for value in VALUES if value[0] == command]
    assert {kind for _, _, kind, chosen in own if not chosen} <= MALFORMED.keys() | FILES
    assert sum(1 + len(MALFORMED.get(kind, ((),))[0]) for _, _, kind, _ in own) >= 60


@pytest.mark.parametrize("value", ["241", "500", "86400"])
def test_progress_comes_before_any_mail_server_gives_up(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = printed("run", ["--progress-interval", value], capsys)
    assert (
        line == f"argument --progress-interval: expected seconds above 0, at most 240, as in 30 or 0.5, found '{value}'"
    )


# ------------------------------------------------------------------------------------------------------ broken filters

MILTER: Final = "from aiomilter import Milter, no_reply\n"
BROKEN: Final = [
    # What the file holds; how the last line begins after "aiomilter: ".
    (b"", "f.py has no filter; expected a function 'milter' or one subclass of aiomilter.Milter"),
    (b"x = (\n", "f.py:1: '(' was never closed"),
    (b"if True:\nx = 1\n", "f.py:2: expected an indented block"),
    (b"\x00\x01\x02", "f.py: source code string cannot contain null bytes"),
    (b"# \xff\nx = 1\n", "f.py"),
    (b"import no_such_module\n", "f.py cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
    (b"from aiomilter import NoSuchThing\n", "f.py cannot be imported: ImportError: cannot import name 'NoSuchThing'"),
    (b"1 / 0\n", "f.py cannot be imported: ZeroDivisionError: division by zero"),
    (b"raise SystemExit('no')\n", "f.py ended the program while it was imported"),
    (b"import os\nopen('no-such-file')\n", "f.py cannot be imported: FileNotFoundError: "),
    (b"def f(): f()\nf()\n", "f.py cannot be imported: RecursionError: "),
    (b"milter = 5\n", "f.py"),
    (b"milter = None\n", "f.py"),
    (b"def milter(): return 5\n", "f.py: expected it to make a Milter, found int"),
    (b"def milter(): raise OSError('no database')\n", "f.py cannot be started: OSError: no database"),
    (b"async def milter(): pass\n", "f.py:milter is an async function; make it an @asynccontextmanager"),
    (b"def milter(x): pass\n", "f.py"),
    (MILTER.encode() + b"class A(Milter): pass\nclass B(Milter): pass\n", "f.py has several filters (A, B); name one"),
    (
        MILTER.encode() + b"class A(Milter):\n def __init__(self, x): pass\n",
        "f.py: A needs arguments; write a function milter() that makes one",
    ),
    (
        MILTER.encode() + b"class A(Milter):\n def envfrom(self, ctx, mail): pass\n",
        "f.py cannot be imported: TypeError: ",
    ),
    (
        MILTER.encode() + b"class A(Milter):\n async def envfrm(self, ctx, mail): pass\n",
        "f.py cannot be imported: TypeError: A.envfrm would never be called",
    ),
    (
        MILTER.encode() + b"class A(Milter):\n @no_reply\n async def eom(self, ctx): pass\n",
        "f.py cannot be imported: TypeError: ",
    ),
    (MILTER.encode() + b"class A(Milter):\n on_error = 5\n", "f.py"),
]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory to be in; what it holds is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in [name for name, module in sys.modules.items() if str(tmp_path) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


@pytest.mark.parametrize("command", [["check", "f.py"], ["run", "f.py", "--listen", "inet:0@127.0.0.1"]], ids=COMMANDS)
@pytest.mark.parametrize(
    ("octets", "line"), BROKEN, ids=lambda value: value.decode("latin-1")[:40] if isinstance(value, bytes) else ""
)
def test_a_broken_filter_is_one_line_below_what_is_its_own(
    octets: bytes, line: str, command: list[str], directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A traceback, if there is one, begins in the filter."""
    (directory / "f.py").write_bytes(octets)
    assert main(command) == 1
    out, err = capfd.readouterr()
    assert out == ""
    *above, last = err.replace(f"{directory}{os.sep}", "").splitlines()
    assert last.startswith(f"aiomilter: {line}")
    assert not above or above[0] == "Traceback (most recent call last):"
    assert not any("aiomilter/_cli" in each for each in above)


@pytest.mark.parametrize(
    ("target", "status", "line"),
    [
        ("nope.py", 4, "there is no file 'nope.py'; expected FILE.py, FILE.py:NAME or MODULE:NAME"),
        ("no_such:x", 4, "there is no module 'no_such'; for a file write its path, as in ./no_such.py"),
        (".", 4, "'.' is a directory; name a file in it, as in filter.py"),
        ("f.py:", 1, "'f.py:' names no filter; write FILE.py, FILE.py:NAME or MODULE:NAME"),
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_filter_that_is_not_there_is_one_line(
    command: str, target: str, status: int, line: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--listen", "inet:0@127.0.0.1"] if command == "run" else []
    found = main([command, target, *more])
    assert capsys.readouterr() == ("", f"aiomilter: {line}\n")
    assert found == status
