"""The values of options as users write them: texts of the command line and the environment, texts and numbers of a file.

Each reader raises ValueError with what is expected and what was found; the name of the option is for its caller to add.
"""

import contextlib
import difflib
import ipaddress
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final, NamedTuple, TypeVar

from aiomilter._option import Kind, Option
from aiomilter._serving.access import group_number, networks_of, user_number
from aiomilter._serving.status_address import parse_status
from aiomilter.addresses import parse, parse_all
from aiomilter.exceptions import MilterError
from aiomilter.handler import STAGE_OF
from aiomilter.wire.constants import Stage, near_stage
from aiomilter.wire.replies import ACCEPT, CONTINUE, REJECT, TEMPFAIL, Reply, Response

__all__ = [
    "ANSWERS",
    "DURATION",
    "EITHER",
    "FORMS",
    "LONGEST",
    "MOST",
    "SIZE",
    "STAGES",
    "Form",
    "Wrong",
    "did_you_mean",
    "domain",
    "duration",
    "duration_by_stage",
    "duration_or_off",
    "file_mode",
    "found",
    "from_file",
    "group",
    "http_address",
    "ip_address",
    "line",
    "network",
    "path",
    "size",
    "socket_text",
    "user",
    "verdict_or_reply",
    "whole",
]

_K = TypeVar("_K", str, int)
_T = TypeVar("_T")

ANSWERS: Final[Mapping[str, Response]] = {
    "tempfail": TEMPFAIL,
    "reject": REJECT,
    "accept": ACCEPT,
    "continue": CONTINUE,
}
LONGEST: Final = 999_999_999
"""Seconds, some thirty years."""
MOST: Final = 2**31 - 1
"""Of anything that is counted."""
STAGES: Final[Mapping[str, Stage]] = {stage.name.lower(): stage for stage in Stage}
_TIMES: Final[Mapping[str, float]] = {"ms": 0.001, "s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
_SIZES: Final[Mapping[str, int]] = {
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
}
DURATION: Final = r"[0-9]{1,10}(?:\.[0-9]{1,10})? ?(?:ms|s|min|m|h|d)"
"""A time with its unit."""
_SHARE: Final = re.compile(r"([0-9]{1,10}(?:\.[0-9]{1,10})?) ?(%)?")
SIZE: Final = r"[0-9]{1,10} ?[KkMmGg][Ii]?[Bb]"
"""A size with its unit."""
_MOST_SOCKETS: Final = 1000
"""Each is compared with all others."""
_SHOWN: Final = 60
"""Characters of a value in an error."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return how an error goes on about a misspelt word: "; did you mean --listen?", or "" where nothing is like it."""
    # The time grows with the square of the length.
    alike = difflib.get_close_matches(word, known, 1, cutoff=0.7) if len(word) <= 100 else []
    return f"; did you mean {alike[0]}?" if alike else ""


def found(value: object) -> str:
    """Return a value as errors show it."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "a list"
    text = repr(value) if isinstance(value, str | int | float) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


# --------------------------------------------------------------------------------------------------------------- texts


@contextlib.contextmanager
def _without_name() -> Iterator[None]:
    """Have an error be without the name that the option has in a program."""
    try:
        yield
    except ValueError as error:
        raise ValueError(str(error).partition(": ")[2]) from None


def socket_text(text: str) -> str:
    """Return a socket's text if it names one."""
    parse(text)
    return text


def http_address(text: str) -> str:
    """Return the text of an address to listen on for HTTP, if it is one."""
    parse_status(text)
    return text


def line(text: str) -> str:
    """Return a text if it is one line."""
    if any(character in text for character in "\0\r\n"):
        raise ValueError("expected one line, found a line end or NUL")
    return text


def network(text: str) -> str:
    """Return a network's text if it is one."""
    with _without_name():
        networks_of("network", (text,))
    return text


def domain(text: str) -> str:
    """Return the name of a domain."""
    if not text or any(character.isspace() or character == "\0" for character in text):
        raise ValueError(f"expected the name of a domain, found {found(text)}")
    return text


def user(text: str) -> int:
    """Return the number of a user, given its name or number."""
    with _without_name():
        return user_number("user", _number_or_name(text))


def group(text: str) -> int:
    """Return the number of a group, given its name or number."""
    with _without_name():
        return group_number("group", _number_or_name(text))


def _number_or_name(text: str) -> int | str:
    # Of thousands of digits int() makes no number.
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else text


def duration(text: str, *, zero: bool = False, maximum: int | None = None) -> float:
    """Return seconds above 0, or from 0 where that is allowed, and at most ``maximum``: ``30``, ``0.5``, ``5 min``."""
    number = -1.0
    if re.fullmatch(DURATION, text):
        digits, unit = re.findall(r"[0-9.]+|[a-z]+", text)
        number = float(digits) * _TIMES[unit]
    else:
        with contextlib.suppress(ValueError):
            number = float(text)
    return _seconds(number, text, zero=zero, maximum=maximum)


def _seconds(number: float, given: object, *, zero: bool, maximum: int | None) -> float:
    if not (0 < number <= (LONGEST if maximum is None else maximum) or (zero and number == 0)):
        what = "0 or more seconds" if zero else "seconds above 0"
        what += "" if maximum is None else f", at most {maximum}"
        raise ValueError(f"expected {what}, as in 30 or 0.5, found {found(given)}")
    return number


def duration_or_off(text: str, *, zero: bool = False, maximum: int | None = None) -> float | None:
    """Return seconds as :func:`duration` does; None for ``off``."""
    return None if text == "off" else duration(text, zero=zero, maximum=maximum)


def duration_by_stage(text: str, *, bare: bool = True, zero: bool = False) -> tuple[Stage | None, float]:
    """Return seconds and their stage: ``mail=20``, or by its callback ``envfrom=20``; ``20`` is for all if ``bare``."""
    name, equals, number = text.rpartition("=")
    if not equals and bare:
        return None, duration(number, zero=zero)
    return _stage(name, f"={number}"), duration(number, zero=zero)


def _stage(name: str, rest: str = "") -> Stage:
    stage = STAGES.get(name, STAGE_OF.get(name))
    if stage is None:
        where = " before the '='" if rest else " as key"
        near = near_stage(name)
        hint = f"; did you mean {near.name.lower()}{rest}?" if near is not None else ""
        raise ValueError(f"expected one of {', '.join(STAGES)}{where}, found {found(name)}{hint}")
    return stage


def whole(text: str, *, zero: bool = False, maximum: int | None = None) -> int:
    """Return a whole number above 0, or from 0 where that is allowed, and at most ``maximum``."""
    is_number = text.isascii() and text.isdigit() and len(text) <= 10
    return _count(int(text) if is_number else -1, text, zero=zero, maximum=maximum)


def _count(number: int, given: object, *, zero: bool, maximum: int | None, more: str = "") -> int:
    least, most = 0 if zero else 1, MOST if maximum is None else maximum
    if not least <= number <= most:
        what = "a whole number, 0 or more" if zero else "a whole number above 0"
        what = what if maximum is None else f"{least} to {maximum}"
        raise ValueError(f"expected {what}{more}, found {found(given)}")
    return number


def size(text: str, *, zero: bool = False, maximum: int | None = None) -> int:
    """Return a number of octets, within the same bounds: ``4096``, ``512 MiB``, ``10 MB``."""
    number = -1
    if re.fullmatch(SIZE, text):
        digits, unit = re.findall(r"[0-9]+|[A-Za-z]+", text)
        number = int(digits) * _SIZES[unit.lower()]
    elif text.isascii() and text.isdigit() and len(text) <= 10:
        number = int(text)
    return _count(number, text, zero=zero, maximum=maximum, more=" of octets, as in 4096 or '512 MiB'")


def verdict_or_reply(text: str) -> Response:
    """Return an answer to failures: the name of a verdict, or an SMTP reply."""
    if text in ANSWERS:
        return ANSWERS[text]
    names = ", ".join(ANSWERS)
    try:
        given = Reply.decode(text.encode("utf-8", "surrogateescape") + b"\0")
        return Reply(given.code, given.enhanced, *given.lines)
    except (MilterError, UnicodeEncodeError):
        what = f"expected one of {names}, or a reply as in '451 4.3.0 Try again later', found {found(text)}"
        raise ValueError(what + did_you_mean(text, ANSWERS)) from None


def file_mode(text: str) -> int:
    """Return permissions written in octal."""
    mode = int(text, 8) if re.fullmatch(r"(?:0o?)?[0-7]{1,4}", text) else -1
    if not 0 <= mode <= 0o777:
        raise ValueError(f"expected permissions in octal, as in 660, found {found(text)}")
    return mode


def ip_address(text: str, *, hint: str = "") -> str:
    """Return the text of an IP address; an error ends with the hint."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"expected an IP address, found {found(text)}{hint}") from None
    return text


def path(text: str) -> str:
    """Return the path of a file."""
    if not text or "\0" in text:
        raise ValueError(f"expected the path of a file, found {found(text)}")
    return text


def _switch(text: str) -> bool:
    if text.lower() in ("yes", "true", "on", "1"):
        return True
    if text.lower() in ("no", "false", "off", "0"):
        return False
    raise ValueError(f"expected yes or no, found {found(text)}")


def _choice(option: Option) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in option.choices:
            hint = did_you_mean(text, option.choices)
            raise ValueError(f"expected one of {', '.join(option.choices)}, found {found(text)}{hint}")
        return text

    return read


def _choices(option: Option) -> Callable[[str], tuple[str, ...]]:
    read = _choice(option)
    return lambda text: tuple(dict.fromkeys(read(word.strip()) for word in text.split(",")))


def share(text: str) -> float:
    """Return a part of all: 0.01, or 1 % of it."""
    match = _SHARE.fullmatch(text)
    return _part(float(match[1]) / (100 if match[2] else 1) if match is not None else 0.0, text)


def _part(part: float, given: object) -> float:
    if not 0 < part <= 1:
        raise ValueError(f"expected a share, more than 0 and at most 1, as in 0.01, found {found(given)}")
    return part


# ---------------------------------------------------------------------------------------------------------- by its kind


class Form(NamedTuple):
    """How the options of a kind are written.

    Args:
        metavar: Stands for the value in the help of the command line.
        read: Returns what reads the text of a value; the text of one of its members where there may be many.
        many: Whether the value is a list; on the command line the argument may be repeated.
    """

    metavar: str
    read: Callable[[Option], Callable[[str], Any]]
    many: bool = False


def _read_duration(option: Option) -> Callable[[str], Any]:
    read = duration_or_off if option.off else duration
    return lambda text: read(text, zero=option.zero, maximum=option.maximum)


def _read_number(read: Callable[..., int]) -> Callable[[Option], Callable[[str], int]]:
    return lambda option: lambda text: read(text, zero=option.zero, maximum=option.maximum)


FORMS: Final[Mapping[Kind, Form]] = {
    Kind.DURATION: Form("SECONDS", _read_duration),
    Kind.DURATIONS: Form("STAGE=SECONDS", lambda _: lambda text: duration_by_stage(text, bare=False), many=True),
    Kind.SIZE: Form("OCTETS", _read_number(size)),
    Kind.COUNT: Form("N", _read_number(whole)),
    Kind.ANSWER: Form("ANSWER", lambda _: verdict_or_reply),
    Kind.NETWORKS: Form("NETWORK", lambda _: network, many=True),
    Kind.DOMAINS: Form("DOMAIN", lambda _: domain, many=True),
    Kind.USERS: Form("USER", lambda _: user, many=True),
    Kind.GROUPS: Form("GROUP", lambda _: group, many=True),
    Kind.USER: Form("USER", lambda _: user),
    Kind.GROUP: Form("GROUP", lambda _: group),
    Kind.MODE: Form("MODE", lambda _: file_mode),
    Kind.PATH: Form("FILE", lambda _: path),
    Kind.SOCKETS: Form("SOCKET", lambda _: socket_text, many=True),
    Kind.HTTP: Form("HOST:PORT", lambda _: http_address),
    Kind.IP: Form("IP", lambda _: ip_address),
    Kind.LINE: Form("TEXT", lambda _: line),
    Kind.CHOICE: Form("", _choice),
    Kind.CHOICES: Form("WORD[,WORD]...", _choices),
    Kind.SHARE: Form("SHARE", lambda _: share),
    Kind.SWITCH: Form("", lambda _: _switch),
}
EITHER: Final = Form(
    "[STAGE=]SECONDS",
    lambda option: (
        lambda text: (None, None) if option.off and text == "off" else duration_by_stage(text, zero=option.zero)
    ),
    many=True,
)
"""Of a DURATION and DURATIONS that share a name: of the first where no stage is named."""
_WORDS: Final[Mapping[Kind, str]] = {
    Kind.DURATION: "a time",
    Kind.SIZE: "a size",
    Kind.SHARE: "a share, as in 0.01",
    Kind.COUNT: "a whole number",
    Kind.ANSWER: "an answer",
    Kind.MODE: 'permissions in quotes, as in "0660"',
    Kind.PATH: "the path of a file",
    Kind.USER: "a user, name or number",
    Kind.GROUP: "a group, name or number",
}
"""What a value of another type is not."""


class Wrong(ValueError):
    """A value is not what its option takes.

    Args:
        mistakes: Why: for each the path inside the value, () for the whole, and what is expected and found.
    """

    def __init__(self, *mistakes: tuple[tuple[str | int, ...], str]) -> None:
        super().__init__("; ".join(what for _, what in mistakes))
        self.mistakes = mistakes


def from_file(value: object, option: Option) -> Any:
    """Return a value of a configuration file, as the option has it.

    Args:
        value: As tomllib has it.
        option: Its description.

    Raises:
        Wrong: It is not what the option takes.
    """
    kind = option.kind
    try:
        if kind is Kind.DURATIONS:
            return _durations(value, option)
        if kind is Kind.CHOICES and isinstance(value, list):
            return tuple(dict.fromkeys(chain.from_iterable(_many(value, option))))
        if FORMS[kind].many:
            return _many(value, option)
        if kind is Kind.SWITCH and not isinstance(value, bool):
            raise ValueError(f"expected true or false, found {found(value)}")
        return value if kind is Kind.SWITCH else _one(value, option)
    except Wrong:
        raise
    except ValueError as error:
        raise Wrong(((), str(error))) from None


def _one(value: object, option: Option) -> Any:
    kind = option.kind
    if isinstance(value, str):
        if kind is Kind.COUNT:
            raise ValueError(f"expected a whole number, without quotes, found {found(value)}")
        return FORMS[kind].read(option)(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if kind is Kind.SHARE:
            return _part(float(value), value)
        if kind is Kind.DURATION and math.isfinite(value):
            return float(_seconds(value, value, zero=option.zero, maximum=option.maximum))
        if isinstance(value, int):
            if kind in (Kind.COUNT, Kind.SIZE):
                return _count(value, value, zero=option.zero, maximum=option.maximum)
            if kind in (Kind.USER, Kind.USERS, Kind.GROUP, Kind.GROUPS):
                return FORMS[kind].read(option)(str(value))
    raise ValueError(f"expected {_WORDS.get(kind, 'a text in quotes')}, found {found(value)}")


def _many(value: object, option: Option) -> list[Any]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) and not (isinstance(value, dict) and option.kind is Kind.SOCKETS):
        raise ValueError(f"expected a list, as in [...], found {found(value)}")
    if option.kind is Kind.SOCKETS and len(value) > _MOST_SOCKETS:
        raise ValueError(f"expected at most {_MOST_SOCKETS} sockets, found {len(value)}")
    members: Iterable[tuple[Any, object]] = value.items() if isinstance(value, dict) else enumerate(value)
    read = _each(members, lambda position, one: (position, _one(one, option)))
    if option.kind is Kind.SOCKETS:
        parse_all([text for _, text in read])
    return [one for _, one in read]


def _durations(value: object, option: Option) -> dict[Stage, float]:
    if not isinstance(value, dict):
        raise ValueError(f"expected a table of stages, as in {{ mail = 20 }}, found {found(value)}")
    one = Option(Kind.DURATION, option.group, option.help, zero=option.zero, maximum=option.maximum)
    return dict(_each(value.items(), lambda name, seconds: (_stage(name), _one(seconds, one))))


def _each(members: Iterable[tuple[_K, object]], read: Callable[[_K, object], _T]) -> list[_T]:
    """Return all members of a list or a table as they are read.

    Raises:
        Wrong: Some cannot be.
    """
    values, mistakes = [], []
    for name, member in members:
        try:
            values.append(read(name, member))
        except ValueError as error:
            mistakes.append(((name,), str(error)))
    if mistakes:
        raise Wrong(*mistakes)
    return values
