"""``aiomilter record``: a pass-through in front of any milter, which records the sessions."""

import argparse
from typing import Any, Final

from aiomilter._cli import logs
from aiomilter._cli.options import RunOptions, add_options, given
from aiomilter._cli.parsing import socket_text
from aiomilter._cli.places import absolute
from aiomilter._cli.recording import record_into
from aiomilter._cli.trouble import USAGE, Trouble, smtp_trouble
from aiomilter._process.systemd import Systemd
from aiomilter.addresses import parse
from aiomilter.daemon import run_service
from aiomilter.exceptions import AddressError
from aiomilter.options import Options
from aiomilter.recording.relay import Relay

__all__ = ["add_parser"]

_DESCRIPTION: Final = """\
Stand between an MTA and a milter of any make, pass on every octet, and write each session into a file of DIR until SIGTERM or
SIGINT.  'aiomilter replay' plays such a file to a filter, and says what it answers otherwise.
Files hold the shape of messages: tokens in place of addresses, names and words.  --record-content full keeps all.
"""
_EPILOG: Final = """\
examples:
  aiomilter record --listen inet:8891@127.0.0.1 --connect inet:8890@127.0.0.1 --record /var/lib/sessions
      then have the MTA ask port 8891:   smtpd_milters = inet:127.0.0.1:8891
  aiomilter record --listen unix:/var/spool/postfix/record/sock --socket-mode 660 --socket-group postfix \\
      --connect unix:/run/opendkim/opendkim.sock --record /var/lib/sessions --record-when refused,slow
"""
_OPTIONS: Final = frozenset(
    {
        *("listen", "record", "record-share", "record-when", "record-size", "record-content", "record-domains"),
        *("socket-mode", "socket-owner", "socket-group", "backlog", "allow-network", "allow-user", "allow-group"),
        *("max-connections", "max-memory", "drain-timeout", "log-level", "uvloop"),
    }
)


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "record",
        help="record the sessions of a milter of any make",
        usage="%(prog)s --listen SOCKET --connect SOCKET --record DIR [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.set_defaults(command=_record, parser=parser)
    parser.add_argument("--connect", metavar="SOCKET", type=socket_text, help="where the milter listens")
    add_options(parser, Options, RunOptions, only=_OPTIONS)


def _record(arguments: argparse.Namespace) -> int:
    options, serving = RunOptions(**given(arguments, RunOptions)), Options(**given(arguments, Options))
    systemd = Systemd.from_environment()
    try:
        sockets = systemd.sockets(options.listen or ())
    except AddressError as error:
        raise Trouble(f"--listen {error}", status=USAGE) from None
    for value, what in (
        (sockets, "--listen SOCKET"),
        (arguments.connect, "--connect SOCKET"),
        (options.record, "--record DIR"),
    ):
        if not value:
            raise Trouble(f"give {what}, as in 'aiomilter record --help'", status=USAGE)
    if "failed" in (options.record_when or ()):
        raise Trouble(
            "--record-when failed is for 'aiomilter run': from outside a failure looks like a refusal", status=USAGE
        )
    if parse(arguments.connect) in map(parse, sockets):
        raise Trouble(f"--connect {arguments.connect}: this is where --listen listens", status=USAGE)
    settings, directory = record_into(absolute(options.record or ""), options, arguments.connect)
    logs.set_up(options.log_level)
    relay = Relay(arguments.connect, sockets, serving, settings, directory, options.record_share)
    try:
        run_service(relay, uvloop=options.uvloop, systemd=systemd)
    except OSError as error:
        raise smtp_trouble(error) from None
    return 0
