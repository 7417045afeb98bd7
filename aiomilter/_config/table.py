"""The keys of a configuration file, made from tables of options, and the options that given values amount to.

A key, a flag and a variable of the environment set the same thing; :class:`Key` has the names of all three.  Values are kept
by the name of a key until flags, environment and file are put together: one of them may set ``on_error``, and another the
same for clients that have logged in.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiomilter._option import Kind, Row, rows
from aiomilter.failures import FailurePolicy
from aiomilter.wire.constants import Stage

__all__ = ["CLIENTS", "Key", "assembled", "divided", "keys", "together"]

CLIENTS: Final[Mapping[str, str]] = {
    "local": "clients without an address or on the loopback",
    "authenticated": "clients that have logged in",
}
"""The fields of a FailurePolicy that have keys of their own."""


class Key(NamedTuple):
    """What one key of a file sets.

    Args:
        row: The option.
        client: The class of clients that an answer is for; "" for all others.
    """

    row: Row
    client: str

    @property
    def name(self) -> str:
        """The name of its value, unique in all tables."""
        return f"{self.row.name}{self._end}"

    @property
    def path(self) -> tuple[str, ...]:
        """Where it stands in a file: its table and its name there."""
        return tuple(f"{self.row.toml}{self._end}".split("."))

    @property
    def flag(self) -> str:
        """The name on the command line, with the dashes; keys may share one."""
        return f"--{self.row.command}{self._end.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """The name in the environment."""
        return f"AIOMILTER_{self.flag[2:].upper().replace('-', '_')}"

    @property
    def _end(self) -> str:
        return f"_{self.client}" if self.client else ""


def keys(*tables: type[Any]) -> Iterator[Key]:
    """Yield the keys of tables, in their order."""
    for table in tables:
        for row in rows(table):
            if row.toml is not None:
                yield Key(row, "")
                if row.option.by_client:
                    yield from (Key(row, client) for client in CLIENTS)


def divided(
    times: Iterable[tuple[Stage | None, float | None]], plain: str, by_stage: str
) -> Iterator[tuple[str, float | dict[Stage, float | None] | None]]:
    """Yield what times are for: the one without a stage, and those by stage; the last one of each prevails.

    Args:
        times: As :data:`aiomilter._config.values.EITHER` reads them.
        plain: The name of the key of the first.
        by_stage: That of the others.
    """
    stages: dict[Stage, float | None] = {}
    for stage, seconds in times:
        if stage is None:
            yield plain, seconds
        else:
            stages[stage] = seconds
    if stages:
        yield by_stage, stages


def together(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values of all layers by the names of their keys; the last one that has a value prevails.

    Times by stage are put together stage by stage.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            before = values.get(name)
            values[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return values


def assembled(values: Mapping[str, Any], table: type[Any]) -> dict[str, Any]:
    """Return the options of a table that values amount to, by the names of their fields."""
    found: dict[str, Any] = {}
    for row in rows(table):
        if row.option.by_client:
            answers = {client: values[f"{row.name}_{client}"] for client in CLIENTS if f"{row.name}_{client}" in values}
            if answers or row.name in values:
                other = values.get(row.name, row.default)
                found[row.name] = FailurePolicy(other=other, **{**dict.fromkeys(CLIENTS, other), **answers})
        elif row.name in values and (row.option.kind is not Kind.DURATIONS or values[row.name]):
            found[row.name] = values[row.name]
    return found
