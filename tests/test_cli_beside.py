"""What lies beside a filter may have any name, and so may the filter."""

import importlib
import importlib.metadata
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement

from aiomilter._cli import beside, main
from aiomilter._cli.beside import LIBRARIES, in_the_way, is_installed, is_taken, look_in
from tests.patience import PATIENCE

LOOKUP: Final = """\
from aiomilter import Context, Mail, Milter
from aiomilter.dns import question_name, resolver


class Lookup(Milter):
    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        question_name("b\\u00fccher.example")
        async with resolver("127.0.0.1:5353"):
            return None
"""
NAMES: Final = (
    # What aiomilter imports, early and late, and what that does.
    *sorted(LIBRARIES - {"_cffi_backend"}),
    *(
        "asyncio",
        "argparse",
        "email",
        "encodings",
        "logging",
        "ssl",
        "socket",
        "selectors",
        "stringprep",
        "unicodedata",
    ),
    *(
        "types",
        "json",
        "secrets",
        "calendar",
        "difflib",
        "decimal",
        "base64",
        "contextvars",
        "queue",
        "random",
        "hashlib",
    ),
    "helpers",
)


def folder_of(path: Path, filter_name: str, *neighbours: str) -> Path:
    """Make a directory with a filter and files that must not be imported."""
    path.mkdir()
    for name in neighbours:
        (path / f"{name}.py").write_text(f"raise SystemExit('{name}.py beside the filter was imported')\n")
    (path / f"{filter_name}.py").write_text(LOOKUP)
    return path


def command(folder: Path, *arguments: str, program: str = "-P -m aiomilter") -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, in which nothing is imported yet; with ``-P`` as the installed command does."""
    line = [sys.executable, *program.split(), *arguments]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["lookup.py", "lookup.py:Lookup", "lookup:Lookup", "./lookup.py"])
def test_any_name_may_lie_beside_a_filter(tmp_path: Path, target: str) -> None:
    folder = folder_of(tmp_path / "f", "lookup", *NAMES)
    done = command(folder, "check", target)
    assert (done.returncode, done.stderr) == (0, "")
    assert "the SMTP client is told after the message: 250" in done.stdout


@pytest.mark.slow
def test_the_current_directory_that_python_puts_first_is_none_to_import_libraries_from(tmp_path: Path) -> None:
    """``python -m aiomilter``: what is imported before aiomilter can see to it is Python's matter (``python -P -m``)."""
    folder = folder_of(tmp_path / "f", "lookup", *(LIBRARIES - {"aiomilter"}), "email")
    done = command(folder, "check", "lookup.py", program="-m aiomilter")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dns", "email", "idna", "uvloop", "aiomilter", "asyncio", "helpers"])
def test_a_filter_may_have_any_name(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path / "f", name)
    done = command(folder, "check", f"{name}.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert "the SMTP client is told after the message: 250" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--workers", "2"], ["--smtp", "0"]], ids=" ".join)
def test_any_name_may_lie_beside_a_filter_that_is_served_and_reloaded(tmp_path: Path, options: list[str]) -> None:
    folder = folder_of(tmp_path / "f", "lookup", *NAMES)
    line = [sys.executable, "-P", "-m", "aiomilter", "run", "lookup.py", "--listen", f"unix:{tmp_path}/s", *options]
    with subprocess.Popen(line, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            log: list[str] = []

            def until(pattern: str) -> None:
                for text in process.stderr or ():
                    log.append(text)
                    if re.search(pattern, text):
                        return
                pytest.fail("".join(log))

            serves = "workers .* serve new" if "--workers" in options else "listening on (unix|127.*SMTP)"
            for _ in range(2 if "--smtp" in options else 1):
                until(serves)
            for reloaded in (False, True):
                if reloaded:
                    process.send_signal(signal.SIGHUP)
                    until("INFO .*: reloaded")
                done = command(tmp_path, "check", "--connect", f"unix:{tmp_path}/s")
                assert "the SMTP client is told after the message: 250" in done.stdout, done
                until("INFO .*eom: continue")
            process.send_signal(signal.SIGTERM)
            _, rest = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, rest
            assert "beside the filter" not in "".join(log) + rest
        finally:
            process.kill()


# In this process


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A directory; what is imported from it or because of it is gone afterwards."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "meta_path", [each for each in sys.meta_path if type(each).__name__ != "_InstalledFirst"])
    before = set(sys.modules)
    importlib.invalidate_caches()
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def module(folder: Path, name: str, text: str = "") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / f"{name}.py").write_text(f"where = {folder.name!r}\n{text}")
    return folder


def test_a_neighbour_is_found_before_what_is_installed_unless_its_name_is_taken(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "LIBRARIES", frozenset({"taken_and_there", "taken_and_missing"}))
    for name in ("taken_and_there", "free_and_there", "colorsys"):
        module(path / "site", name)
    for name in ("taken_and_there", "taken_and_missing", "free_and_there", "free_and_missing", "colorsys"):
        module(path / "own", name)
    sys.path.append(str(path / "site"))
    sys.modules.pop("colorsys", None)
    assert not is_installed("taken_and_missing_too")
    look_in(str(path / "own"))
    look_in(str(path / "own"))
    found = {name: getattr(importlib.import_module(name), "where", "Python") for name in (
        "taken_and_there", "taken_and_missing", "free_and_there", "free_and_missing", "colorsys"
    )}  # fmt: skip
    assert found == {
        "taken_and_there": "site",
        # Nobody else's: the filter may have it.
        "taken_and_missing": "own",
        "free_and_there": "own",
        "free_and_missing": "own",
        "colorsys": "Python",
    }
    assert sys.path.count(str(path / "own")) == 1
    assert [type(each).__name__ for each in sys.meta_path].count("_InstalledFirst") == 1


def test_what_just_lies_there_is_not_installed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "LIBRARIES", frozenset({"lies_there", "is_there"}))
    monkeypatch.chdir(module(path / "here", "lies_there"))
    sys.path.insert(0, str(path / "here"))  # as python -m has it
    sys.path.append(str(module(path / "site", "is_there")))
    assert not is_installed("lies_there")
    assert is_installed("is_there")
    assert is_installed("sys")
    monkeypatch.setitem(sys.modules, "is_there", None)
    assert not is_installed("is_there")


def test_where_aiomilter_itself_lies_everything_is_installed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the directory of ``pip install --target``, or beside a filter in site-packages."""
    monkeypatch.setattr(beside, "_INSTALLATION", path / "own")
    monkeypatch.setattr(beside, "LIBRARIES", frozenset({"vendored"}))
    module(path / "own", "vendored")
    module(path / "own/dns", "exception")
    sys.path.append(str(module(path / "site", "vendored")))
    look_in(str(path / "own"))
    assert importlib.import_module("vendored").where == "own"


def test_a_checkout_of_aiomilter_is_no_installation(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "_INSTALLATION", path / "own")
    module(path / "own", "colorsys")
    sys.modules.pop("colorsys", None)
    look_in(str(path / "own"))
    assert not hasattr(importlib.import_module("colorsys"), "where")


@pytest.mark.parametrize("site", ["site", "own/environment"])
def test_a_program_finds_its_neighbours_first_and_all_others_what_is_installed(
    path: Path, monkeypatch: pytest.MonkeyPatch, site: str
) -> None:
    monkeypatch.setattr(beside, "LIBRARIES", frozenset({"of_library", "of_library_too"}))
    module(path / "own", "of_library")
    module(path / "own", "of_library_too")
    module(path / "own", "program", "import of_library_too\nfrom importlib import import_module\n")
    installed = path / site
    module(installed, "of_library")
    module(installed, "of_library_too")
    module(installed, "library", "import of_library\n")
    sys.path.append(str(installed))
    look_in(str(path / "own"), own_first=True)
    library, program = importlib.import_module("library"), importlib.import_module("program")
    assert (library.of_library.where, program.of_library_too.where) == (installed.name, "own")
    # By name, too.
    del sys.modules["of_library"]
    assert program.import_module("of_library").where == installed.name  # from this file
    del sys.modules["of_library"]
    exec(compile("found = import_module('of_library')", str(path / "own/program.py"), "exec"), vars(program))
    assert program.found.where == "own"


# What is said


HINTS: Final[list[tuple[str, str, str | None]]] = [
    # What the filter does; what lies beside it; what is said.
    ("from colorsys import HOSTS", "colorsys.py", "Python's own"),
    ("import colorsys.hosts", "colorsys.py", "Python's own"),
    ("from dns import HOSTS", "dns.py", "a library's"),
    ("import colorsys; colorsys.HOSTS", "colorsys.py", "Python's own"),
    ("from colorsys import HOSTS", "colorsys/__init__.py", "Python's own"),
    ("from colorsys import HOSTS", "other.py", None),
    ("from helpers import HOSTS", "helpers.py", None),
    ("import nowhere", "colorsys.py", None),
    ("[].HOSTS", "colorsys.py", None),
    ("1 / 0", "colorsys.py", None),
]


@pytest.mark.parametrize(("text", "neighbour", "whose"), HINTS)
def test_a_start_that_fails_names_the_file_whose_name_is_taken(
    path: Path, capsys: pytest.CaptureFixture[str], text: str, neighbour: str, whose: str | None
) -> None:
    (path / neighbour).parent.mkdir(exist_ok=True)
    (path / neighbour).write_text("WHO = 'me'\n")
    (path / "f.py").write_text(f"from aiomilter import Milter\n{text}\nclass F(Milter): pass\n")

    assert main(["check", str(path / "f.py")]) == 1
    *details, line = capsys.readouterr().err.splitlines()
    assert line.startswith(f"aiomilter: {path}/f.py cannot be imported: ")
    if whose is None:
        assert "in its place" not in line
        assert "rename" not in line
    else:
        name = neighbour.removesuffix(".py").removesuffix("/__init__")
        file = path / neighbour.removesuffix("/__init__.py")
        assert line.endswith(f"; the module {name!r} is {whose}, not {file}: if that was meant, rename it")
        assert details == []


def test_a_filter_of_such_a_name_gets_no_such_hint(path: Path) -> None:
    (path / "colorsys.py").touch()
    error = ImportError("x", name="colorsys")
    assert in_the_way(error, path / "colorsys.py") is None
    assert in_the_way(error, path / "f.py") is not None
    assert in_the_way(ImportError("x"), path / "f.py") is None


def test_a_module_of_a_taken_name_is_a_file_or_nothing(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path)
    (path / "colorsys.py").write_text(LOOKUP)
    assert main(["check", "colorsys:Lookup"]) == 1
    line = "'colorsys' is Python's own module; for the file here write its path, as in ./colorsys.py"
    assert capsys.readouterr().err == f"aiomilter: {line}\n"


# Whose names are taken


def needed(distribution: str, extras: tuple[str, ...], seen: set[str]) -> Iterator[str]:
    """Yield the names of what a distribution needs with its extras, itself included, as far as it is installed."""
    if distribution in seen:
        return
    seen.add(distribution)
    try:
        requirements = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return
    yield distribution
    for requirement in map(Requirement, requirements):
        wanted = any(
            requirement.marker is None or requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)
        )
        if wanted:
            yield from needed(requirement.name, tuple(requirement.extras), seen)


def test_all_that_aiomilter_needs_is_taken() -> None:
    """A new dependency, or a new one of theirs, belongs into the list."""
    names = set()
    extras = set(importlib.metadata.metadata("aiomilter").get_all("Provides-Extra") or ()) - {
        "test",
        "test-browser",
        "types",
    }
    # Beside a checkout its own list has all that is in a source distribution.
    for distribution in {*needed("aiomilter", tuple(extras), set())} - {"aiomilter"}:
        for file in importlib.metadata.files(distribution) or ():
            top = file.parts[0]
            if top.endswith((".py", ".so")) or (len(file.parts) > 1 and file.suffix in (".py", ".so")):
                names.add(top.partition(".")[0])
    names = {name for name in names if name.isidentifier() and not name.startswith("__")}
    assert "dns" in names
    assert "uvloop" in names
    assert {name for name in names if not is_taken(name)} == set()


def test_names_of_python_are_taken() -> None:
    assert is_taken("email")
    assert is_taken("email.message")
    assert not is_taken("helpers")
    assert os.path.isdir(beside._INSTALLATION)
