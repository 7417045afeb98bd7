"""The options of the command line, made from tables of options.

An argument is made for each option that has a name there, by its kind.  Only those that were given are in the result, so that
defaults are written in the tables alone.
"""

import argparse
import re
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from aiomilter._cli.parsing import argument as errors_shown
from aiomilter._config.table import CLIENTS, assembled, divided
from aiomilter._config.values import EITHER, FORMS, Form
from aiomilter._option import Group, Kind, Option, Row, check, option, rows
from aiomilter._option_text import shown
from aiomilter.daemon import MAX_WORKERS

__all__ = ["HelpAll", "RunOptions", "add_options", "flags", "given"]

_NAME: Final = re.compile(r"``(.+?)``")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options that ``aiomilter run`` has besides those of :func:`aiomilter.serve`."""

    listen: Collection[str] | None = option(
        None,
        Option(
            Kind.SOCKETS,
            Group.PROCESS,
            "where to listen",
            none="the sockets that systemd passes",
            common=True,
        ),
    )
    smtp: str | None = option(
        None,
        Option(
            Kind.LINE,
            Group.TRIAL,
            "also be an SMTP server that asks this filter, relays nothing and prints each delivered message; without HOST on "
            "the loopback, port 0 is a free one",
            none="no such server",
            common=True,
            toml="smtp.listen",
            metavar="[HOST:]PORT",
        ),
    )
    store: str | None = option(
        None,
        Option(
            Kind.PATH,
            Group.TRIAL,
            "store delivered messages there, ID.eml and ID.json, instead of printing them",
            none="print them",
            common=True,
            metavar="DIR",
        ),
    )
    smtp_client: str | None = option(
        None,
        Option(
            Kind.IP,
            Group.TRIAL,
            "show the filter this address in place of that of each SMTP client; a client on this machine may also choose "
            "another with XCLIENT",
            none="that of each client",
            common=True,
            toml="smtp.client",
        ),
    )
    smtp_auth: str | None = option(
        None,
        Option(
            Kind.LINE,
            Group.TRIAL,
            "tell the filter that each SMTP client has logged in",
            none="none has",
            common=True,
            toml="smtp.auth",
            metavar="LOGIN",
        ),
    )
    smtp_size: int = option(
        10_240_000,
        Option(Kind.SIZE, Group.TRIAL, "largest message that the SMTP server takes", common=True, toml="smtp.size"),
    )
    tls_certificate: str | None = option(
        None,
        Option(
            Kind.PATH,
            Group.ACCESS,
            "speak TLS on TCP sockets, with this chain in PEM",
            none="no TLS",
            common=True,
            toml="tls.certificate",
        ),
    )
    tls_key: str | None = option(
        None, Option(Kind.PATH, Group.ACCESS, "its private key", none="in the same file", toml="tls.key")
    )
    tls_client_ca: str | None = option(
        None,
        Option(
            Kind.PATH,
            Group.ACCESS,
            "only serve clients with a certificate signed by one of these",
            none="no certificate is asked for",
            toml="tls.client_ca",
        ),
    )
    workers: int = option(
        1,
        Option(
            Kind.COUNT,
            Group.PROCESS,
            f"processes that serve mail, at most {MAX_WORKERS}; with more than one, a supervisor process binds the sockets, "
            "replaces workers that die, and reloads with new ones; limits hold for each worker",
            maximum=MAX_WORKERS,
            common=True,
        ),
    )
    uvloop: bool | None = option(None, Option(Kind.SWITCH, Group.PROCESS, "run on uvloop", none="if it is installed"))
    log_level: str = option(
        "info",
        Option(
            Kind.CHOICE,
            Group.PROCESS,
            "least level that is logged; at info each message is a line",
            choices=("debug", "info", "warning", "error"),
            common=True,
            toml="log.level",
        ),
    )

    def __post_init__(self) -> None:
        """Check every value."""
        check(self)


class _Argument(NamedTuple):
    """One argument.

    Args:
        command: Its name, without the dashes.
        row: The option it sets.
        by_stage: The option that takes the same by stage, if there is one; ``row`` is that one where it stands alone.
    """

    command: str
    row: Row
    by_stage: Row | None

    @property
    def dest(self) -> str:
        """Its name in the result of argparse."""
        return self.command.replace("-", "_")

    @property
    def form(self) -> Form:
        """How it is written."""
        return FORMS[self.row.option.kind] if self.by_stage in (None, self.row) else EITHER


def _arguments(table: type[Any]) -> Iterator[_Argument]:
    """Yield the arguments of a table: options that share a name are one."""
    shared: dict[str, list[Row]] = {}
    for row in rows(table):
        if row.command is not None:
            shared.setdefault(row.command, []).append(row)
    for command, members in shared.items():
        by_stage = next((row for row in members if row.option.kind is Kind.DURATIONS), None)
        yield _Argument(command, next((row for row in members if row is not by_stage), members[0]), by_stage)


def add_options(
    parser: argparse.ArgumentParser,
    *tables: type[Any],
    only: Container[str] | None = None,
    defaults: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Add the options of tables to a parser, by their groups.

    Args:
        parser: Takes them.
        tables: Their tables.
        only: Names on the command line, without the dashes, of those to add.  With None all are added; ``--help`` then leaves
            some out, and ``--help-all`` shows them.
        defaults: What the help names as default instead of that of the table, by the same names.
    """
    hidden: list[tuple[argparse.Action, str]] = []
    if only is None:
        parser.add_argument("--help-all", action=HelpAll, hidden=hidden, help="show all options and exit")
    arguments = [
        argument for table in tables for argument in _arguments(table) if only is None or argument.command in only
    ]
    commands = {
        row.name: argument.command for argument in arguments for row in (argument.by_stage, argument.row) if row
    }
    for group in Group:
        members = [argument for argument in arguments if argument.row.option.group is group]
        if members:
            section = parser.add_argument_group(group.value)
            for argument in members:
                default = defaults.get(argument.command) or shown(argument.row)
                added = list(_add(section, argument, _help(argument, default, commands)))
                if only is None and not argument.row.option.common:
                    hidden += [(action, action.help or "") for action in added]
    for action, _ in hidden:
        action.help = argparse.SUPPRESS


class HelpAll(argparse.Action):
    """Shows the help with the options that are left out otherwise."""

    def __init__(
        self, option_strings: Sequence[str], hidden: Sequence[tuple[argparse.Action, str]], **kwargs: Any
    ) -> None:
        super().__init__(option_strings, nargs=0, **{**kwargs, "dest": argparse.SUPPRESS, "default": argparse.SUPPRESS})
        self._hidden = hidden

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        self.show()
        parser.print_help()
        parser.exit()

    def show(self) -> None:
        """Have the help of the parser show all options."""
        for action, text in self._hidden:
            action.help = text


def _add(section: "argparse._ArgumentGroup", argument: _Argument, text: str) -> Iterator[argparse.Action]:
    """Add an argument, and yield what argparse has made of it."""
    row, flag = argument.row, f"--{argument.command}"
    keywords: dict[str, Any] = {
        "dest": argument.dest,
        "default": argparse.SUPPRESS,
        "help": text,
    }
    option = row.option
    if option.kind is Kind.SWITCH:
        yield section.add_argument(flag, action=argparse.BooleanOptionalAction, **keywords)
        return
    if option.kind is Kind.CHOICE:
        yield section.add_argument(flag, choices=option.choices, **keywords)
        return
    form = argument.form
    metavar = option.metavar or form.metavar
    if form.many:
        keywords["action"] = "append"
    yield section.add_argument(flag, metavar=metavar, type=errors_shown(form.read(option)), **keywords)
    for name, clients in CLIENTS.items() if option.by_client else ():
        keywords.update(dest=f"{argument.dest}_{name}", help=f"the same for {clients} (default: that of {flag})")
        yield section.add_argument(f"{flag}-{name}", metavar=metavar, type=errors_shown(form.read(option)), **keywords)


def _help(argument: _Argument, default: str, commands: Mapping[str, str]) -> str:
    """Return the help of an argument: what it is for, and the default; the unit is its metavar."""
    option = argument.row.option
    notes = (option.help, "may be repeated" if argument.form.many else "", "or 'off'" if option.off else "")
    text = f"{'; '.join(filter(None, notes))} (default: {default})"

    def named(match: re.Match[str]) -> str:
        return f"--{commands[match[1]]}" if match[1] in commands else match[1]

    return _NAME.sub(named, text).replace("%", "%%")


def flags(options: argparse.Namespace, *tables: type[Any]) -> dict[str, Any]:
    """Return what the command line has given, by the names of keys; see :mod:`aiomilter._config.table`."""
    found: dict[str, Any] = {}
    for argument in (one for table in tables for one in _arguments(table)):
        row = argument.row
        if argument.by_stage is not None and hasattr(options, argument.dest):
            found.update(divided(getattr(options, argument.dest), row.name, argument.by_stage.name))
        elif hasattr(options, argument.dest):
            found[row.name] = getattr(options, argument.dest)
        for client in CLIENTS if row.option.by_client else ():
            if hasattr(options, f"{argument.dest}_{client}"):
                found[f"{row.name}_{client}"] = getattr(options, f"{argument.dest}_{client}")
    return found


def given(options: argparse.Namespace, table: type[Any]) -> dict[str, Any]:
    """Return the options of a table that the command line has given, by the names of their fields."""
    return assembled(flags(options, table), table)
