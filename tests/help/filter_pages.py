"""What the page of a ready filter has from the class of its settings: ``python -m tests.help.filter_pages`` writes it."""

import re
from pathlib import Path
from textwrap import indent
from typing import Final

from aiomilter import filters
from aiomilter.filters.reference import reference
from tests.help.pages import PAGES

__all__ = ["example", "made", "page", "written"]

_BETWEEN: Final = re.compile(r"(?<=\.\. settings\n).*?(?=\.\. end of settings)", re.DOTALL)


def page(name: str) -> Path:
    """Return where the page of a filter is."""
    return PAGES[f"filter-{name}"]


def example(name: str) -> str:
    """Return the tables that show a filter."""
    text: str = getattr(filters, filters.NAMES[name]).example
    return text


def made(name: str) -> str:
    """Return the example and the reference of a filter."""
    whole, _, _ = reference(getattr(filters, filters.NAMES[name])).partition("\nexample:\n")
    _, _, about = whole.partition("\n\n")
    toml = indent(example(name).rstrip(), "    ")
    text = indent(about.rstrip(), "    ")
    return f"\n.. code-block:: toml\n\n{toml}\n\nWhat it does, and what it can be set to::\n\n{text}\n\n"


def written(name: str) -> str:
    """Return what the page has."""
    found = _BETWEEN.search(page(name).read_text("utf-8"))
    assert found is not None
    return found[0]


if __name__ == "__main__":
    for each in filters.NAMES:
        text = page(each).read_text("utf-8")
        page(each).write_text(_BETWEEN.sub(lambda _, each=each: made(each), text), "utf-8")  # type: ignore[misc]
