"""The commands: what ``aiomilter`` does on the command line.

Each has a module, ``help`` in :mod:`~aiomilter._cli.manual`.  :mod:`~aiomilter._cli.target` finds the filter,
:mod:`~aiomilter._cli.configured` puts flags, environment and configuration file together,
:mod:`~aiomilter._cli.options` makes arguments from tables of options, :mod:`~aiomilter._cli.service` and
:mod:`~aiomilter._cli.reloading` serve and reload, :mod:`~aiomilter._cli.play` plays messages for ``check``.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from typing import Final

from aiomilter import __version__
from aiomilter._cli.parsing import Parser
from aiomilter._cli.trouble import FAILED, USAGE, Trouble, tell
from aiomilter.wire.readers import COMPILED

__all__ = ["main"]

_COMMANDS: Final[Mapping[str, str]] = {
    "run": "run",
    "check": "check",
    "record": "record",
    "replay": "replay",
    "compat": "compat",
    "config": "config",
    "filters": "filters",
    "auth": "auth",
    "dkim": "dkim",
    "dmarc": "dmarc",
    "doctor": "doctor",
    "srs": "srs",
    "state": "state",
    "health": "health",
    "metrics": "metrics",
    "shadow": "shadow",
    "help": "manual",
}
"""Their modules.  Only that of the command in hand is imported: programs that compat runs share its modules, and its start."""
_WITHIN: Final[Mapping[tuple[str, ...], str]] = {("dmarc", "report"): "dmarc_report"}
"""Modules of second words; what else follows the first one is its argument."""
_DESCRIPTION: Final = """\
Mail filters (milters) for Postfix and Sendmail.

TARGET is where a filter is written:
  filter.py           the function 'milter' in this file, or its only filter class
  filter.py:Name      a filter class or factory in this file
  package.module:Name the same in a module that can be imported
It can import its neighbours; the names of Python's own modules, and of libraries that aiomilter uses, mean those.
"""
_EPILOG: Final = """\
examples:
  aiomilter check filter.py message.eml       what would it do to this message?
  aiomilter run filter.py --smtp 2525         try it with any mail program, no MTA needed
  aiomilter run filter.py --listen inet:8890@127.0.0.1
                                              serve it to Postfix or Sendmail
  aiomilter run --config gateway.toml         the same, set up by a file; 'aiomilter config init' writes one
  aiomilter replay refused.jsonl.gz filter.py would it answer a recorded session as before?
  aiomilter doctor                            why does mail not flow through a filter?
  aiomilter filters                           list the filters that come with aiomilter
  aiomilter compat milter.py                  run a program written for pymilter
  aiomilter auth message.eml                  SPF, DKIM and DMARC: where does it come from?
  aiomilter dmarc example.com                 which DMARC policy does a domain have?
  aiomilter help                              list the pages of the manual

exit codes: 0 done, 1 failed, 2 wrong usage, 4 no such file; for 3 see aiomilter check --help
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: Those of the command line if None.
    """
    _open_standard_streams()
    words = sys.argv[1:] if arguments is None else arguments
    # A program run by compat finds its streams as Python made them.
    ours = words[:1] != ["compat"]
    for stream in (sys.stdout, sys.stderr) if ours else ():
        # What the terminal cannot show is written \\N, never an exception.
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a text stream that tests replace has none
    try:
        options = _parse(_parser(words), arguments)
        status: int = options.command(options)
        if ours:
            sys.stdout.flush()
        if arguments is None and words[:1] == ["check"]:
            # What a filter prints when Python ends is not part of the report.
            os.dup2(2, 1)
        return status
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else USAGE
    except Trouble as trouble:
        tell(trouble)
        return trouble.status
    except BrokenPipeError:
        # The reader of our output has left; the rest of the buffer must not raise once more at exit.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        if not ours:
            raise  # Python ends the program, by this signal
        return 130


def _parser(words: Sequence[str] = ()) -> Parser:
    """Return the parser of the command that the words begin with, of all commands if it is ``help`` or there is none.

    ``--version`` needs none of them.
    """
    parser = Parser(prog="aiomilter", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    for module in _modules(words):
        import_module(f"{__name__}.{module}").add_parser(commands)
    return parser


def _modules(words: Sequence[str]) -> Collection[str]:
    if words[:1] == ["--version"]:
        return ()
    if within := _WITHIN.get(tuple(words[:2])):
        return (within,)
    alone = bool(words) and words[0] in _COMMANDS and words[0] != "help"
    return (_COMMANDS[words[0]],) if alone else _COMMANDS.values()


def _version() -> str:
    return f"aiomilter {__version__} ({'compiled reader' if COMPILED else 'reader in Python'})"


def _open_standard_streams() -> None:
    """Open /dev/null in place of those that are closed.

    Otherwise the next descriptors, of sockets or the event loop, take their numbers and get what is written to them.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
            if getattr(sys, name) is None:
                setattr(sys, name, os.fdopen(fd, "r" if name == "stdin" else "w", closefd=False))


def _parse(parser: Parser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; argparse alone would take no messages after an option."""
    options, rest = parser.parse_known_args(arguments)
    if not hasattr(options, "command"):
        parser.error("expected a command, such as run or check")
    if unknown := [text for text in rest if text.startswith("-") and text != "-"] or (
        rest if not hasattr(options, "arguments") else []
    ):
        is_filter = unknown[0].endswith(".py")
        hint = (
            "; one filter a process: run each by a command of its own"
            if is_filter
            else options.parser.option_hint(unknown[0])
        )
        options.parser.error(f"unknown argument: {' '.join(unknown)}{hint}")
    if rest:
        options.arguments += rest
    return options
