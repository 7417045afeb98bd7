"""Every block of code of README.rst and of the manual runs, every command that they name is one, and they are well-formed."""

import argparse
import asyncio
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pytest
from mypy import api

from aiomilter._cli import _WITHIN, _parse, _parser, main
from aiomilter._cli.manual import topics
from aiomilter.dns import CachingResolver, Resolver
from aiomilter.testing.resolver import ZoneResolver
from aiomilter.wire.negotiation import Wants
from tests.help import options
from tests.help.pages import PAGES, ROOT, commands, literal, prose, python
from tests.programs import need

EACH_PAGE: Final = pytest.mark.parametrize("page", PAGES)
OWN_TESTS: Final = frozenset(page for page in PAGES if (Path(__file__).parent / f"test_{page}.py").exists())
"""Pages with a module of tests of their own, which runs their code: it needs more than is here."""
WITH_CODE: Final = [page for page in PAGES if page not in OWN_TESTS and python(page)]
UNTYPED: Final = frozenset({"pymilter"})
"""Their programs import pymilter's names, which have no types."""
NEEDED: Final = {"greylist": ["redis", "fakeredis"], "scoring": ["aiohttp"], "metrics": ["prometheus_client"]}
"""What the code of a page imports beyond what aiomilter needs."""


def missing(module: str) -> str | None:
    """Return what to say of a module that is not there; None if it is."""
    return None if find_spec(module) else f"{module} is not installed (pip install 'aiomilter[test]')"


@pytest.fixture
def untouched_modules() -> Iterator[None]:
    """Have what a page imports or installs be gone afterwards: it may be pymilter's names."""
    modules, finders = dict(sys.modules), sys.meta_path[:]
    yield
    sys.meta_path[:] = finders
    for name in set(sys.modules) - set(modules):
        if name.partition(".")[0] in ("Milter", "milter", "mime"):
            del sys.modules[name]


def run_page(page: str) -> dict[str, Any]:
    """Run all Python of a page, top to bottom, in one namespace, and return that."""
    names: dict[str, Any] = {"__name__": f"page_{page}"}
    for block in python(page):
        exec(compile("\n" * (block.line - 1) + block.text, str(PAGES[page]), "exec"), names)
    return names


async def play(names: dict[str, Any]) -> int:
    """Run what a page defines: its tests, ``main``, and the factory ``milter``; return how many tests there were."""
    tests = [function for name, function in names.items() if name.startswith("test_")]
    for function in tests:
        marks = [mark.args for mark in getattr(function, "pytestmark", ()) if mark.name == "parametrize"]
        for values in marks[0][1] if marks else [()]:
            await function(*values)
    if "main" in names:
        await names["main"]()
    if "milter" in names:
        factory = names["milter"]()
        assert isinstance(factory, AbstractAsyncContextManager)
        async with factory as make:
            assert isinstance(make().wants, Wants)
    return len(tests)


@pytest.mark.usefixtures("untouched_modules")
@pytest.mark.parametrize("page", WITH_CODE)
def test_the_python_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in NEEDED.get(page, ()):
        need(missing(module))

    def resolver() -> Resolver:
        return CachingResolver(ZoneResolver(""))

    monkeypatch.setattr("aiomilter.dns.system_resolver", resolver)
    monkeypatch.chdir(tmp_path)
    names = run_page(page)
    tests = asyncio.run(play(names))
    assert tests == sum(block.text.count("async def test_") for block in python(page))


@pytest.mark.slow
def test_types_of_all_pages(tmp_path: Path) -> None:
    """mypy --strict takes what the pages show."""
    for module in chain(*NEEDED.values()):
        need(missing(module))
    for page in set(WITH_CODE) - UNTYPED:
        # What a block imports again is for its reader.
        (tmp_path / f"page_{page}.py").write_text("\n\n".join(block.text for block in python(page)), "utf-8")
    out, err, _ = api.run(["--config-file", str(ROOT / "pyproject.toml"), "--no-pretty", str(tmp_path)])
    assert (err, out.rpartition(":")[0]) == ("", "Success"), out


@EACH_PAGE
def test_a_page_is_well_formed(page: str) -> None:
    need(missing("docutils"))
    core, utils = map(import_module, ("docutils.core", "docutils.utils"))
    settings = {"report_level": 2, "halt_level": 2, "file_insertion_enabled": False, "warning_stream": False}
    try:
        core.publish_doctree(PAGES[page].read_text("utf-8"), source_path=str(PAGES[page]), settings_overrides=settings)
    except utils.SystemMessage as error:
        pytest.fail(str(error))


@EACH_PAGE
def test_a_page_begins_with_its_title(page: str) -> None:
    title, rule, empty = PAGES[page].read_text("utf-8").splitlines()[:3]
    assert (rule, empty) == ("=" * len(title), "")
    assert not title.endswith(".")


def parsed(command: str) -> str:
    """Return how a command is taken: "" for well, what is wrong otherwise."""
    words = shlex.split(command.replace(" SOCKET", " inet:0@127.0.0.1"))[1:]
    if words in (["run"], ["check"], ["compat"], ["dmarc", "report"]):
        return ""  # the command is mentioned, not called
    try:
        topic = getattr(_parse(_parser(words), words), "topic", None)
    except SystemExit as error:
        return "" if error.code == 0 else f"exit status {error.code}"  # --help ends, too
    return "" if topic in (None, "TOPIC", *topics()) else "no such topic"


@EACH_PAGE
def test_every_command_that_a_page_names_is_one(page: str) -> None:
    assert [(command, wrong) for command in commands(page) if (wrong := parsed(command))] == []


@pytest.mark.parametrize("command", ["aiomilter help nowhere", "aiomilter run f.py --lissen x", "aiomilter serve"])
def test_a_command_that_is_none_is_found(command: str) -> None:
    assert parsed(command)


def flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield all options of a command, and of those below it."""
    yield from parser._option_string_actions
    for action in parser._actions:
        for each in action.choices.values() if isinstance(action.choices, dict) else ():
            yield from flags(each)


@EACH_PAGE
def test_every_option_of_the_command_line_that_a_page_names_is_one(page: str) -> None:
    named = re.findall(r"``(--[a-z-]+)", prose(page))
    others = {"--quick", "--minutes", "--sockets", "--rounds"}  # of the benchmarks
    known = {*flags(_parser()), *chain.from_iterable(flags(_parser(words)) for words in _WITHIN)}
    assert set(named) - known - others == set()


@EACH_PAGE
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    text = PAGES[page].read_text("utf-8")
    for name in re.findall(r"(?<![\w/])(?:examples|tests|aiomilter|benchmarks)/[\w/]+\.?(?:py|rst|service|png)?", text):
        assert (ROOT / name.rstrip("/.")).exists(), name


@EACH_PAGE
def test_every_topic_that_a_page_points_to_is_there(page: str) -> None:
    text = " ".join(PAGES[page].read_text("utf-8").split())
    for listed in re.findall(r"``aiomilter help (\w+)``((?:,? (?:and )?``\w+``)*)", text):
        for topic in [listed[0], *re.findall(r"``(\w+)``", listed[1])]:
            assert topic in topics() or topic == "TOPIC", topic


CONSOLES: Final = [page for page in PAGES if any(block.language == "console" for block in literal(page))]


@pytest.mark.parametrize("page", sorted(set(CONSOLES) - OWN_TESTS))
def test_a_session_at_a_terminal_goes_as_shown(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files are those that the page tells to save; "..." stands for any lines, or for the rest of one."""
    text = PAGES[page].read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    for name, line in [
        (found[1], text.count("\n", 0, found.end())) for found in re.finditer(r"[Ss]ave this as ``([\w.]+)``", text)
    ]:
        every = sorted([*python(page), *literal(page)], key=lambda block: block.line)
        block = next(block for block in every if block.line > line)
        Path(name).write_text(block.text, "utf-8")
    for block in literal(page):
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE):
            if block.language == "console" and command.startswith("aiomilter "):
                main(shlex.split(command)[1:])
                pattern = "".join(
                    r"(?:.*\n)*" if each == "..." else re.escape(each).replace(r"\.\.\.", ".*") + "\n"
                    for each in shown.rstrip("\n").splitlines()
                )
                printed = capsys.readouterr().out
                assert re.match(pattern, printed), f"{pattern}\n{printed}"


def test_the_page_on_options_is_made_from_the_tables() -> None:
    """``python -m tests.help.options`` writes it."""
    assert options.PAGE.read_text("utf-8") == options.text()
