"""The options of the command line, made from tables of options.

An argument is made for each option that has a name there, by its kind.  Only those that were given are in the result, so that
defaults are written in the tables alone.
"""

import argparse
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from aiomilter._cli.parsing import (
    file_mode,
    group_number_of,
    network,
    seconds,
    seconds_by_stage,
    seconds_or_off,
    user_number_of,
    verdict_or_reply,
    whole,
)
from aiomilter._option import Group, Kind, Option, Row, check, option, rows
from aiomilter._option_text import shown
from aiomilter.daemon import MAX_WORKERS
from aiomilter.failures import FailurePolicy
from aiomilter.wire.constants import Stage

__all__ = ["RunOptions", "add_options", "given"]

_CLIENTS: Final[Mapping[str, str]] = {
    "local": "clients without an address or on the loopback",
    "authenticated": "clients that have logged in",
}
"""The fields of a FailurePolicy that have arguments of their own."""
_NAME: Final = re.compile(r"``(.+?)``")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options that ``aiomilter run`` has besides those of :func:`aiomilter.serve`."""

    tls_certificate: str | None = option(
        None,
        Option(Kind.PATH, Group.ACCESS, "speak TLS on TCP sockets, with this chain in PEM", none="no TLS", common=True),
    )
    tls_key: str | None = option(None, Option(Kind.PATH, Group.ACCESS, "its private key", none="in the same file"))
    tls_client_ca: str | None = option(
        None,
        Option(
            Kind.PATH,
            Group.ACCESS,
            "only serve clients with a certificate signed by one of these",
            none="no certificate is asked for",
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
        ),
    )

    def __post_init__(self) -> None:
        """Check every value."""
        check(self)


class _Form(NamedTuple):
    """How the options of a kind are written.

    Args:
        metavar: Stands for the value in the help.
        read: Returns what reads a value of an option.
        many: Whether the argument may be repeated.
    """

    metavar: str
    read: Callable[[Option], Callable[[str], Any]]
    many: bool = False


def _read_seconds(option: Option) -> Callable[[str], Any]:
    read = seconds_or_off if option.off else seconds
    return lambda text: read(text, zero=option.zero, maximum=option.maximum)


def _read_by_stage(option: Option) -> Callable[[str], tuple[Stage | None, float | None]]:
    def read(text: str) -> tuple[Stage | None, float | None]:
        return (None, None) if option.off and text == "off" else seconds_by_stage(text, zero=option.zero)

    return read


def _read_whole(option: Option) -> Callable[[str], int]:
    return lambda text: whole(text, zero=option.zero, maximum=option.maximum)


_FORMS: Final[Mapping[Kind, _Form]] = {
    Kind.DURATION: _Form("SECONDS", _read_seconds),
    Kind.DURATIONS: _Form("STAGE=SECONDS", lambda _: partial(seconds_by_stage, bare=False), many=True),
    Kind.SIZE: _Form("OCTETS", _read_whole),
    Kind.COUNT: _Form("N", _read_whole),
    Kind.ANSWER: _Form("ANSWER", lambda _: verdict_or_reply),
    Kind.NETWORKS: _Form("NETWORK", lambda _: network, many=True),
    Kind.USERS: _Form("USER", lambda _: user_number_of, many=True),
    Kind.GROUPS: _Form("GROUP", lambda _: group_number_of, many=True),
    Kind.USER: _Form("USER", lambda _: user_number_of),
    Kind.GROUP: _Form("GROUP", lambda _: group_number_of),
    Kind.MODE: _Form("MODE", lambda _: file_mode),
    Kind.PATH: _Form("FILE", lambda _: str),
    # These two are argparse's own.
    Kind.CHOICE: _Form("", lambda _: str),
    Kind.SWITCH: _Form("", lambda _: str),
}
_BOTH: Final = _Form("[STAGE=]SECONDS", _read_by_stage, many=True)
"""Of a DURATION and DURATIONS that share a name."""


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
    def form(self) -> _Form:
        """How it is written."""
        return _FORMS[self.row.option.kind] if self.by_stage in (None, self.row) else _BOTH


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
        parser.add_argument("--help-all", action=_HelpAll, hidden=hidden, help="show all options and exit")
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


class _HelpAll(argparse.Action):
    """Shows the help with the options that are left out otherwise."""

    def __init__(
        self, option_strings: Sequence[str], hidden: Sequence[tuple[argparse.Action, str]], **kwargs: Any
    ) -> None:
        super().__init__(option_strings, nargs=0, **{**kwargs, "dest": argparse.SUPPRESS, "default": argparse.SUPPRESS})
        self._hidden = hidden

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        for action, text in self._hidden:
            action.help = text
        parser.print_help()
        parser.exit()


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
    if form.many:
        keywords["action"] = "append"
    yield section.add_argument(flag, metavar=form.metavar, type=form.read(option), **keywords)
    for name, clients in _CLIENTS.items() if option.by_client else ():
        keywords.update(dest=f"{argument.dest}_{name}", help=f"the same for {clients} (default: that of {flag})")
        yield section.add_argument(f"{flag}-{name}", metavar=form.metavar, type=form.read(option), **keywords)


def _help(argument: _Argument, default: str, commands: Mapping[str, str]) -> str:
    """Return the help of an argument: what it is for, and the default; the unit is its metavar."""
    option = argument.row.option
    notes = (option.help, "may be repeated" if argument.form.many else "", "or 'off'" if option.off else "")
    text = f"{'; '.join(filter(None, notes))} (default: {default})"

    def named(match: re.Match[str]) -> str:
        return f"--{commands[match[1]]}" if match[1] in commands else match[1]

    return _NAME.sub(named, text).replace("%", "%%")


def given(options: argparse.Namespace, table: type[Any]) -> dict[str, Any]:
    """Return the options of a table that the command line has given, by the names of their fields."""
    found: dict[str, Any] = {}
    for argument in _arguments(table):
        row = argument.row
        if row.option.by_client:
            answers = {name: getattr(options, f"{argument.dest}_{name}", None) for name in _CLIENTS}
            if hasattr(options, argument.dest) or any(answer is not None for answer in answers.values()):
                other = getattr(options, argument.dest, row.default)
                known = {name: other if answer is None else answer for name, answer in answers.items()}
                found[row.name] = FailurePolicy(other=other, **known)
        elif not hasattr(options, argument.dest):
            continue
        elif argument.by_stage is not None:
            times = dict(getattr(options, argument.dest))
            if None in times:
                found[row.name] = times.pop(None)
            if times:
                found[argument.by_stage.name] = times
        else:
            found[row.name] = getattr(options, argument.dest)
    return found
