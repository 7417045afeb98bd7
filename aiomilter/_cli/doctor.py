"""``aiomilter doctor``: why does mail not flow through a filter, and what exactly is to be written?"""

import argparse
import asyncio
import json
import os
from typing import Any, Final

from aiomilter._cli.doctored import own_filter
from aiomilter._cli.filter_stdout import stdout_to_stderr
from aiomilter._cli.places import absolute
from aiomilter._cli.terminal import safe
from aiomilter._cli.trouble import FAILED, MISSING, Trouble
from aiomilter._doctor.case import Own
from aiomilter._doctor.examination import Report, examine, unreadable
from aiomilter._doctor.postconf import NotReadable, read
from aiomilter._doctor.postfix import postfix
from aiomilter._doctor.report import text
from aiomilter._doctor.sendmail import read_sendmail

__all__ = ["add_parser", "command"]

_USAGE: Final = "%(prog)s [--config FILE] [--main-cf DIR | --sendmail-cf FILE] [--json] [TARGET]"
_DESCRIPTION: Final = """\
Look at how the mail server is set up, connect to the filters that it asks, and say what is wrong: each finding with why it
matters and the exact lines that mend it.  Nothing is changed.  Run it as root: others may not look into all directories.

With a configuration file of 'aiomilter run', or a TARGET, what that filter needs is checked, too.
"""
_EPILOG: Final = """\
examples:
  aiomilter doctor                                  the Postfix in /etc/postfix
  aiomilter doctor --config gateway.toml            and whether it asks the filter of this file
  aiomilter doctor --main-cf /etc/postfix-out       another Postfix
  aiomilter doctor --sendmail-cf /etc/mail/sendmail.cf

'aiomilter help doctor' explains each finding.

exit codes: 0 no errors, though there may be warnings; 1 errors; 2 wrong usage; 4 no such filter or file
"""
_MAIN_CF: Final = "/etc/postfix"


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "doctor",
        help="why does mail not flow through a filter?",
        usage=_USAGE,
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.set_defaults(command=command, parser=parser)
    parser.add_argument("target", metavar="TARGET", nargs="?", help="the filter: FILE.py, FILE.py:NAME or MODULE:NAME")
    parser.add_argument("--config", metavar="FILE", help="its configuration file")
    mta = parser.add_mutually_exclusive_group()
    mta.add_argument(
        "--main-cf",
        metavar="DIR",
        help=f"the directory of Postfix's main.cf and master.cf (default: {_MAIN_CF})",
    )
    mta.add_argument("--sendmail-cf", metavar="FILE", help="look at Sendmail, set up by this file")
    parser.add_argument("--json", action="store_true", help="print JSON")


def command(options: argparse.Namespace) -> int:
    """Examine, print the report, and return the exit code."""
    with stdout_to_stderr():
        own = own_filter(options)
        report = _examined(options, own)
    if options.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        for line in text(report):
            print(safe(line))
    return FAILED if report.has_errors else 0


def _examined(options: argparse.Namespace, own: Own | None) -> Report:
    place = absolute(options.sendmail_cf or options.main_cf or _MAIN_CF)
    name = place if options.sendmail_cf is not None else os.path.join(place, "main.cf")
    if not os.path.exists(name):
        raise Trouble(
            f"there is no {name}; name the right one with --main-cf DIR or --sendmail-cf FILE", status=MISSING
        )
    try:
        mta = read_sendmail(place) if options.sendmail_cf is not None else postfix(read(place))
    except NotReadable as error:
        return unreadable("sendmail" if options.sendmail_cf is not None else "postfix", name, str(error))
    return asyncio.run(examine(mta, own))
