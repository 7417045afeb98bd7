"""The rules of aiomilter/help/protocol.rst as data, and the tests that cite them.

A test cites a rule by its number, ``P-nnn``, in its docstring; the source is read, not run.  The rules are for the native
API: the pymilter modules follow pymilter instead where the two differ.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

__all__ = ["HELP", "RULES", "TEXT", "citations", "cited", "rules", "titles"]

TESTS: Final = Path(__file__).parent.parent
_NUMBER: Final = re.compile(r"\bP-([0-9]{3})\b")

HELP: Final = (resources.files("aiomilter") / "help" / "protocol.rst").read_text("utf-8")
"""The page that tells the protocol and the rules."""

# A title and its line; an item of a list, with the lines that go on.
_TITLE: Final = re.compile(r"^(?P<title>\S.*)\n(?P<line>[=~-])(?P=line)+$", re.MULTILINE)
_RULE: Final = re.compile(r"^\* P-([0-9]{3}): (.*(?:\n  .*)*)$", re.MULTILINE)


def titles(page: str = HELP) -> list[str]:
    """Return the titles of the sections of a help page, in order."""
    return [match["title"] for match in _TITLE.finditer(page)]


def rules(page: str = HELP) -> dict[str, dict[int, str]]:
    """Return the rules of a help page by number, in their sections."""
    found: dict[str, dict[int, str]] = {}
    _, *parts = _TITLE.split(page)
    for title, text in zip(parts[::3], parts[2::3], strict=True):
        if numbered := {int(number): " ".join(rule.split()) for number, rule in _RULE.findall(text)}:
            found[title] = numbered
    return found


RULES: Final[Mapping[str, Mapping[int, str]]] = rules()
"""The rules by number, in their sections."""

TEXT: Final[Mapping[int, str]] = {number: text for section in RULES.values() for number, text in section.items()}
"""The rules by number."""


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node


def cited(source: str) -> dict[str, set[int]]:
    """Return the rules that each test of a module cites, by its name; without those that cite none.

    Of "P-001 to P-005" the two ends are cited: what nobody names, nobody has looked at.
    """
    found = {}
    for function in _functions(ast.parse(source)):
        text = ast.get_docstring(function) or ""
        if numbers := {int(number) for number in _NUMBER.findall(text)}:
            found[function.name] = numbers
    return found


@cache
def citations(tests: Path = TESTS) -> dict[int, list[str]]:
    """Return the tests that cite each rule, as ``path::name``, in order; rules that nobody cites are missing."""
    found: dict[int, list[str]] = {}
    for path in sorted(tests.rglob("test_*.py")):
        for name, numbers in cited(path.read_text("utf-8")).items():
            for number in numbers:
                found.setdefault(number, []).append(f"{path.relative_to(tests.parent)}::{name}")
    return dict(sorted(found.items()))
