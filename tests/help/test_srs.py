"""The page on SRS: its rules have tests that cite them, and its code and its commands run."""

import ast
import asyncio
import re
import shlex
from importlib import resources
from pathlib import Path
from typing import Any, Final

import pytest

from aiomilter._cli import main

PAGE: Final = (resources.files("aiomilter") / "help" / "srs.rst").read_text("utf-8")
TESTS: Final = Path(__file__).parents[1]


def test_every_rule_has_a_test_that_cites_it() -> None:
    cited = set()
    for path in ("mail/test_srs.py", "interop/test_srs.py"):
        for node in ast.walk(ast.parse((TESTS / path).read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                cited |= set(re.findall(r"\bS-\d{3}\b", ast.get_docstring(node) or ""))
    rules = re.findall(r"^\* (S-\d{3}): ", PAGE, re.MULTILINE)
    assert rules == [f"S-{number:03}" for number in range(1, 12)]
    assert cited == set(rules)


def test_the_code_runs() -> None:
    (block,) = re.findall(r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", PAGE, re.MULTILINE)
    names: dict[str, Any] = {}
    exec(re.sub("^    ", "", block, flags=re.MULTILINE), names)
    (test,) = (each for name, each in names.items() if name.startswith("test_"))
    asyncio.run(test())


def test_the_commands_are_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("srs.secrets").write_text("a secret of 16 octets\n")
    commands = re.findall(r"^    (aiomilter .*)", PAGE, re.MULTILINE)
    assert [command.split()[2] for command in commands] == ["forward", "serve"]
    assert main(shlex.split(commands[0])[1:]) == 0
    rewritten = capsys.readouterr().out.strip()
    assert rewritten.endswith("=example.com=alice@fwd.example.org")
    options = commands[0].partition("alice@example.com ")[2]
    assert main(["srs", "reverse", rewritten, *options.split()]) == 0
    assert capsys.readouterr().out == "alice@example.com\n"
