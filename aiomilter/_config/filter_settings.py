"""What a file sets for the filter itself: the table ``[settings]`` as the class that the factory's parameter is annotated with.

A dataclass is made here, field by field, with every mistake at once.  A class with ``model_validate`` (pydantic), or with
``__struct_fields__`` (msgspec), validates by itself.
"""

import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import partial
from typing import Any, Final, NamedTuple

from aiomilter._config.conversion import LITERAL, Conversion
from aiomilter._config.faults import Fault, Faults
from aiomilter._config.file import Document
from aiomilter._config.lines import Path
from aiomilter._config.secrets import is_reference, resolved, suspicious

__all__ = ["FilterSettings"]

_MANY: Final = 50
"""Errors of a class that validates by itself."""


class FilterSettings(NamedTuple):
    """The settings of a filter, not yet made.

    Args:
        document: The file.
        path: Of the table in it.
        table: The table; None if there is none.
        warn: Called with each warning, a sentence with its place in front.
        secrets: Gets the path of each setting that is a secret.
    """

    document: Document
    path: Path
    table: Mapping[str, Any] | None
    warn: Callable[[str], object]
    secrets: set[Path]

    def bound(self, factory: Callable[..., Any]) -> Callable[..., Any]:
        """Return the factory with its settings given; as it is, if it takes none.

        Raises:
            Faults: They do not fit, or the factory takes none.
        """
        parameter = _parameter(factory)
        if parameter is None:
            if self.table is None:
                return factory
            what = "the filter takes no settings: its factory has no parameter with a type, as in milter(settings: Settings)"
            raise Faults([self._fault((), what)])
        if self.table is None and parameter.default is not inspect.Parameter.empty:
            return factory
        kind = self._annotation(factory, parameter)
        settings = self.made(kind)
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            return partial(factory, settings)
        return partial(factory, **{parameter.name: settings})

    def _annotation(self, factory: Callable[..., Any], parameter: inspect.Parameter) -> Any:
        call: Any = inspect.unwrap(factory)
        call = getattr(call, "__init__", call) if isinstance(call, type) else call
        try:
            hints = typing.get_type_hints(call)
        except Exception as error:  # noqa: BLE001  # the user's annotation is code
            what = f"the type of {parameter.name!r} of the filter's factory cannot be found: {type(error).__name__}: {error}"
            raise Faults([self._fault((), what)]) from None
        return hints.get(parameter.name, parameter.annotation)

    def made(self, kind: Any) -> Any:
        """Return the settings as a class has them.

        Raises:
            Faults: They do not fit.
        """
        table = {} if self.table is None else self.table
        if typing.get_origin(kind) in (typing.Union, types.UnionType):
            kinds = [one for one in typing.get_args(kind) if one is not type(None)]
            kind = kinds[0] if len(kinds) == 1 else kind  # as of settings: Settings | None = None
        if kind in (dict, Any, Mapping) or typing.get_origin(kind) in (dict, Mapping):
            return self._checked(kind, table)
        if isinstance(kind, type) and is_dataclass(kind):
            return self._checked(kind, table)
        if isinstance(kind, type) and hasattr(kind, "model_validate"):
            return self._validated(lambda plain: kind.model_validate(plain), table)
        if isinstance(kind, type) and hasattr(kind, "__struct_fields__") and "msgspec" in sys.modules:
            return self._validated(lambda plain: sys.modules["msgspec"].convert(plain, kind), table)
        named = getattr(kind, "__name__", str(kind))
        what = f"the filter's factory takes {named}; expected a dataclass, dict, a pydantic model or a msgspec.Struct"
        raise Faults([self._fault((), what)])

    def _checked(self, kind: Any, table: Mapping[str, Any]) -> Any:
        conversion = Conversion(self.document, self.warn)
        made = conversion.made(kind, table, self.path)
        self.secrets.update(conversion.secrets)
        if conversion.faults:
            raise Faults(conversion.faults)
        return made

    def _validated(self, validate: Callable[[Any], Any], table: Mapping[str, Any]) -> Any:
        """Have a class validate the table, in which secrets are plain texts."""
        faults: list[Fault] = []
        plain = self._texts(table, self.path, faults)
        if faults:
            raise Faults(faults)
        try:
            return validate(plain)
        except Exception as error:  # noqa: BLE001  # of a library that is not imported here
            raise Faults(self._errors_of(error)) from None

    def _texts(self, value: Any, path: Path, faults: list[Fault]) -> Any:
        if is_reference(value):
            try:
                found = resolved(self.document, value)
            except ValueError as error:
                faults.append(self.document.fault(path, str(error)))
                return None
            if found.warning:
                self.warn(str(self.document.fault(path, found.warning)))
            return found.secret.value
        if isinstance(value, dict):
            return {name: self._texts(one, (*path, name), faults) for name, one in value.items()}
        if isinstance(value, list):
            return [self._texts(one, (*path, number), faults) for number, one in enumerate(value)]
        if isinstance(value, str) and suspicious(path) and self.document.readable_by_others:
            self.warn(str(self.document.fault(path, LITERAL)))
        return value

    def _errors_of(self, error: Exception) -> list[Fault]:
        """Return the faults that a library has found; pydantic's errors have paths."""
        errors = getattr(error, "errors", None)
        if callable(errors):
            try:
                found = [(tuple(one["loc"]), str(one["msg"])) for one in errors()[:_MANY]]
                return [self._fault(path, what) for path, what in found] or [self._fault((), type(error).__name__)]
            except (TypeError, KeyError, AttributeError):
                pass
        return [self._fault((), " ".join(str(error).split()))]

    def _fault(self, path: Path, what: str) -> Fault:
        if path:
            return self.document.fault((*self.path, *path), what)
        names = ".".join(part for part in self.path if isinstance(part, str))
        return Fault(self.document.name, self.document.line(self.path), f"[{names}]: {what}")


def _parameter(factory: Callable[..., Any]) -> inspect.Parameter | None:
    """Return the parameter of a factory that its settings go through: the first one that has a type."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # a callable without a signature
        return None
    for parameter in parameters:
        is_one = parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if is_one and parameter.annotation is not inspect.Parameter.empty:
            return parameter
    return None
