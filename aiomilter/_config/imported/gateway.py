"""What comes of other programs' settings: a configuration file for ``aiomilter run``, and what it cannot hold."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from aiomilter._config.written import name, toml

__all__ = ["LOG", "SERVICE", "Gateway", "Given", "Left", "Rule", "left_out"]

_ORDER: Final = ("access", "authenticate", "srs", "known_senders", "reputation", "greylist", "sign")
"""In the file: checks before edits, what is cheap first."""


class Given(NamedTuple):
    """A setting of another program.

    Args:
        file: Where it stands.
        line: And in which line, from 1.
        name: Its name, as the program's documentation spells it.
        value: Its text.
    """

    file: str
    line: int
    name: str
    value: str


class Left(NamedTuple):
    """A setting without a counterpart, and why it has none."""

    given: Given
    why: str


@dataclass
class Gateway:
    """A configuration file in the making.

    Args:
        top: Keys at the top of the file.
        tables: Tables such as ``networks``, by name.
        filters: Settings of ready filters, by the name for ``use``.
        signing: What several settings say together of keys, by name: domains, key, selector, subdomains, two tables.
        files: Other files that it needs, with their text.
        left: What has no counterpart.
        to_do: What a person has to do, a sentence each.
    """

    top: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    filters: dict[str, dict[str, Any]] = field(default_factory=dict)
    signing: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    left: list[Left] = field(default_factory=list)
    to_do: list[str] = field(default_factory=list)

    def table(self, name: str) -> dict[str, Any]:
        """Return a table, made at its first use."""
        return self.tables.setdefault(name, {})

    def filter(self, use: str) -> dict[str, Any]:
        """Return the settings of a filter, which is asked for by that."""
        return self.filters.setdefault(use, {})

    def add_networks(self, name: str, networks: Iterable[str]) -> None:
        """Add to a list of ``[networks]`` what is not in it."""
        found: list[str] = self.table("networks").setdefault(name, [])
        found += [each for each in dict.fromkeys(networks) if each not in found]

    def do(self, sentence: str) -> None:
        """Note once what a person has to do."""
        if sentence not in self.to_do:
            self.to_do.append(sentence)

    def text(self) -> str:
        """Return the file, with what is left to a person as comments."""
        remarks = [
            *self.to_do,
            *(f"{each.given.name}, {each.given.file}:{each.given.line}: {each.why}" for each in self.left),
        ]
        # A comment of TOML has no control characters.
        lines = ["# " + "".join(one if one.isprintable() else "?" for one in remark) for remark in remarks]
        lines += [""] if lines else []
        lines += _pairs(self.top)
        for table, values in self.tables.items():
            lines += ["", f"[{table}]", *_pairs(values)]
        known = {use: place for place, use in enumerate(_ORDER)}
        for use in sorted(self.filters, key=known.__getitem__):
            lines += ["", "[[filter]]", *_pairs({"use": use, **self.filters[use]})]
        return "\n".join(lines) + "\n"


Rule = Callable[[Gateway, Given], str | None]
"""Puts a setting into a gateway; returns why it cannot, None if it has done so."""


def left_out(why: str) -> Rule:
    """Return the rule of a setting that has no counterpart."""
    return lambda gateway, given: why


SERVICE: Final = left_out("the service manager does this: examples/systemd/")
LOG: Final = left_out("the log has it; aiomilter help log")


def _pairs(values: dict[str, Any]) -> list[str]:
    return [f"{name(key)} = {toml(value)}" for key, value in values.items()]
