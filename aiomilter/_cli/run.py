"""The command ``aiomilter run``."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from aiomilter._cli import logs
from aiomilter._cli.beside import is_installed
from aiomilter._cli.options import RunOptions, add_options, given
from aiomilter._cli.parsing import ip_address, line, socket_text, whole
from aiomilter._cli.places import absolute
from aiomilter._cli.printer import Printer
from aiomilter._cli.service import Settings, run_alone, run_with_workers
from aiomilter._cli.target import Target
from aiomilter._cli.tls import Files
from aiomilter._cli.trouble import USAGE, Trouble
from aiomilter._option import Group, rows
from aiomilter._process.systemd import Systemd
from aiomilter.addresses import parse_all
from aiomilter.exceptions import AddressError
from aiomilter.options import Options, ServeOptions

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

examples:
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
        usage="%(prog)s TARGET [--listen SOCKET]... [--smtp [HOST:]PORT] [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.set_defaults(command=_run, parser=parser)
    parser.add_argument("target", metavar="TARGET", help="the filter: FILE.py, FILE.py:NAME or MODULE:NAME")
    parser.add_argument(
        "--listen",
        metavar="SOCKET",
        action="append",
        default=[],
        type=socket_text,
        help="where to listen; may be repeated",
    )
    _add_smtp(parser.add_argument_group("trying it without an MTA"))
    add_options(parser, Options, RunOptions)


def _add_smtp(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--smtp",
        metavar="[HOST:]PORT",
        help="also be an SMTP server that asks this filter, relays nothing and prints each delivered message;"
        " without HOST on the loopback, port 0 is a free one",
    )
    group.add_argument(
        "--store", metavar="DIR", help="store delivered messages there, ID.eml and ID.json, instead of printing them"
    )
    group.add_argument(
        "--smtp-client",
        metavar="IP",
        type=ip_address,
        help="show the filter this address in place of that of each SMTP client; a client on this machine may also choose"
        " another with XCLIENT",
    )
    group.add_argument(
        "--smtp-auth", metavar="LOGIN", type=line, help="tell the filter that each SMTP client has logged in"
    )
    group.add_argument(
        "--smtp-size", metavar="OCTETS", type=whole, default=10_240_000, help="largest message (default: %(default)s)"
    )


def _run(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    systemd = Systemd.from_environment()
    sockets = _sockets(arguments, systemd)
    _check_together(arguments, settings.options)
    on_message = _message_taker(arguments) if arguments.smtp is not None else None
    logs.set_up(settings.options.log_level, process=settings.options.workers > 1)
    if settings.options.workers > 1:
        return run_with_workers(settings, sockets, systemd)
    return run_alone(settings, sockets or ["inet:0@127.0.0.1"], systemd, on_message)


def _settings(arguments: argparse.Namespace) -> Settings:
    """Return the settings, with absolute paths: a filter may change the directory."""
    own = given(arguments, RunOptions)
    if "uvloop" not in own and not is_installed("uvloop"):
        own["uvloop"] = False  # a file of that name beside the filter is not the library
    options = RunOptions(**own)
    return Settings(
        target=arguments.target,
        where=Target.named(arguments.target),
        options=options,
        tls_files=Files(options),
        given=cast(ServeOptions, given(arguments, Options)),
        smtp=arguments.smtp,
        smtp_client=arguments.smtp_client,
        smtp_login=arguments.smtp_auth,
        max_message_size=arguments.smtp_size,
    )


def _sockets(arguments: argparse.Namespace, systemd: Systemd) -> list[str]:
    try:
        sockets = systemd.sockets(arguments.listen)
        parse_all(sockets)
    except AddressError as error:
        raise Trouble(f"--listen {error}", status=USAGE) from None
    if not sockets and arguments.smtp is None:
        raise Trouble(
            "where to listen? give --listen inet:8890@127.0.0.1 for an MTA, or --smtp 2525 to try it without one",
            status=USAGE,
        )
    return sockets


def _check_together(arguments: argparse.Namespace, options: RunOptions) -> None:
    """Check that the options go together."""
    if arguments.store is not None and arguments.smtp is None:
        raise Trouble("--store needs --smtp, as in --smtp 2525: an MTA's mail is not stored", status=USAGE)
    for name, value in (("client", arguments.smtp_client), ("auth", arguments.smtp_auth)):
        if value is not None and arguments.smtp is None:
            raise Trouble(f"--smtp-{name} needs --smtp, as in --smtp 2525", status=USAGE)
    if options.workers > 1 and arguments.smtp is not None:
        raise Trouble("--smtp is for trying a filter out, with one process; leave --workers out", status=USAGE)
    if options.uvloop and not is_installed("uvloop"):
        raise Trouble("--uvloop needs uvloop: pip install 'aiomilter[uvloop]'")
    # The SMTP server of the command has to be let in.
    access = [
        f"--{row.command}"
        for table in (Options, RunOptions)
        for row in rows(table)
        if row.option.group is Group.ACCESS and row.name in given(arguments, table)
    ]
    if arguments.smtp is not None and access:
        raise Trouble(f"--smtp is for trying a filter: give it without {' and '.join(access)}", status=USAGE)


def _message_taker(arguments: argparse.Namespace) -> Callable[["Outcome"], None]:
    """Return the function that prints or stores messages of the SMTP server, after checking that it can."""
    try:
        from aiomilter.smtp import split_address, store
    except ModuleNotFoundError as error:
        raise Trouble(str(error).replace("aiomilter.smtp", "--smtp")) from None
    try:
        split_address(arguments.smtp)
        return store(absolute(arguments.store)) if arguments.store is not None else Printer()
    except AddressError as error:
        raise Trouble(f"--smtp {error}", status=USAGE) from None
    except OSError as error:
        raise Trouble(f"cannot store in {arguments.store!r}: {error.strerror}") from None
