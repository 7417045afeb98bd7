"""The command ``aiomilter help``: the pages of the manual, which are part of the package."""

import argparse
import difflib
import pydoc
import sys
import textwrap
from importlib import resources
from typing import Any, Final

from aiomilter._cli.terminal import safe
from aiomilter._cli.trouble import USAGE, Trouble

__all__ = ["add_parser", "page", "topics"]

_SUFFIX: Final = ".rst"
_OF_FILTER: Final = "filter-"
"""Begins the name of the page of a ready filter; where no other page has it, the name of the filter will do."""
_DESCRIPTION: Final = """\
Show a page of the manual; without a topic, list them.  Output to a pipe or a file is plain text.
"""


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "help", help="show a page of the manual", usage="%(prog)s [TOPIC]", description=_DESCRIPTION
    )
    parser.set_defaults(command=_help, parser=parser, commands=commands.choices)
    parser.add_argument("topic", metavar="TOPIC", nargs="?", help="such as postfix, log or options")


def topics() -> list[str]:
    """Return the names of all pages."""
    pages = resources.files("aiomilter") / "help"
    own = (each.name for each in pages.iterdir())
    of_filters = (f"{_OF_FILTER}{each.name}" for each in (pages / "filters").iterdir())
    return sorted(name.removesuffix(_SUFFIX) for name in (*own, *of_filters) if name.endswith(_SUFFIX))


def page(topic: str) -> str:
    """Return the text of a page."""
    pages = resources.files("aiomilter") / "help"
    if topic.startswith(_OF_FILTER):
        pages, topic = pages / "filters", topic.removeprefix(_OF_FILTER)
    return (pages / f"{topic}{_SUFFIX}").read_text("utf-8")


def _help(arguments: argparse.Namespace) -> int:
    topic, known = arguments.topic, topics()
    if topic is None:
        _show(_contents(known))
        return 0
    if topic not in known and f"{_OF_FILTER}{topic}" in known:
        topic = f"{_OF_FILTER}{topic}"
    if topic not in known:
        if topic in arguments.commands:
            raise Trouble(f"there is no topic {topic!r}; see 'aiomilter {topic} --help'", status=USAGE)
        alike = difflib.get_close_matches(topic.lower(), known, 1, cutoff=0.5)
        hint = f"did you mean {alike[0]!r}?" if alike else "'aiomilter help' lists them"
        raise Trouble(f"there is no topic {topic!r:.80}; {hint}", status=USAGE)
    _show(page(topic))
    return 0


def _contents(known: list[str]) -> str:
    width = max(map(len, known)) + 2
    lines = [f"  {topic:{width}}{page(topic).partition(chr(10))[0]}" for topic in known]
    return textwrap.dedent("""\
        aiomilter help TOPIC shows a page of the manual:

        {}

        aiomilter run --help lists the options of a command, python -m pydoc aiomilter the names to import.
        """).format("\n".join(lines))


def _show(text: str) -> None:
    """Write a text, through the user's pager if stdout is a terminal."""
    encoding = sys.stdout.encoding or "utf-8"
    text = safe(text, also="\n").encode(encoding, "backslashreplace").decode(encoding)
    if sys.stdout.isatty():
        pydoc.pager(text)
    else:
        sys.stdout.write(text)
