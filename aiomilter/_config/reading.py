"""The values that a configuration file gives, checked key by key: every fault of the file at once."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiomilter._config.faults import MANY, Fault, shown_key
from aiomilter._config.file import Document
from aiomilter._config.lines import Path
from aiomilter._config.table import Key
from aiomilter._config.values import Wrong, did_you_mean, found, from_file
from aiomilter._option import Kind

__all__ = ["FILTER", "SETTINGS", "FileValues", "read_values"]

FILTER: Final = "filter"
"""The key of the filter, or the filters."""
SETTINGS: Final = "settings"
"""The table of what the filter itself is set by."""
_SECRETS: Final = frozenset({("state", "password"), ("state", "key")})
"""Keys whose values only a file gives: flags and variables of a process can be seen by others."""


class FileValues(NamedTuple):
    """What a file gives.

    Args:
        document: The file.
        values: By the names of keys, see :mod:`aiomilter._config.table`; paths of files are absolute.
        settings: The table ``[settings]``; None if there is none.
        filters: The filters; each with its path in the file and its table, ``{"use": TARGET}`` for ``filter = TARGET``.
        faults: What is wrong.
        secrets: The values of ``[state]`` that are secrets, or say where these are, as tomllib has them.
    """

    document: Document
    values: dict[str, Any]
    settings: Mapping[str, Any] | None
    filters: list[tuple[Path, Mapping[str, Any]]]
    faults: list[Fault]
    secrets: Mapping[str, Any]


def read_values(document: Document, known: Sequence[Key]) -> FileValues:
    """Return what a file gives, and what is wrong with it.

    Args:
        document: The file.
        known: All keys that there are, besides those of the filter.
    """
    faults: list[Fault] = []
    read = _Values(document, known, faults)
    values = read.read()
    filters = list(_filters(document, faults))
    return FileValues(document, values, _settings(document, faults), filters, faults, read.secrets)


class _Values:
    def __init__(self, document: Document, known: Sequence[Key], faults: list[Fault]) -> None:
        self._document = document
        self._keys = {key.path: key for key in known}
        self._tables = {key.path[0] for key in known if len(key.path) > 1}
        self._faults = faults
        self._values: dict[str, Any] = {}
        self.secrets: dict[str, Any] = {}
        """The values of ``[state]`` that are secrets."""

    def read(self) -> dict[str, Any]:
        """Return the values by the names of keys."""
        for name, value in self._document.values.items():
            if name in (FILTER, SETTINGS):
                continue
            if name not in self._tables:
                self._read((name,), value)
            elif isinstance(value, dict):
                for key, one in value.items():
                    self._read((name, key), one)
            else:
                self._fault((name,), f"expected a table, as in [{name}], found {found(value)}")
        return self._values

    def _fault(self, path: Path, what: str) -> None:
        self._faults.append(self._document.fault(path, what))

    def _read(self, path: tuple[str, ...], value: object) -> None:
        if path in _SECRETS:
            self.secrets[path[-1]] = value
            return
        key = self._keys.get(path)
        if key is None:
            self._fault(path, self._unknown(path, value))
            return
        option = key.row.option
        try:
            read = from_file(value, option)
        except Wrong as error:
            for member, what in error.mistakes:
                self._fault((*path, *member), what)
            return
        self._values[key.name] = self._document.beside(read) if option.kind is Kind.PATH else read

    def _unknown(self, path: tuple[str, ...], value: object) -> str:
        """Return what is wrong with a key that there is not, and which one may be meant."""
        name = path[-1]
        if len(self._faults) >= MANY:
            return "unknown"  # what is meant takes a while to find out
        if len(path) == 1 and isinstance(value, dict):
            hint = did_you_mean(name, [*self._tables, SETTINGS])
            return f"unknown table{hint.replace('mean ', 'mean [').replace('?', ']?')}" if hint else "unknown table"
        elsewhere = [key for key in self._keys if key[-1] == name]
        if elsewhere:
            table = elsewhere[0][:-1]
            return f"unknown here; it stands {f'in [{table[0]}]' if table else 'at the top, above all tables'}"
        flags = {key.flag[2:].replace("-", "_"): key for key in self._keys.values()}
        if (meant := flags.get(name)) is not None:
            return f"unknown, did you mean {shown_key(meant.path)}?"
        beside = [key[-1] for key in (*self._keys, *_SECRETS) if key[:-1] == path[:-1]]
        if len(path) == 1:
            beside += [FILTER, SETTINGS, *self._tables]
        hint = did_you_mean(name, beside).replace("; ", ", ")
        if not hint:
            near = did_you_mean(name, [key[-1] for key in self._keys])
            hint = next((f", did you mean {shown_key(key)}?" for key in self._keys if f" {key[-1]}?" in near), "")
        return f"unknown{hint}"


def _filters(document: Document, faults: list[Fault]) -> Iterable[tuple[Path, Mapping[str, Any]]]:
    """Yield the filters of a file."""
    given = document.values.get(FILTER)
    if isinstance(given, str):
        yield (FILTER,), {"use": given}
    elif isinstance(given, list) and given and all(isinstance(one, dict) for one in given):
        yield from (((FILTER, number), one) for number, one in enumerate(given))
    elif given is not None:
        faults.append(
            document.fault((FILTER,), f"expected a TARGET in quotes, or [[filter]] tables, found {found(given)}")
        )


def _settings(document: Document, faults: list[Fault]) -> Mapping[str, Any] | None:
    given = document.values.get(SETTINGS)
    if given is None or isinstance(given, dict):
        return given
    faults.append(document.fault((SETTINGS,), f"expected a table, as in [settings], found {found(given)}"))
    return None
