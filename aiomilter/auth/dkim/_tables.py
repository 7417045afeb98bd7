"""OpenDKIM's tables, read as they are: which keys there are, and who signs with which.

A look-up touches as many rows as the author's domain has labels, however many there are.

Source: opendkim.conf(5), KeyTable and SigningTable; opendkim(8), DATA SETS.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from aiomilter.auth.dkim._key_source import KeySource
from aiomilter.auth.dkim._signature import domain_name

__all__ = ["OpenDkimTables", "Row", "read_tables"]

# Data sets that need a library or a server of their own.
_OTHERS: Final = ("db:", "dsn:", "ldap:", "ldaps:", "ldapi:", "lua:", "memcache:", "erlang:", "mdb:")


class Row(NamedTuple):
    """One row of a data set.

    Args:
        key: What is looked up: a name, an address, a pattern.
        value: What stands for it.
        number: Its line, or its place in a list.
    """

    key: str
    value: str
    number: int


class _DataSet:
    """Rows by their keys; of equal ones the first counts."""

    def __init__(self, rows: Iterator[Row], *, fold: bool) -> None:
        self.rows: dict[str, list[Row]] = {}
        for row in rows:
            self.rows.setdefault(row.key.lower() if fold else row.key, []).append(row)

    def __iter__(self) -> Iterator[Row]:
        return (row for rows in self.rows.values() for row in rows)

    def matches(self, address: str) -> Iterator[Row]:
        """Yield what an address matches, most exact first."""
        local, _, domain = address.rpartition("@")
        above = _above(domain)
        keys = (
            address,
            domain,
            *(f"{local}@{name}" for name in above),
            *above,
            f"{local}@*",
            "*",
        )
        for key in keys:
            yield from self.rows.get(key, ())


class _Patterns:
    """Rows whose keys are patterns, by what an address must have at its end or beginning to match them."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self.rows: dict[str, list[tuple[tuple[str, ...], Row]]] = {}
        for row in rows:
            parts = tuple(row.key.lower().split("*"))
            self.rows.setdefault(_bucket(parts), []).append((parts, row))

    def __iter__(self) -> Iterator[Row]:
        return (row for rows in self.rows.values() for _, row in rows)

    def matches(self, address: str) -> Iterator[Row]:
        """Yield what an address matches, in the order of the file."""
        local, _, domain = address.rpartition("@")
        keys = (address, f"@{domain}", *_above(domain), f"{local}@*", "")
        found = [row for key in keys for parts, row in self.rows.get(key, ()) if _fits(parts, address)]
        yield from sorted(found, key=lambda row: row.number)


def _above(domain: str) -> list[str]:
    """Return the domains above one, each with its dot: ``.example.com`` and ``.com`` of ``a.example.com``."""
    labels = domain.split(".")
    return ["." + ".".join(labels[number:]) for number in range(1, len(labels))]


def _bucket(parts: tuple[str, ...]) -> str:
    """Return what finds a pattern: an address, ``@domain``, ``.domain``, ``local@*``, or "" where nothing does."""
    if len(parts) == 1:
        return parts[0]
    end = parts[-1]
    if "@" in end:
        return "@" + end.rpartition("@")[2]
    if "." in end:
        return end[end.index(".") :]
    if not end and parts[0].endswith("@"):
        return parts[0] + "*"
    return ""


def _fits(parts: tuple[str, ...], text: str) -> bool:
    """Whether a text has these parts, in this order, with anything between."""
    first, *between = parts
    if not between:
        return text == first
    last = between.pop()
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in between:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def _read(setting: str, directory: Path) -> tuple[str, str, Iterator[Row]]:
    """Return a data set's kind, where it is, and its rows.

    Raises:
        OSError: Its file cannot be read.
        ValueError: It is of a kind that is not read here, or has a row without value.
    """
    kind, colon, rest = setting.partition(":")
    if setting.startswith(_OTHERS) or (setting.endswith(".db") and kind not in ("file", "refile", "csl")):
        raise ValueError(f"expected a data set of the kinds file:, refile: or csl:, found {setting!r}")
    if setting.startswith("/"):
        kind, colon, rest = "file", ":", setting
    if colon and kind in ("file", "refile"):
        path = directory / rest.strip()
        return kind, str(path), _rows(path, path.read_text("utf-8", "surrogateescape"))
    items = (rest if colon and kind == "csl" else setting).split(",")
    return "csl", "csl", _items([item.strip() for item in items if item.strip()])


def _rows(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split(None, 1)
        if len(words) == 1:
            raise ValueError(f"{path}:{number}: expected a name and a value, found {words[0]!r}")
        if words:
            yield Row(words[0], words[1].rstrip(), number)


def _items(items: list[str]) -> Iterator[Row]:
    for number, item in enumerate(items, 1):
        name, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"csl: expected NAME=VALUE, found {item!r}")
        yield Row(name.strip(), value.strip(), number)


class OpenDkimTables:
    """A KeyTable and a SigningTable.

    Args:
        where: Where the KeyTable is, for messages.
        keys: Its rows by name.
        signing: Those of the SigningTable.
        directory: What relative paths of key files are relative to.
        multiple: Whether all matches sign (MultipleSignatures), or the first.
    """

    def __init__(
        self, where: str, keys: dict[str, Row], signing: _DataSet | _Patterns, directory: Path, *, multiple: bool
    ) -> None:
        self._where = where
        self._keys = keys
        self._signing = signing
        self._directory = str(directory)
        self._multiple = multiple

    def __len__(self) -> int:
        """Return how many keys there are."""
        return len(self._keys)

    def sources(self, author: str) -> list[KeySource]:
        """Return where the keys are that sign for an author.

        Raises:
            ValueError: A row that depends on the author cannot be understood.
        """
        address = author.lower()
        domain = address.rpartition("@")[2]
        found: dict[KeySource, None] = {}
        for row in self._signing.matches(address):
            name, _, signer = row.value.partition(":")
            key = self._keys.get(domain if name.strip() == "%" else name.strip())
            if key is not None:
                found[self._source(key, domain, signer.strip())] = None
            if not self._multiple:
                break
        return list(found)

    def all(self) -> Iterator[KeySource]:
        """Yield where the keys are that do not depend on an author."""
        for row in self._keys.values():
            domain, _, place = row.value.split(":", 2)
            if domain.strip() != "%" and "%" not in place:
                yield self._source(row, "", "")

    def _source(self, row: Row, domain: str, signer: str) -> KeySource:
        signing, selector, place = (part.strip() for part in row.value.split(":", 2))
        signing = domain if signing == "%" else signing
        identity = signer.replace("%", domain)
        if identity and "@" not in identity:
            identity = "@" + identity
        where = f"{self._where}:{row.number}"
        if place.startswith(("/", "./", "../")):
            depends = "%" in place
            path = os.path.join(self._directory, place.replace("%", domain))
            return KeySource(signing, selector, path, identity=identity, optional=depends, place=where)
        return KeySource(signing, selector, None, data=place, identity=identity, place=where)


def read_tables(key_table: str, signing_table: str, directory: Path, *, multiple: bool = False) -> OpenDkimTables:
    """Read both tables.

    Args:
        key_table: The KeyTable: ``file:``, ``csl:``, or a path.
        signing_table: The SigningTable: ``file:``, ``refile:``, ``csl:``, or a path.
        directory: What relative paths are relative to.
        multiple: Whether all matches sign, or the first.
    Raises:
        OSError: A file cannot be read.
        ValueError: A row cannot be understood, or names a key that is not there.
    """
    kind, where, rows = _read(key_table, directory)
    if kind == "refile":
        raise ValueError("key_table: expected a data set of the kinds file: or csl:, found refile:")
    keys: dict[str, Row] = {}
    for row in rows:
        domain, _, rest = row.value.partition(":")
        selector, _, place = rest.partition(":")
        if not (domain and selector.strip() and place.strip()):
            raise ValueError(f"{where}:{row.number}: expected DOMAIN:SELECTOR:KEY, found {row.value[:80]!r}")
        if (domain != "%" and not domain_name(domain.strip())) or not domain_name(selector.strip()):
            found = f"{domain}:{selector}"
            raise ValueError(f"{where}:{row.number}: expected names of a domain and a selector, found {found[:80]!r}")
        keys.setdefault(row.key, row)
    kind, place, rows = _read(signing_table, directory)
    signing = _Patterns(rows) if kind == "refile" else _DataSet(rows, fold=True)
    for row in signing:
        name = row.value.partition(":")[0].rstrip()
        if name != "%" and name not in keys:
            raise ValueError(f"{place}:{row.number}: the key {name[:80]!r} is not in the key table")
    return OpenDkimTables(where, keys, signing, directory, multiple=multiple)
