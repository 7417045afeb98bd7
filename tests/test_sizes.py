"""Modules and functions that one can see whole; a longer one says in its docstring why it is one piece, with a figure."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

PACKAGE: Final = Path(__file__).parent.parent / "aiomilter"
MODULE: Final = 500
FUNCTION: Final = 60
"""Lines, a function's docstring not counted."""
REASON: Final = re.compile(r"\bOne (piece|function|class|table)\b.*?\d", re.DOTALL)

TO_BE_CUT: Final[frozenset[str]] = frozenset()
"""These have no such reason; a name leaves the list when it is cut, and none is added."""


def long_ones() -> Iterator[tuple[str, int, str]]:
    """Yield name, lines and docstring of what is too long."""
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text("utf-8")
        tree = ast.parse(text)
        name = str(path.relative_to(PACKAGE))
        if (lines := text.count("\n")) > MODULE:
            yield name, lines, ast.get_docstring(tree) or ""
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = ast.get_docstring(node, clean=False)
                lines = (node.end_lineno or 0) - node.lineno + 1 - (docstring.count("\n") + 1 if docstring else 0)
                if lines > FUNCTION:
                    yield f"{name}: {node.name}", lines, docstring or ""


@pytest.mark.slow
def test_what_is_long_says_why() -> None:
    assert {name for name, _, docstring in long_ones() if not REASON.search(docstring)} == TO_BE_CUT
