"""Manual pages in roff's man macros, one for each command, made from the parser of the command line.

argparse-manpage 4.8 loses lines that begin with a quote or a full stop, and breaks lists that descriptions have laid out;
docutils 0.23 writes macros that mandoc does not know.
"""

import argparse
import re
import textwrap
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from aiomilter import __version__
from aiomilter._cli.options import HelpAll

DATE: Final = "2026-11-30"
"""Of the release."""
WIDTH: Final = 78
_ESCAPED: Final = str.maketrans({"\\": r"\(rs", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"})


def pages(parser: argparse.ArgumentParser) -> Mapping[str, str]:
    """Return the page of each command and that of all, by the names of their files."""
    (commands,) = _commands(parser)
    texts = {action.dest: action.help or "" for action in commands._choices_actions}
    others = [f"aiomilter-{name}" for name in commands.choices]
    made = {"aiomilter": _page("aiomilter", "mail filters for Postfix and Sendmail", parser, others)}
    for name, each in commands.choices.items():
        page = f"aiomilter-{name}"
        made[page] = _page(page, texts[name], each, ["aiomilter", *(other for other in others if other != page)])
    return {f"{name}.1": text for name, text in made.items()}


def _page(name: str, purpose: str, parser: argparse.ArgumentParser, others: list[str]) -> str:
    lines = [
        f'.TH {name.upper()} 1 {DATE} "aiomilter {__version__}" "aiomilter"',
        ".SH NAME",
        f"{_text(name)} \\- {_text(purpose)}",
        *_command(parser, ".SH"),
        ".SH MORE",
        *_filled("aiomilter help lists the manual, a page for each question; aiomilter help TOPIC shows one."),
        ".SH SEE ALSO",
        *_filled(", ".join(f"{each}(1)" for each in others)),
    ]
    return "\n".join(lines) + "\n"


def _command(parser: argparse.ArgumentParser, heading: str) -> Iterator[str]:
    """Yield the sections of a command, and of those below it, which have smaller headings."""
    below = _commands(parser)
    parser.formatter_class = partial(argparse.HelpFormatter, width=10_000)  # Pythons break lines differently
    top = heading == ".SH"
    yield f"{heading} SYNOPSIS" if top else f"{heading} {_text(parser.prog)}"
    for number, usage in enumerate(parser.format_usage().removeprefix("usage: ").rstrip().split("\n")):
        yield from [".br"] if number else []
        yield from _filled(usage)
    yield from ([f"{heading} DESCRIPTION"] if top else [])
    yield from _prose((parser.description or "") % {"prog": parser.prog})
    for action in parser._actions:
        if isinstance(action, HelpAll):
            action.show()
    for group in parser._action_groups:
        yield from _options(group, parser, heading)
    if top and parser.epilog:
        yield f"{heading} NOTES"
        yield from _prose(parser.epilog % {"prog": parser.prog})
    if below and parser.prog != "aiomilter":
        yield ".SH COMMANDS"
        for each in below[0].choices.values():
            yield from _command(each, ".SS")


def _options(group: "argparse._ArgumentGroup", parser: argparse.ArgumentParser, heading: str) -> Iterator[str]:
    formatter = argparse.HelpFormatter(parser.prog)
    shown = [
        action
        for action in group._group_actions
        if action.help != argparse.SUPPRESS and not isinstance(action, HelpAll | argparse._HelpAction)
    ]
    if shown and heading == ".SH":
        yield f".SH {_text((group.title or 'options').upper())}"
    for action in shown:
        for each in action._choices_actions if isinstance(action, argparse._SubParsersAction) else (action,):
            yield ".TP"
            invocation = each.dest if each is not action else formatter._format_action_invocation(action)
            yield f"\\fB{_text(invocation)}\\fR"
            yield from _filled(formatter._expand_help(each) if each.help else "")


def _prose(text: str) -> Iterator[str]:
    """Yield paragraphs: one with an indented line is a layout of its own."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip("\n"))):
        if paragraph.strip():
            yield from [".PP"] if number else []
            yield from _as_it_is(paragraph) if re.search("^ ", paragraph, re.M) else _filled(paragraph)


def _as_it_is(text: str) -> Iterator[str]:
    yield ".nf"
    yield from map(_line, _text(text.rstrip("\n")).split("\n"))
    yield ".fi"


def _filled(text: str) -> Iterator[str]:
    words = " ".join(_text(text).split())
    yield from map(_line, textwrap.wrap(words, WIDTH, break_long_words=False, break_on_hyphens=False))


def _line(text: str) -> str:
    # A full stop that begins a line makes it a request; a quote, which does too, is escaped already.
    return f"\\&{text}" if text.startswith(".") else text


def _text(text: str) -> str:
    return text.translate(_ESCAPED)


def _commands(parser: argparse.ArgumentParser) -> "list[argparse._SubParsersAction[argparse.ArgumentParser]]":
    return [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
