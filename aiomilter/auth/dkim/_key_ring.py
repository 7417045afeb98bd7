"""Who signs with which keys: a file of keys in TOML, or OpenDKIM's tables.

Source: opendkim.conf(5), KeyTable and SigningTable.
"""

import os
import tomllib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from aiomilter.auth.dkim._crypto import in_thread, require
from aiomilter.auth.dkim._key import Key
from aiomilter.auth.dkim._key_source import KeySource
from aiomilter.auth.dkim._signature import domain_name
from aiomilter.auth.dkim._tables import OpenDkimTables, read_tables
from aiomilter.exceptions import StoreError

__all__ = ["KeyFile", "KeyRing", "load_keys"]

_EAGER: Final = 64
"""Keys that are loaded at once, so that a bad one shows at the start; of more, each is loaded when it is first asked for."""
_MAX_LOADED: Final = 10_000
_KEY_SETTINGS: Final = frozenset({"files", "selector", "key", "subdomains", "allow_weak"})
_TABLE_SETTINGS: Final = frozenset({"key_table", "signing_table", "multiple_signatures"})
_SECTIONS: Final = frozenset({"keys", "seal", "opendkim"})


@runtime_checkable
class KeyRing(Protocol):
    """Knows which keys sign a message: what a signing filter takes."""

    async def keys(self, author: str, sender: str, auth: str | None) -> Sequence[Key]:
        """Return the keys that sign a message, none if it is not signed.

        Args:
            author: The address in From.
            sender: The envelope sender.
            auth: The login; None if there is none.
        Raises:
            StoreError: A key cannot be read now.
        """
        ...


class _Domain:
    """One table of ``[keys]``."""

    __slots__ = ("sources", "subdomains")

    def __init__(self, sources: tuple[KeySource, ...], *, subdomains: bool) -> None:
        self.sources = sources
        self.subdomains = subdomains


class _Contents:
    """What a key file says, never changed: a reload makes a new one."""

    __slots__ = ("domains", "loaded", "seal", "tables")

    def __init__(self, domains: dict[str, _Domain], tables: OpenDkimTables | None, seal: str) -> None:
        self.domains = domains
        self.tables = tables
        self.seal = seal
        # The least recently used first.
        self.loaded: OrderedDict[KeySource, Key | None] = OrderedDict()

    def sources(self, author: str) -> Sequence[KeySource]:
        """Return where the keys are that sign for an author."""
        local, _, written = author.rpartition("@")
        domain = domain_name(written.removesuffix("."))
        if domain is None:
            return ()
        for name, own in _names(domain):
            found = self.domains.get(name)
            if found is not None and (own or found.subdomains):
                return found.sources
        return () if self.tables is None else self.tables.sources(f"{local}@{domain}")

    def all(self) -> Iterator[KeySource]:
        """Yield where all keys are, those apart that depend on an author."""
        for domain in self.domains.values():
            yield from domain.sources
        if self.tables is not None:
            yield from self.tables.all()

    def keep(self, source: KeySource, key: Key | None) -> None:
        """Remember a key that was loaded."""
        self.loaded[source] = key
        self.loaded.move_to_end(source)
        while len(self.loaded) > _MAX_LOADED:
            self.loaded.popitem(last=False)


class KeyFile:
    """The keys of one file, or of the tables it names; see :func:`load_keys`.

    Args:
        source: The file, or what its table ``[keys]`` would hold.
    """

    def __init__(self, source: str | os.PathLike[str] | Mapping[str, Any]) -> None:
        require()
        self.path: Path | None = None if isinstance(source, Mapping) else Path(source)
        """The file; None without one."""
        self._contents = _of_table(source) if isinstance(source, Mapping) else _read(Path(source))

    @property
    def seal_domain(self) -> str:
        """The domain whose keys seal (ARC): that of ``[seal]``, or the only one; "" where neither says."""
        contents = self._contents
        if contents.seal:
            return contents.seal
        return next(iter(contents.domains)) if len(contents.domains) == 1 and contents.tables is None else ""

    async def keys(self, author: str, sender: str = "", auth: str | None = None) -> Sequence[Key]:
        """Return the keys that sign for an author; see :meth:`KeyRing.keys`.

        Envelope sender and login make no difference here.
        """
        contents = self._contents
        found = []
        try:
            for source in contents.sources(author):
                if source in contents.loaded:
                    contents.loaded.move_to_end(source)
                else:
                    contents.keep(source, await in_thread(source.load))
                if (key := contents.loaded.get(source)) is not None:
                    found.append(key)
        except (OSError, ValueError) as error:
            raise StoreError(f"a key for {author!r} cannot be read: {error}") from error
        return found

    async def reload(self) -> None:
        """Read the file again; keys that messages under way have got stay theirs.

        Raises:
            OSError: It cannot be read; what was there stays.
            ValueError: It cannot be understood; what was there stays.
        """
        path = self.path
        if path is not None:
            self._contents = await in_thread(lambda: _read(path))

    def sources(self) -> Iterator[KeySource]:
        """Yield where all keys are, for those who check them."""
        return self._contents.all()


def load_keys(source: str | os.PathLike[str] | Mapping[str, Any]) -> KeyFile:
    """Read a file of keys; relative paths in it are relative to the file.

    ::

        [keys."example.com"]            # any number of keys: all sign
        files = ["2026q4.pem"]          # the selector is the name without .pem
        subdomains = true               # news.example.com signs with d=example.com

        [keys."example.org"]
        selector = "s1"
        key = "example.org.key"         # or { credential = "dkim-org" }, one of systemd's

        [seal]
        domain = "example.com"          # whose key seals (ARC)

        [opendkim]                      # or OpenDKIM's tables, as they are
        key_table = "/etc/opendkim/key.table"
        signing_table = "refile:/etc/opendkim/signing.table"
        multiple_signatures = false     # all matches sign, or the first

    A domain of ``[keys]`` comes before the tables.  Up to 64 keys are loaded at once; of more, each when it is first asked for,
    in a thread.

    Args:
        source: The file; or what its table ``[keys]`` would hold, with paths relative to the current directory.
    Raises:
        ImportError: The library cryptography is not installed.
        OSError: The file, or one that it names, cannot be read.
        ValueError: Something in it is not as above, or a key cannot be used; says where.
    """
    return KeyFile(source)


def _names(domain: str) -> Iterator[tuple[str, bool]]:
    """Yield a domain and those above it, and whether it is the domain itself."""
    yield domain, True
    while "." in domain:
        domain = domain.partition(".")[2]
        yield domain, False


def _read(path: Path) -> _Contents:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    return _with_keys(_contents(document, path), path)


def _of_table(table: Mapping[str, Any]) -> _Contents:
    contents = _Contents({}, None, "")
    for written, settings in table.items():
        contents.domains.update(_named_domain(written, settings, "", Path()))
    return _with_keys(contents, None)


def _with_keys(contents: _Contents, path: Path | None) -> _Contents:
    """Return contents with the keys loaded that are loaded at once."""
    number = len(contents.tables) if contents.tables is not None else 0
    number += sum(len(domain.sources) for domain in contents.domains.values())
    for source in contents.all():
        if number <= _EAGER:
            contents.keep(source, source.load())
        elif source.path is not None and (path is None or source.place.startswith(str(path))):
            os.stat(source.path)
    return contents


def _contents(document: Mapping[str, Any], path: Path) -> _Contents:
    _refuse_unknown(document, _SECTIONS, str(path))
    domains: dict[str, _Domain] = {}
    for written, settings in _table(document, "keys", f"{path}: keys").items():
        domains.update(_named_domain(written, settings, f"{path}: keys.", path.parent))
    tables = None
    if "opendkim" in document:
        tables = _tables(_table(document, "opendkim", f"{path}: opendkim"), f"{path}: opendkim", path.parent)
    seal = _table(document, "seal", f"{path}: seal")
    _refuse_unknown(seal, {"domain"}, f"{path}: seal")
    sealing = domain_name(_text(seal, "domain", f"{path}: seal")) if seal else ""
    if sealing is None or (sealing and sealing not in domains and tables is None):
        raise ValueError(f"{path}: seal: expected a domain that has keys, found {seal['domain']!r}")
    return _Contents(domains, tables, sealing)


def _named_domain(written: str, settings: Any, where: str, directory: Path) -> dict[str, _Domain]:
    """Return the keys of a domain, by its name in A-labels."""
    place = f'{where}"{written}"'
    name = domain_name(written)
    if name is None:
        raise ValueError(f"{place}: expected a domain name")
    return {name: _domain(name, settings, place, directory)}


def _domain(name: str, settings: Any, where: str, directory: Path) -> _Domain:
    if not isinstance(settings, dict):
        raise ValueError(f"{where}: expected a table, found {settings!r}")
    _refuse_unknown(settings, _KEY_SETTINGS, where)
    weak = _flag(settings, "allow_weak", where)
    files = settings.get("files", [])
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise ValueError(f"{where}: files: expected a list of paths")
    found = [
        KeySource(name, Path(file).name.removesuffix(".pem"), str(directory / file), allow_weak=weak, place=where)
        for file in files
    ]
    if "key" in settings:
        selector = _text(settings, "selector", where)
        found.append(
            KeySource(name, selector, _key_path(settings["key"], where, directory), allow_weak=weak, place=where)
        )
    if not found:
        raise ValueError(f"{where}: expected files, or selector and key")
    return _Domain(tuple(found), subdomains=_flag(settings, "subdomains", where))


def _key_path(value: Any, where: str, directory: Path) -> str:
    match value:
        case str():
            return str(directory / value)
        case {"credential": str(name)} if len(value) == 1 and name and "/" not in name and name not in (".", ".."):
            credentials = os.environ.get("CREDENTIALS_DIRECTORY")
            if credentials is None:
                raise ValueError(f"{where}: key: there are no credentials (CREDENTIALS_DIRECTORY is not set)")
            return os.path.join(credentials, name)
        case _:
            raise ValueError(f'{where}: key: expected a path or {{ credential = "NAME" }}, found {value!r}')


def _tables(settings: Mapping[str, Any], where: str, directory: Path) -> OpenDkimTables:
    _refuse_unknown(settings, _TABLE_SETTINGS, where)
    keys, signing = _text(settings, "key_table", where), _text(settings, "signing_table", where)
    return read_tables(keys, signing, directory, multiple=_flag(settings, "multiple_signatures", where))


def _table(document: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    value = document.get(name, {})
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected a table, found {value!r}")
    return value


def _text(settings: Mapping[str, Any], name: str, where: str) -> str:
    value = settings.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where}: {name}: expected a text, found {value!r}")
    return value


def _flag(settings: Mapping[str, Any], name: str, where: str) -> bool:
    value = settings.get(name, False)
    if not isinstance(value, bool):
        raise ValueError(f"{where}: {name}: expected true or false, found {value!r}")
    return value


def _refuse_unknown(settings: Mapping[str, Any], known: frozenset[str] | set[str], where: str) -> None:
    for name in settings:
        if name not in known:
            raise ValueError(f"{where}: expected one of {', '.join(sorted(known))}, found {name!r}")
