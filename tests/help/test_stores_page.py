"""The page on stores: its program prints what it should, and leaves a file."""

import asyncio
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest


def names_of(page: str) -> dict[str, Any]:
    """Run the Python of a page, and return what it defines."""
    text = (resources.files("aiomilter") / "help" / f"{page}.rst").read_text("utf-8")
    names: dict[str, Any] = {"__name__": page}
    for block in re.findall(r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", text, re.MULTILINE):
        exec(re.sub("^    ", "", block, flags=re.MULTILINE), names)
    return names


def test_the_example_of_stores_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asyncio.run(names_of("stores")["main"]())
    assert capsys.readouterr() == ("RateState(exceeded=False, wait=0.0, remaining=199, problem='')\n", "")
    assert (tmp_path / "state.db").exists()
