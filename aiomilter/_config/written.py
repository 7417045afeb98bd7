"""Configuration as text: values as TOML has them, a starting file with every key, and what is in force with its origins."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import groupby
from textwrap import wrap
from types import MappingProxyType
from typing import Any, Final

from aiomilter._config.file import Document
from aiomilter._config.lines import Path
from aiomilter._config.secrets import is_reference, suspicious
from aiomilter._config.table import Key
from aiomilter._option import Kind, Option
from aiomilter._option_text import shown
from aiomilter.wire.constants import Stage
from aiomilter.wire.replies import Refusal, Reply, Verdict

__all__ = ["commented", "effective", "hidden", "name", "settings_lines", "toml", "with_origin"]

_WIDTH: Final = 36
"""Columns before a remark."""
_HIDDEN: Final = "***"


def toml(value: Any, option: Option | None = None) -> str:
    """Return a value as a configuration file has it.

    Args:
        value: As an option has it, or as tomllib has it.
        option: Whose it is; None for a setting of a filter.
    """
    if option is not None and option.kind is Kind.MODE:
        return f'"{value:04o}"'
    if value is None:
        return '"off"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Verdict):
        return f'"{value.name.lower()}"'
    if isinstance(value, Reply | Refusal):
        return _text(str(value))
    if isinstance(value, Mapping):
        pairs = (f"{name(key)} = {toml(one)}" for key, one in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str):
        return _text(value)
    return str(value)  # dates and times


def name(key: Any) -> str:
    """Return a key as a configuration file has it."""
    if isinstance(key, Stage):
        return key.name.lower()
    return key if key and key.isascii() and key.replace("_", "").replace("-", "").isalnum() else _text(key)


def _text(text: str) -> str:
    # The escapes of JSON are TOML's, except that surrogates cannot be written; and TOML wants DEL escaped.
    return json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False).replace("\x7f", "\\u007f")


# ------------------------------------------------------------------------------------------------------- what is in force


def effective(known: Iterable[Key], values: Mapping[str, Any], origins: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of what is in force: TOML, with a remark on where each value comes from.

    Args:
        known: All keys.
        values: By the names of keys.
        origins: The same.
    """
    for table, members in _tables(known):
        yield from ["", f"[{table}]"] if table else []
        for key in members:
            yield _line(key, values, origins)


def _line(key: Key, values: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    row = key.row
    if key.name in values:
        return with_origin(f"{key.path[-1]} = {toml(values[key.name], row.option)}", origins[key.name])
    if key.client:
        return f"# {key.path[-1]}: that of {row.name}"
    if row.default is None:
        return f"# {key.path[-1]}: {row.option.none.replace('``', '')}"
    return with_origin(f"{key.path[-1]} = {toml(row.default, row.option)}", "default")


def with_origin(line: str, origin: str) -> str:
    """Return a line of TOML with a remark on where it comes from."""
    return f"{line:{_WIDTH}}  # {origin}"


def settings_lines(
    settings: Mapping[str, Any], secrets: Collection[Path], document: Document, path: Path
) -> Iterator[str]:
    """Yield the lines of a filter's settings, without secrets.

    Args:
        settings: As tomllib has them.
        secrets: Paths of settings that are secrets, whatever their names.
        document: The file.
        path: Of the settings in it.
    """
    for key, value in settings.items():
        own = (*path, key)
        line = f"{name(key)} = {toml(hidden(value, own, secrets))}"
        yield with_origin(line, f"{document.name}:{document.line(own)}")


def hidden(value: Any, path: Path, secrets: Collection[Path]) -> Any:
    """Return a setting of a filter as it may be shown: without secrets, and without the passwords of URLs."""
    if is_reference(value):
        return value  # where it is, not what it is
    if isinstance(value, dict):
        return {name: hidden(one, (*path, name), secrets) for name, one in value.items()}
    if isinstance(value, list):
        return [hidden(one, (*path, number), secrets) for number, one in enumerate(value)]
    if path in secrets or suspicious(path):
        return _HIDDEN
    return without_password(value) if isinstance(value, str) else value


def without_password(text: str) -> str:
    """Return a text without the password of a URL in it."""
    scheme, mark, rest = text.partition("://")
    login, at, place = rest.partition("/")[0].rpartition("@")
    if not mark or not at or ":" not in login:
        return text
    end = rest[len(login) + len(at) + len(place) :]
    return f"{scheme}://{login.partition(':')[0]}:{_HIDDEN}@{place}{end}"


# ---------------------------------------------------------------------------------------------------- a file to start from


def commented(known: Iterable[Key], given: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """Yield the lines of every key, as a comment: what it is for, and its default.

    Args:
        known: The keys.
        given: Values of those that are set, by their paths with dots, as TOML has them.
    """
    for table, members in _tables(known):
        yield from ["", f"[{table}]"] if table else []
        for key in members:
            option = key.row.option
            if key.client:
                yield f"#{key.path[-1]} = {toml(key.row.default, option)}"
                continue
            text = f"{option.help} (default: {shown(key.row)})".replace("``", "")
            yield from wrap(text, 100, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
            if (value := given.get(".".join(key.path))) is not None:
                yield f"{key.path[-1]} = {value}"
                continue
            value = _EXAMPLES[option.kind] if key.row.default is None else toml(key.row.default, option)
            yield f"#{key.path[-1]} = {value}"


_EXAMPLES: Final[Mapping[Kind, str]] = {
    Kind.DURATION: "30",
    Kind.DURATIONS: "{ mail = 20, eom = 120 }",
    Kind.SIZE: '"64 MiB"',
    Kind.COUNT: "100",
    Kind.ANSWER: '"tempfail"',
    Kind.NETWORKS: '["127.0.0.0/8", "::1"]',
    Kind.DOMAINS: '["example.com"]',
    Kind.USERS: '["postfix"]',
    Kind.GROUPS: '["postfix"]',
    Kind.USER: '"root"',
    Kind.GROUP: '"postfix"',
    Kind.MODE: '"0660"',
    Kind.PATH: '"/etc/aiomilter/file"',
    Kind.SOCKETS: '["inet:8890@127.0.0.1"]',
    Kind.HTTP: '"127.0.0.1:9464"',
    Kind.IP: '"192.0.2.1"',
    Kind.LINE: '"text"',
    Kind.CHOICES: '["failed", "refused"]',
    Kind.SWITCH: "true",
}
"""Values of options that have no default."""


def _tables(known: Iterable[Key]) -> Iterator[tuple[str, list[Key]]]:
    """Yield the keys of each table together, those of none first: in a file nothing can follow a table that is in none."""
    ordered = sorted(known, key=lambda key: _order(key))
    for table, members in groupby(ordered, key=lambda key: ".".join(key.path[:-1])):
        yield table, list(members)


def _order(key: Key) -> tuple[bool, int]:
    tables = (
        "listen",
        "networks",
        "state",
        "socket",
        "limits",
        "deadlines",
        "failure",
        "access",
        "tls",
        "log",
        "record",
        "smtp",
    )
    return len(key.path) > 1, tables.index(key.path[0]) if key.path[0] in tables else len(tables)
