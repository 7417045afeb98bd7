"""The pages of the manual and README.rst, and the code in them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["PAGES", "ROOT", "Block", "blocks", "commands", "literal", "prose", "python"]

ROOT: Final = Path(__file__).parents[2]
PAGES: Final[dict[str, Path]] = {
    "README": ROOT / "README.rst",
    **{path.stem: path for path in sorted((ROOT / "aiomilter" / "help").glob("*.rst"))},
    **{f"filter-{path.stem}": path for path in sorted((ROOT / "aiomilter" / "help" / "filters").glob("*.rst"))},
}

_BLOCK: Final = re.compile(
    r"^(?:\.\. code-block:: (?P<language>[\w-]+)|(?:.*[^:\n])?(?P<literal>::))\n\n", re.MULTILINE
)
_INDENTED: Final = re.compile(r"(?:    .*\n|\n)+")


class Block(NamedTuple):
    """A block of code.

    Args:
        page: Whose.
        line: Number of its first line, from 1.
        language: What the directive says; "" for a literal block.
        text: Without the indentation.
    """

    page: str
    line: int
    language: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    """Yield all blocks of code of a page."""
    text = PAGES[page].read_text("utf-8")
    for found in _BLOCK.finditer(text):
        if block := _INDENTED.match(text, found.end()):
            code = re.sub(r"^    ", "", block[0], flags=re.MULTILINE).strip("\n") + "\n"
            yield Block(page, text.count("\n", 0, found.end()) + 1, found["language"] or "", code)


def python(page: str) -> list[Block]:
    """Return the blocks of Python."""
    return [block for block in blocks(page) if block.language == "python"]


def literal(page: str) -> list[Block]:
    """Return all other blocks: commands, configuration, output."""
    return [block for block in blocks(page) if block.language != "python"]


def prose(page: str) -> str:
    """Return a page without its blocks of code."""
    text = PAGES[page].read_text("utf-8")
    return re.sub(rf"{_BLOCK.pattern}{_INDENTED.pattern}", "", text, flags=re.MULTILINE)


def commands(page: str) -> list[str]:
    """Return the commands of ours that a page names, in blocks and in the text, each in one line."""
    found = []
    for block in literal(page):
        text = block.text.replace("\\\n", " ")
        found += re.findall(r"^(?:\$ |.*&& \.venv/bin/)?(aiomilter(?: .*)?)$", text, re.MULTILINE)
    text = " ".join(prose(page).split())
    found += re.findall(r"``(aiomilter (?:run|check|compat|help)(?: [^`]*)?)``", text)
    return [command.partition(" | ")[0] for command in found]
