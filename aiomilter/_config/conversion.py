"""Values of a TOML file as the types that a program has annotated: dataclasses, and what they are made of."""

import collections.abc
import dataclasses
import datetime
import enum
import ipaddress
import os
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import Any, Final, Literal, Union

from aiomilter._config.faults import MANY, Fault
from aiomilter._config.file import Document
from aiomilter._config.lines import Path
from aiomilter._config.secrets import SOURCES, is_reference, resolved, suspicious
from aiomilter._config.values import did_you_mean, duration, found
from aiomilter.secret import Secret

__all__ = ["LITERAL", "Conversion"]

LITERAL: Final = (
    'every user can read this file, and it holds a secret; write { file = "..." }, or take the permission away'
)
_FAILED: Final = object()
_LISTS: Final[Mapping[Any, Callable[[list[Any]], Any]]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.abc.Sequence: tuple,
    collections.abc.Collection: tuple,
    collections.abc.Iterable: tuple,
    collections.abc.Set: frozenset,
}
_TABLES: Final = (dict, collections.abc.Mapping)
_WORDS: Final[Mapping[Any, str]] = {
    str: "a text in quotes",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Secret: "a text in quotes, or a table with file, credential or env",
    FilePath: "the path of a file, in quotes",
    datetime.timedelta: "a time, as in 30 or '5 min'",
}
_PARSED: Final = (
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
)
"""Made from their texts, with an error that says what is wrong."""
_DATES: Final = (datetime.datetime, datetime.date, datetime.time)


class Conversion:
    """Makes what types ask for, and collects what cannot be made.

    Args:
        document: The file.
        warn: Called with each warning.
    """

    def __init__(self, document: Document, warn: Callable[[str], object]) -> None:
        self.faults: list[Fault] = []
        self.secrets: list[Path] = []
        """Where secrets stand."""
        self._document = document
        self._warn = warn

    def made(self, kind: Any, value: Any, path: Path) -> Any:
        """Return a value as a type has it; something of no use if there are faults.

        Args:
            kind: The type, as annotated.
            value: As tomllib has it.
            path: Where it stands.
        """
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is typing.Annotated:
            return self.made(arguments[0], value, path)
        if origin in (Union, types.UnionType):
            return self._one_of(arguments, value, path)
        if origin is Literal:
            return value if _is_one_of(value, arguments) else self._failed(path, _choices(arguments, value, path))
        if kind is Any or kind is object:
            return self._untyped(value, path)
        if (origin or kind) in _LISTS:
            return self._list(origin or kind, arguments, value, path)
        if (origin or kind) in _TABLES:
            return self._table(arguments, value, path)
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            return self._dataclass(kind, value, path)
        if kind is Secret:
            return self._secret(value, path)
        return self._simple(kind, value, path)

    def _failed(self, path: Path, what: str) -> Any:
        self.faults.append(self._document.fault(path, what))
        return _FAILED

    # ----------------------------------------------------------------------------------------------- made of others

    def _dataclass(self, kind: Any, value: Any, path: Path) -> Any:
        if not isinstance(value, dict):
            return self._failed(path, f"expected a table, found {_shown(value, path)}")
        try:
            hints = typing.get_type_hints(kind, include_extras=True)
        except Exception as error:  # noqa: BLE001  # the user's annotations are code
            return self._failed(path, f"the types of {kind.__name__} cannot be found: {type(error).__name__}: {error}")
        fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
        before = len(self.faults)
        given = {}
        for name, one in value.items():
            if name not in fields:
                hint = did_you_mean(name, fields).replace("; ", ", ") if len(self.faults) < MANY else ""
                self._failed((*path, name), f"unknown{hint}")
            else:
                given[name] = self.made(hints[name], one, (*path, name))
        for name, field in fields.items():
            has_default = not (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING)
            if name not in value and not has_default:
                self._failed((*path, name), "missing")
        if len(self.faults) > before:
            return _FAILED
        try:
            return kind(**given)
        except (TypeError, ValueError) as error:  # of its own checks
            # Errors that begin with the name of a field, as ours do, are shown with its line.
            name, _, what = str(error).partition(": ")
            return self._failed((*path, name), what) if name in fields else self._failed(path, str(error))

    def _list(self, kind: Any, arguments: tuple[Any, ...], value: Any, path: Path) -> Any:
        if not isinstance(value, list):
            return self._failed(path, f"expected a list, as in [...], found {_shown(value, path)}")
        if kind is tuple and arguments and arguments[-1:] != (...,):
            if len(value) != len(arguments):
                return self._failed(path, f"expected a list of {len(arguments)}, found {len(value)}")
            kinds = arguments
        else:
            kinds = (arguments[0] if arguments else Any,) * len(value)
        before = len(self.faults)
        made = [
            self.made(one, each, (*path, number)) for number, (one, each) in enumerate(zip(kinds, value, strict=True))
        ]
        return _FAILED if len(self.faults) > before else _LISTS[kind](made)

    def _table(self, arguments: tuple[Any, ...], value: Any, path: Path) -> Any:
        if not isinstance(value, dict):
            return self._failed(path, f"expected a table, found {_shown(value, path)}")
        kind = arguments[1] if len(arguments) == 2 else Any
        return {name: self.made(kind, one, (*path, name)) for name, one in value.items()}

    def _one_of(self, kinds: tuple[Any, ...], value: Any, path: Path) -> Any:
        """Return the value as the first of several types that takes it."""
        wanted = [kind for kind in kinds if kind is not type(None)]
        before = len(self.faults)
        tried: list[list[Fault]] = []
        for kind in wanted:
            made = self.made(kind, value, path)
            if len(self.faults) == before:
                return made
            tried.append(self.faults[before:])
            del self.faults[before:]
        if len(tried) > 1 and all(kind in _WORDS for kind in wanted):
            words = " or ".join(_WORDS[kind] for kind in wanted)
            return self._failed(path, f"expected {words}, found {_shown(value, path)}")
        # Where one is made of others, what is wrong inside it says most.
        most = max(range(len(tried)), key=lambda number: len(tried[number]))
        self.faults += tried[most]
        return _FAILED

    # ---------------------------------------------------------------------------------------------------------- texts

    def _simple(self, kind: Any, value: Any, path: Path) -> Any:
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if kind in (str, int, float, bool) or kind in _DATES:
            if type(value) is kind:
                if kind is str:
                    self._check_literal(value, path)
                return value
            secret = "; a secret needs a field of the type aiomilter.secret.Secret" if is_reference(value) else ""
            return self._failed(
                path, f"expected {_WORDS.get(kind, 'a date or time')}, found {_shown(value, path)}{secret}"
            )
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return self._member(kind, value, path)
        if kind is datetime.timedelta:
            return self._duration(value, path)
        if (
            isinstance(kind, type)
            and issubclass(kind, os.PathLike)
            and isinstance(value, str)
            and value
            and "\0" not in value
        ):
            return FilePath(self._document.beside(value))
        if kind in _PARSED and isinstance(value, str):
            try:
                return kind(value)
            except ValueError as error:
                return self._failed(path, str(error))
        if kind in _WORDS or kind in _PARSED or (isinstance(kind, type) and issubclass(kind, os.PathLike)):
            return self._failed(path, f"expected {_WORDS.get(kind, 'a text in quotes')}, found {_shown(value, path)}")
        named = getattr(kind, "__name__", str(kind))
        return self._failed(path, f"has the type {named} in the program, which a file cannot give")

    def _duration(self, value: Any, path: Path) -> Any:
        try:
            if isinstance(value, str):
                return datetime.timedelta(seconds=duration(value, zero=True))
            if isinstance(value, int | float) and not isinstance(value, bool):
                return datetime.timedelta(seconds=duration(str(value), zero=True))
        except ValueError as error:
            return self._failed(path, str(error))
        return self._failed(path, f"expected {_WORDS[datetime.timedelta]}, found {_shown(value, path)}")

    def _member(self, kind: type[enum.Enum], value: Any, path: Path) -> Any:
        for one in kind:
            if _is_one_of(value, (one.value, one.name.lower())):
                return one
        names = tuple(one.value if isinstance(one.value, str) else one.name.lower() for one in kind)
        return self._failed(path, _choices(names, value, path))

    def _secret(self, value: Any, path: Path) -> Any:
        self.secrets.append(path)
        if isinstance(value, str):
            if self._document.readable_by_others:
                self._warn(str(self._document.fault(path, LITERAL)))
            return Secret(value)
        if not is_reference(value):
            names = ", ".join(SOURCES)
            what = f"a table with one of {names}" if isinstance(value, dict) else _WORDS[Secret]
            return self._failed(path, f"expected {what}, found {_keys(value)}")
        try:
            secret = resolved(self._document, value)
        except ValueError as error:
            return self._failed(path, str(error))
        if secret.warning:
            self._warn(str(self._document.fault(path, secret.warning)))
        return secret.secret

    def _untyped(self, value: Any, path: Path) -> Any:
        """Return a value that has no type: tables and lists stay what they are, secrets are found."""
        if is_reference(value):
            return self._secret(value, path)
        if isinstance(value, dict):
            return {name: self._untyped(one, (*path, name)) for name, one in value.items()}
        if isinstance(value, list):
            return [self._untyped(one, (*path, number)) for number, one in enumerate(value)]
        if isinstance(value, str):
            self._check_literal(value, path)
        return value

    def _check_literal(self, value: str, path: Path) -> None:
        if value and self._document.readable_by_others and suspicious(path):
            self._warn(str(self._document.fault(path, LITERAL)))


def _is_one_of(value: Any, choices: tuple[Any, ...]) -> bool:
    # True is 1, which a file that says 1 does not mean.
    return any(type(value) is type(choice) and value == choice for choice in choices)


def _shown(value: Any, path: Path) -> str:
    """Return a value as errors show it, but not one that may be a secret."""
    return "a value that is not shown" if suspicious(path) and not isinstance(value, dict | list) else found(value)


def _choices(choices: tuple[Any, ...], value: Any, path: Path) -> str:
    names = [str(choice) for choice in choices]
    hint = did_you_mean(value, names) if isinstance(value, str) else ""
    return f"expected one of {', '.join(names)}, found {_shown(value, path)}{hint}"


def _keys(value: Any) -> str:
    return f"one with {', '.join(map(str, value)) or 'none'}" if isinstance(value, dict) else "something else"
