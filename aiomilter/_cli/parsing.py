"""Arguments: one-line errors, and the types that options share."""

import argparse
import functools
import sys
from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec, TypeVar

from aiomilter._cli.terminal import safe
from aiomilter._cli.trouble import USAGE
from aiomilter._config import values
from aiomilter._config.values import did_you_mean

__all__ = [
    "Parser",
    "argument",
    "file_mode",
    "group_number_of",
    "ip_address",
    "line",
    "seconds",
    "socket_text",
    "user_number_of",
    "whole",
]

_P = ParamSpec("_P")
_T = TypeVar("_T")


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


def argument(read: Callable[_P, _T]) -> Callable[_P, _T]:
    """Return a reader of values whose errors argparse shows as they are."""

    @functools.wraps(read)
    def argument(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return read(*args, **kwargs)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return argument


socket_text = argument(values.socket_text)
line = argument(values.line)
seconds = argument(values.duration)
whole = argument(values.whole)
file_mode = argument(values.file_mode)
user_number_of = argument(values.user)
group_number_of = argument(values.group)
ip_address = argument(values.ip_address)
