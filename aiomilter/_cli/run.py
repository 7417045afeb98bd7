"""The command ``aiomilter run``."""

import argparse
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aiomilter._cli import logs
from aiomilter._cli.clashes import clashes
from aiomilter._cli.configured import configured
from aiomilter._cli.given_settings import setting
from aiomilter._cli.inspecting import inspection_of
from aiomilter._cli.options import RunOptions, add_options
from aiomilter._cli.parsing import argument
from aiomilter._cli.places import absolute, started_in
from aiomilter._cli.printer import Printer
from aiomilter._cli.service import Settings, run_alone, run_with_workers
from aiomilter._cli.site import SiteOptions
from aiomilter._cli.tls import Files
from aiomilter._cli.trouble import USAGE, Trouble
from aiomilter._process.systemd import Systemd
from aiomilter.addresses import parse_all
from aiomilter.exceptions import AddressError
from aiomilter.options import Options

if TYPE_CHECKING:
    from aiomilter.smtp import Outcome

__all__ = ["add_parser"]

_DESCRIPTION: Final = """\
Serve a filter until SIGTERM or SIGINT; open SMTP sessions may then finish, a second signal closes them.
SIGHUP reloads the filter, for new connections, and the TLS certificate; if that fails, the log says why and the old filter
stays in service.
Each message is a line on stderr.  --help-all lists all options, 'aiomilter help options' explains them.
"""
_EPILOG: Final = """\
SOCKET is where the MTA finds the filter:
  inet:8890@127.0.0.1    TCP, one address        inet:8890       TCP, all addresses
  inet6:8890@::1         TCP, IPv6               unix:/run/filter.sock
  inet:HOST:PORT         the same as inet:PORT@HOST, in Postfix's order
  fd:3   fd:NAME         an inherited socket; without --listen, all sockets that systemd passes
STAGE is connect, helo, mail, rcpt, data, header, eoh, body, eom or unknown, as in --answer-timeout mail=20, or the callback
of one, as in envfrom=20.
ANSWER is tempfail (the client tries again later), reject, accept, continue, or an SMTP reply as in '451 4.3.0 Try again later'.

FILE of --config has options and the filter's own settings; every option is also a variable, such as AIOMILTER_MAX_HEADERS.
A flag comes before a variable, and that before the file.

examples:
  aiomilter run --config gateway.toml
      'aiomilter help configuration' shows such a file
  aiomilter run filter.py --smtp 2525
      try it: then send a message to port 2525 of this machine, with
      python3 -c "import smtplib; smtplib.SMTP('127.0.0.1', 2525).sendmail('a@x.example', 'b@y.example', 'Subject: hi')"
  aiomilter run filter.py --smtp 2525 --smtp-client 198.51.100.7 --smtp-auth alice
      the same, as if the message came from that address, and its sender had logged in
  aiomilter run filter.py --listen inet:8890@127.0.0.1
      Postfix finds it with   smtpd_milters = inet:127.0.0.1:8890
  aiomilter run filter.py --listen unix:/var/spool/postfix/filter/sock --socket-mode 660 --socket-group postfix
      Postfix finds it with   smtpd_milters = unix:filter/sock
  aiomilter run filter.py --listen unix:/run/filter/sock --socket-mode 600
      Sendmail finds it with  INPUT_MAIL_FILTER(`f', `S=local:/run/filter/sock, F=T')
"""


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "run",
        help="serve a filter",
        usage="%(prog)s {TARGET | --config FILE} [--listen SOCKET]... [--smtp [HOST:]PORT] [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.set_defaults(command=_run, parser=parser)
    parser.add_argument("target", metavar="TARGET", nargs="?", help="the filter: FILE.py, FILE.py:NAME or MODULE:NAME")
    parser.add_argument(
        "--config", metavar="FILE", help="read options, and the filter's own settings, from a TOML file"
    )
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        type=argument(setting),
        help="a setting of the filter, as a file has it in [settings]; may be repeated",
    )
    add_options(parser, Options, RunOptions, SiteOptions)


def _run(arguments: argparse.Namespace) -> int:
    directory = started_in()
    environment = dict(os.environ)
    settings = _settings(arguments, directory, environment)
    options = settings.options
    systemd = Systemd.from_environment()
    sockets = _sockets(options, systemd)
    for _, trouble in clashes(options, settings.given):
        raise trouble
    inspected = inspection_of(options, settings.target, directory) if options.inspect is not None else None
    on_message = _message_taker(options, directory) if options.smtp is not None else None
    if inspected is not None and on_message is not None:
        on_message = inspected.taking(on_message)
    logs.set_up(options.log_level, process=options.workers > 1, style=options.log_format)
    if options.workers > 1:
        return run_with_workers(settings, sockets, systemd, inspected)
    return run_alone(settings, sockets or ["inet:0@127.0.0.1"], systemd, on_message, inspected)


def _settings(
    arguments: argparse.Namespace, directory: str, environment: Mapping[str, str], led_to: str | None = None
) -> Settings:
    """Return the settings, with absolute paths: a filter may change the directory.

    Args:
        arguments: Of the command line.
        directory: Where the command was started.
        environment: Its variables then.
        led_to: Where the directory led to then; None if that is now.

    Raises:
        Trouble: They are wrong.
    """
    found = configured(arguments, directory, environment)
    if found.where is None:
        raise Trouble("which filter? give TARGET, or --config FILE with a filter", status=USAGE)
    where = found.where if led_to is None else replace(found.where, led_to=led_to)
    return Settings(
        target=found.target,
        where=where,
        values=found.values,
        options=found.options,
        tls_files=Files(found.options, directory),
        given=found.given,
        warnings=found.warnings,
        addresses=logs.address_policy(
            found.options.log_addresses, found.options.log_key and absolute(found.options.log_key, directory)
        ),
        again=partial(_settings, arguments, directory, environment, where.led_to),
    )


def _sockets(options: RunOptions, systemd: Systemd) -> list[str]:
    try:
        sockets = systemd.sockets(options.listen or ())
        parse_all(sockets)
    except AddressError as error:
        raise Trouble(f"--listen {error}", status=USAGE) from None
    if not sockets and options.smtp is None:
        raise Trouble(
            "where to listen? give --listen inet:8890@127.0.0.1 for an MTA, or --smtp 2525 to try it without one",
            status=USAGE,
        )
    return sockets


def _message_taker(options: RunOptions, directory: str) -> Callable[["Outcome"], None]:
    """Return the function that prints or stores messages of the SMTP server, after checking that it can."""
    try:
        from aiomilter.smtp import split_address, store
    except ModuleNotFoundError as error:
        raise Trouble(str(error).replace("aiomilter.smtp", "--smtp")) from None
    try:
        split_address(options.smtp or "")
        return store(absolute(options.store, directory)) if options.store is not None else Printer()
    except AddressError as error:
        raise Trouble(f"--smtp {error}", status=USAGE) from None
    except OSError as error:
        raise Trouble(f"cannot store in {options.store!r}: {error.strerror}") from None
