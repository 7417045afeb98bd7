"""The description of an option: its kind, range and texts, as data.

A table of options is a dataclass whose fields are made by :func:`option`.  Its checks, the arguments of the command line and
the reference are made from the fields.
"""

import ipaddress
import ssl as tls
from collections.abc import Callable, Collection, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from enum import Enum
from typing import Any, Final, NamedTuple, TypeVar

from aiomilter._serving.access import group_number, networks_of, numbers_of, user_number
from aiomilter._serving.status_address import parse_status
from aiomilter.addresses import parse_all
from aiomilter.exceptions import AddressError
from aiomilter.failures import check_answer
from aiomilter.wire.constants import Stage, stage_hint

__all__ = ["Group", "Kind", "Option", "Row", "check", "check_number", "option", "rows"]

_T = TypeVar("_T")
_KEY: Final = "option"
_MAX_MODE: Final = 0o777


class Kind(Enum):
    """The type of an option; each value of a table, a file or a command line is read and checked by its kind."""

    DURATION = "a time in seconds, a float"
    DURATIONS = "a mapping of Stage to seconds"
    SIZE = "a number of octets"
    COUNT = "a whole number"
    ANSWER = "an answer to failures: a verdict, a Reply or a FailurePolicy"
    NETWORKS = "networks and addresses"
    DOMAINS = "names of domains"
    USERS = "users, each a name or a number"
    GROUPS = "groups, each a name or a number"
    USER = "a user, name or number"
    GROUP = "a group, name or number"
    MODE = "permissions of a file, an int"
    PATH = "the path of a file"
    SOCKETS = "sockets to listen on"
    HTTP = "where to listen for HTTP"
    IP = "an IP address"
    LINE = "a text of one line"
    CHOICE = "one of a few words"
    CHOICES = "some of a few words"
    SHARE = "a part of all, more than 0 and at most 1"
    SWITCH = "a bool"
    TLS = "an ssl.SSLContext of a server"
    OBJECT = "an object, which only a program can give"


class Group(Enum):
    """The group that an option is listed in; the value is the heading."""

    TRIAL = "trying it without an MTA"
    DEADLINES = "deadlines"
    FAILURES = "when things go wrong"
    LIMITS = "limits"
    ACCESS = "who may connect"
    RECORDING = "recording sessions"
    PROCESS = "sockets and process"
    SITE = "what ready filters know of the site"


_SECTIONS: Final[Mapping[Group, str]] = {
    Group.TRIAL: "smtp.",
    Group.DEADLINES: "deadlines.",
    Group.FAILURES: "failure.",
    Group.LIMITS: "limits.",
    Group.ACCESS: "access.",
    Group.RECORDING: "record.",
    Group.PROCESS: "",
    Group.SITE: "",
}
"""The tables that the options of each group stand in, in a configuration file."""


@dataclass(frozen=True, slots=True)
class Option:
    """The description of an option, besides its name, type and default.

    The texts name other options in double backquotes.  They state neither the unit nor the default: both are added from the
    table.

    Args:
        kind: The type of its value.
        group: The group it is listed in.
        help: What it is for, in a phrase without full stop.
        details: More sentences, for the reference; "" for none.
        none: The meaning of None; "" if the option does not take None.
        off: Whether the command line takes the word ``off`` for None.
        zero: Whether a number may be 0.
        maximum: The largest number; None for no limit.
        choices: The words of a CHOICE or of CHOICES.
        by_client: Whether the command line also has an argument for each class of client.
        common: Whether the short help of the command line lists it.
        command: The name on the command line, without the dashes; "" for the name of the field, None if only a program can set
            it.  Options that share a name are one argument.
        toml: The key in a configuration file, with its table: ``limits.max_edits``; "" for the name of the field in the table
            of its group, None if only a program can set it.
        metavar: Stands for the value in the help of the command line; "" for that of the kind.
        bare: The value where the command line names the option without one; "" if it needs one.
    """

    kind: Kind
    group: Group
    help: str
    _: KW_ONLY
    details: str = ""
    none: str = ""
    off: bool = False
    zero: bool = False
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    by_client: bool = False
    common: bool = False
    command: str | None = ""
    toml: str | None = ""
    metavar: str = ""
    bare: str = ""


class Row(NamedTuple):
    """One option of a table."""

    name: str
    default: Any
    option: Option

    @property
    def command(self) -> str | None:
        """The name on the command line, without the dashes; None if it has none."""
        given = self.option.command
        return given if given or given is None else self.name.replace("_", "-")

    @property
    def toml(self) -> str | None:
        """The key in a configuration file, with its table; None if it has none."""
        given = self.option.toml
        return given if given or given is None else f"{_SECTIONS[self.option.group]}{self.name}"


def option(default: _T, meant: Option) -> _T:
    """Return a field of a table.  It has the type of the default, so that type checkers compare that with the field's."""
    return field(default=default, metadata={_KEY: meant})


def rows(table: type[Any]) -> tuple[Row, ...]:
    """Return the options of a table, in its order."""
    return tuple(Row(one.name, one.default, one.metadata[_KEY]) for one in fields(table) if _KEY in one.metadata)


def check(table: Any) -> None:
    """Check the values of a table by the descriptions of its fields.

    Raises:
        TypeError: A value is not what its option takes.
        ValueError: A value is out of range.
    """
    for row in rows(type(table)):
        value = getattr(table, row.name)
        if value is not None or not row.option.none:
            _CHECKS[row.option.kind](row.name, value, row.option)


def check_number(
    name: str, value: object, *, whole: bool = True, zero: bool = False, maximum: int | None = None
) -> None:
    """Check a number.

    Raises:
        TypeError: It is not a number, or not a whole one.
        ValueError: It is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or (whole and isinstance(value, float)):
        raise TypeError(f"{name}: expected a {'whole ' if whole else ''}number, found {value!r}")
    if not (value > 0 or (zero and value == 0)):
        raise ValueError(f"{name}: expected {'0 or more' if zero else 'more than 0'}, found {value!r}")
    if maximum is not None and value > maximum:
        raise ValueError(f"{name}: expected at most {maximum}, found {value!r}")


def _duration(name: str, value: object, option: Option) -> None:
    check_number(name, value, whole=False, zero=option.zero, maximum=option.maximum)


def _durations(name: str, value: object, option: Option) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: expected a mapping of Stage to seconds, found {value!r}")
    for stage, seconds in value.items():
        if not isinstance(stage, Stage):
            raise TypeError(f"{name}: expected a Stage as key, found {stage!r}{stage_hint(stage)}")
        _duration(f"{stage.name} in {name}", seconds, option)


def _whole(name: str, value: object, option: Option) -> None:
    check_number(name, value, zero=option.zero, maximum=option.maximum)


def _answer(name: str, value: object, option: Option) -> None:
    check_answer(name, value, none=bool(option.none))


def _mode(name: str, value: object, _: Option) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected permissions such as 0o660, found {value!r}")
    if not 0 <= value <= _MAX_MODE:
        raise ValueError(f"{name}: expected 0 to {_MAX_MODE:#o}, found {value:#o}")


def _text(name: str, value: object, _: Option) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a text, found {value!r}")


def _line(name: str, value: object, option: Option) -> None:
    _text(name, value, option)
    if any(character in str(value) for character in "\0\r\n"):
        raise ValueError(f"{name}: expected one line, found a line end or NUL")


def _ip(name: str, value: object, option: Option) -> None:
    _text(name, value, option)
    try:
        ipaddress.ip_address(str(value))
    except ValueError:
        raise ValueError(f"{name}: expected an IP address, found {value!r}") from None


def _sockets(name: str, value: object, _: Option) -> None:
    if isinstance(value, str) or not isinstance(value, Collection):
        raise TypeError(f"{name}: expected a sequence of texts, found {value!r}")
    try:
        parse_all(tuple(value))
    except AddressError as error:
        raise ValueError(f"{name}: {error}") from None


def _domains(name: str, value: object, _: Option) -> None:
    if isinstance(value, str) or not isinstance(value, Collection) or not all(isinstance(each, str) for each in value):
        raise TypeError(f"{name}: expected a sequence of texts, found {value!r}")
    for each in value:
        if not each or any(character.isspace() or character == "\0" for character in str(each)):
            raise ValueError(f"{name}: expected names of domains, found {each!r}")


def _http(name: str, value: object, _: Option) -> None:
    _text(name, value, _)
    try:
        parse_status(str(value))
    except AddressError as error:
        raise ValueError(f"{name}: {error}") from None


def _choice(name: str, value: object, option: Option) -> None:
    if value not in option.choices:
        raise ValueError(f"{name}: expected one of {', '.join(option.choices)}, found {value!r}")


def _choices(name: str, value: object, option: Option) -> None:
    if isinstance(value, str) or not isinstance(value, Collection):
        raise TypeError(f"{name}: expected a sequence of words, found {value!r}")
    for word in value:
        _choice(name, word, option)


def _share(name: str, value: object, _: Option) -> None:
    check_number(name, value, whole=False, maximum=1)


def _switch(name: str, value: object, _: Option) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, found {value!r}")


def _tls(name: str, value: object, _: Option) -> None:
    if not isinstance(value, tls.SSLContext):
        raise TypeError(f"{name}: expected an ssl.SSLContext, found {value!r}")
    if value.protocol is tls.PROTOCOL_TLS_CLIENT:
        raise ValueError(f"{name}: expected a context of a server, found one of a client")


_CHECKS: Final[Mapping[Kind, Callable[[str, object, Option], object]]] = {
    Kind.DURATION: _duration,
    Kind.DURATIONS: _durations,
    Kind.SIZE: _whole,
    Kind.COUNT: _whole,
    Kind.ANSWER: _answer,
    Kind.NETWORKS: lambda name, value, _: networks_of(name, value),
    Kind.DOMAINS: _domains,
    Kind.USERS: lambda name, value, _: numbers_of(name, value, user_number),
    Kind.GROUPS: lambda name, value, _: numbers_of(name, value, group_number),
    Kind.USER: lambda name, value, _: user_number(name, value),
    Kind.GROUP: lambda name, value, _: group_number(name, value),
    Kind.MODE: _mode,
    Kind.PATH: _text,
    Kind.SOCKETS: _sockets,
    Kind.HTTP: _http,
    Kind.IP: _ip,
    Kind.LINE: _line,
    Kind.CHOICE: _choice,
    Kind.CHOICES: _choices,
    Kind.SHARE: _share,
    Kind.SWITCH: _switch,
    Kind.TLS: _tls,
    Kind.OBJECT: lambda name, value, _: None,
}
