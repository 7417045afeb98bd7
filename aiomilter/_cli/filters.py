"""The command ``aiomilter filters``: what ready filters there are, and what each is set by."""

import argparse
from typing import Any, Final

from aiomilter._cli.trouble import USAGE, Trouble
from aiomilter._config.values import did_you_mean

__all__ = ["add_parser"]

_DESCRIPTION: Final = """\
List the ready filters, or print what one of them is set by, what it answers, and an example.

They need no Python: name them in a configuration file, by use = "NAME".
"""
_EPILOG: Final = """\
examples:
  aiomilter filters
  aiomilter filters authenticate

'aiomilter help gateway' shows a whole file, 'aiomilter config init --for both' writes one.
"""


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "filters", help="list the ready filters and their settings", description=_DESCRIPTION, epilog=_EPILOG
    )
    parser.set_defaults(command=_filters, parser=parser)
    parser.add_argument("name", metavar="NAME", nargs="?", help="the filter")


def _filters(arguments: argparse.Namespace) -> int:
    from aiomilter import filters
    from aiomilter.filters.reference import reference, summary

    if arguments.name is None:
        width = max(map(len, filters.NAMES))
        for name, cls in filters.NAMES.items():
            print(f"{name:{width}}  {summary(getattr(filters, cls))}")
        return 0
    if arguments.name not in filters.NAMES:
        hint = did_you_mean(arguments.name, filters.NAMES)
        raise Trouble(f"there is no ready filter {arguments.name!r:.80}{hint}", status=USAGE)
    print(reference(getattr(filters, filters.NAMES[arguments.name])), end="")
    return 0
