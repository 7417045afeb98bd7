"""The code blocks of a help topic, to be tried."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from importlib import resources
from typing import Any, NamedTuple

import pytest

from aiomilter._cli import main

_BLOCK = re.compile(r"^\.\. code-block:: (\w+)\n\n((?:    .*\n|\n)+)", re.MULTILINE)


class Block(NamedTuple):
    """One code block: its language, and its text."""

    language: str
    text: str


def blocks(topic: str, language: str = "") -> list[Block]:
    """Return the code blocks of a topic in order, all or those of one language."""
    text = resources.files("aiomilter").joinpath("help", f"{topic}.rst").read_text("utf-8")
    found = [Block(kind, textwrap.dedent(body).strip("\n") + "\n") for kind, body in _BLOCK.findall(text)]
    assert len(found) == text.count(".. code-block::")
    return [block for block in found if language in ("", block.language)]


def defined(topic: str) -> dict[str, Any]:
    """Run all Python blocks of a topic in one namespace, and return it."""
    names: dict[str, Any] = {}
    for block in blocks(topic, "python"):
        exec(compile(block.text, f"{topic}.rst", "exec"), names)
    return names


def commands(topic: str) -> Iterator[tuple[list[str], str]]:
    """Yield the commands of a topic, without their program, and what they print."""
    for block in blocks(topic, "console"):
        for said in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            line, _, output = said.partition("\n")
            program, *arguments = shlex.split(line)
            assert program == "aiomilter"
            yield arguments, output


def played(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command of aiomilter and return what it prints."""
    main(arguments)
    out, err = capsys.readouterr()
    assert err == ""
    return out
