"""Arguments: one-line errors, and the types that options share."""

import argparse
import contextlib
import difflib
import ipaddress
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn

from aiomilter._cli.terminal import safe
from aiomilter._cli.trouble import USAGE
from aiomilter._serving.access import group_number, networks_of, user_number
from aiomilter.addresses import parse
from aiomilter.exceptions import AddressError, MilterError
from aiomilter.handler import STAGE_OF
from aiomilter.wire.constants import Stage, near_stage
from aiomilter.wire.replies import ACCEPT, CONTINUE, REJECT, TEMPFAIL, Reply, Response

__all__ = [
    "Parser",
    "did_you_mean",
    "file_mode",
    "group_number_of",
    "ip_address",
    "line",
    "network",
    "seconds",
    "seconds_by_stage",
    "seconds_or_off",
    "socket_text",
    "user_number_of",
    "verdict_or_reply",
    "whole",
]

_ANSWERS: Final[Mapping[str, Response]] = {
    "tempfail": TEMPFAIL,
    "reject": REJECT,
    "accept": ACCEPT,
    "continue": CONTINUE,
}
_LONGEST: Final = 999_999_999
"""Seconds, some thirty years."""
_STAGES: Final[Mapping[str, Stage]] = {stage.name.lower(): stage for stage in Stage}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return how an error goes on about a misspelt word: "; did you mean --listen?", or "" where nothing is like it."""
    # The time grows with the square of the length.
    alike = difflib.get_close_matches(word, known, 1, cutoff=0.7) if len(word) <= 100 else []
    return f"; did you mean {alike[0]}?" if alike else ""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line with the mend, and whose help keeps its line breaks."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def option_hint(self, word: str) -> str:
        """Return how the error about an unknown option goes on, given the option with or without its value."""
        return did_you_mean(word.partition("=")[0], self._option_string_actions)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # Python's own words differ from version to version, and suggest nothing before 3.14.
        if action.choices is not None and value not in action.choices:
            names = [str(choice) for choice in action.choices]
            hint = did_you_mean(str(value), names)
            raise argparse.ArgumentError(action, f"expected one of {', '.join(names)}, found {value!r}{hint}")

    def error(self, message: str) -> NoReturn:
        """Print the error, and where the help is."""
        print(f"{self.prog}: {safe(message)}; see '{self.prog} --help'", file=sys.stderr)
        raise SystemExit(USAGE)


def socket_text(text: str) -> str:
    """Return a socket's text if it names one."""
    try:
        parse(text)
    except AddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


@contextlib.contextmanager
def _said_of_the_argument() -> Iterator[None]:
    """Have an error be the argument's, without the name that the option has in a program."""
    try:
        yield
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).partition(": ")[2]) from None


def line(text: str) -> str:
    """Return a text if it is one line."""
    if any(character in text for character in "\0\r\n"):
        raise argparse.ArgumentTypeError("expected one line, found a line end or NUL")
    return text


def ip_address(text: str, *, hint: str = "") -> str:
    """Return the text of an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected an IP address, found {text!r}{hint}") from None
    return text


def network(text: str) -> str:
    """Return a network's text if it is one."""
    with _said_of_the_argument():
        networks_of("network", (text,))
    return text


def user_number_of(text: str) -> int:
    """Return the number of a user, given its name or number."""
    with _said_of_the_argument():
        return user_number("user", _number_or_name(text))


def group_number_of(text: str) -> int:
    """Return the number of a group, given its name or number."""
    with _said_of_the_argument():
        return group_number("group", _number_or_name(text))


def _number_or_name(text: str) -> int | str:
    # Of thousands of digits int() makes no number.
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else text


def seconds(text: str, *, zero: bool = False, maximum: int | None = None) -> float:
    """Return a number of seconds above 0, or 0 where that is allowed, and at most ``maximum``."""
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not (0 < number <= (_LONGEST if maximum is None else maximum) or (zero and number == 0)):
        what = "0 or more seconds" if zero else "seconds above 0"
        what += "" if maximum is None else f", at most {maximum}"
        raise argparse.ArgumentTypeError(f"expected {what}, as in 30 or 0.5, found {text!r}")
    return number


def seconds_or_off(text: str, *, zero: bool = False, maximum: int | None = None) -> float | None:
    """Return a number of seconds as :func:`seconds` does; None for ``off``."""
    return None if text == "off" else seconds(text, zero=zero, maximum=maximum)


def seconds_by_stage(text: str, *, bare: bool = True, zero: bool = False) -> tuple[Stage | None, float]:
    """Return seconds and their stage: ``mail=20``, or by its callback ``envfrom=20``; ``20`` is for all if ``bare``."""
    name, equals, number = text.rpartition("=")
    stage = _STAGES.get(name, STAGE_OF.get(name))
    if stage is None and (equals or not bare):
        what = f"expected one of {', '.join(_STAGES)} before the '=', found {name!r}"
        near = near_stage(name)
        hint = f"; did you mean {near.name.lower()}={number}?" if near is not None else ""
        raise argparse.ArgumentTypeError(what + hint)
    return stage, seconds(number, zero=zero)


def whole(text: str, *, zero: bool = False, maximum: int | None = None) -> int:
    """Return a whole number above 0, or 0 where that is allowed, and at most ``maximum``."""
    least, most = 0 if zero else 1, 2**31 - 1 if maximum is None else maximum
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and least <= int(text) <= most):
        what = "a whole number, 0 or more" if zero else "a whole number above 0"
        what = what if maximum is None else f"{least} to {maximum}"
        raise argparse.ArgumentTypeError(f"expected {what}, found {text!r}")
    return int(text)


def verdict_or_reply(text: str) -> Response:
    """Return an answer to failures: the name of a verdict, or an SMTP reply."""
    if text in _ANSWERS:
        return _ANSWERS[text]
    names = ", ".join(_ANSWERS)
    try:
        given = Reply.decode(text.encode("utf-8", "surrogateescape") + b"\0")
        return Reply(given.code, given.enhanced, *given.lines)
    except MilterError:
        what = f"expected one of {names}, or a reply as in '451 4.3.0 Try again later', found {text!r}"
        raise argparse.ArgumentTypeError(what + did_you_mean(text, _ANSWERS)) from None


def file_mode(text: str) -> int:
    """Return permissions written in octal."""
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise argparse.ArgumentTypeError(f"expected permissions in octal, as in 660, found {text!r}")
    return mode
