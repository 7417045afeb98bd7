"""The command ``aiomilter config import``: what other programs are set to do, as a configuration file."""

import argparse
import sys
from pathlib import Path
from typing import Any, Final

from aiomilter._cli.config_init import write_new
from aiomilter._cli.terminal import safe
from aiomilter._cli.trouble import MISSING, USAGE, Trouble

__all__ = ["add_parser"]

_DESCRIPTION: Final = """\
Write a configuration file that does what other programs are set to do, and list the settings that have no counterpart.
Several files make one.  The programs, and the names by which their files are known:

  opendkim      opendkim.conf
  opendmarc     opendmarc.conf
  policyd-spf   policyd-spf.conf, pyspf-milter.conf
  postsrsd      /etc/default/postsrsd
  pymilter      milter.cfg (bms), spfmilter.cfg, dkim-milter.cfg, pysrs.cfg, pymilter.cfg
  access        the source of an access map, with lines such as 'SPF-Fail:bad.example REJECT'

A file of another name is given as PROGRAM:FILE.
"""
_EPILOG: Final = """\
example:
  aiomilter config import /etc/opendkim.conf /etc/opendmarc.conf --output gateway.toml
  aiomilter config check gateway.toml

'aiomilter help moving' has the settings in tables.
"""


def add_parser(actions: "argparse._SubParsersAction[Any]") -> None:
    """Add the action."""
    parser = actions.add_parser(
        "import",
        help="write a file from other programs' settings",
        usage="%(prog)s [PROGRAM:]FILE... [--output FILE]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.set_defaults(command=_import, parser=parser)
    parser.add_argument("files", metavar="FILE", nargs="+", help="configuration files")
    parser.add_argument(
        "--output", metavar="FILE", help="where to write it; an existing file is left as it is (default: stdout)"
    )


def _import(arguments: argparse.Namespace) -> int:
    # Its tables are for this action alone.
    from aiomilter._config.imported import take_over

    files = [_program(given) for given in arguments.files]
    try:
        gateway = take_over(files)
    except OSError as error:
        raise Trouble(f"cannot read {error.filename!r}: {error.strerror}", status=MISSING) from None
    except ValueError as error:
        raise Trouble(str(error), status=USAGE) from None
    text = gateway.text()
    if arguments.output is None:
        print(safe(text, also="\n"), end="")
        for name, other in gateway.files.items():
            print(f"\n# {name}, beside it:", *other.splitlines(), sep="\n# ")
        return 0
    beside = Path(arguments.output).parent
    for path, content in {
        arguments.output: text,
        **{str(beside / name): each for name, each in gateway.files.items()},
    }.items():
        write_new(path, content)
        print(f"{safe(path)}: written")
    for left in gateway.left:
        print(f"{safe(left.given.file)}:{left.given.line}: {safe(left.given.name)}: {safe(left.why)}", file=sys.stderr)
    for sentence in gateway.to_do:
        print(f"to do: {safe(sentence)}", file=sys.stderr)
    return 0


def _program(given: str) -> tuple[str, str]:
    from aiomilter._config.imported import PROGRAMS, program_of

    before, colon, rest = given.partition(":")
    program, path = (before, rest) if colon and before in PROGRAMS else (program_of(given), given)
    if program is None:
        raise Trouble(
            f"{given!r}: its name says no program; write PROGRAM:{given}, with one of {', '.join(PROGRAMS)}",
            status=USAGE,
        )
    return program, path
