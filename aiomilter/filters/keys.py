"""The keys that ``sign`` and ``seal`` are set: a file, or its table ``[keys]`` itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from aiomilter.auth.dkim import KeyRing
from aiomilter.filters.site import Site

__all__ = ["KeyTable", "Keys", "key_ring"]


@dataclass(frozen=True, kw_only=True)
class KeyTable:
    """The keys of one domain, as in ``keys.toml``.

    Args:
        files: Of keys, each of which signs; its selector is the name of the file without ``.pem``.
        selector: Of the key that follows.
        key: A single one: a file, or ``{ credential = "NAME" }``, one of systemd's.
        subdomains: Whether they sign for the domains below, too.
        allow_weak: Whether RSA keys below 1024 bits sign.
    """

    files: tuple[Path, ...] = ()
    selector: str = ""
    key: Path | Mapping[str, str] | None = None
    subdomains: bool = False
    allow_weak: bool = False


Keys: TypeAlias = Path | str | Mapping[str, KeyTable] | KeyRing
"""A file, as :func:`aiomilter.auth.dkim.load_keys` reads it; what its table ``[keys]`` holds; or a ring of one's own."""


def key_ring(given: Keys, site: Site) -> KeyRing:
    """Return the ring of keys.

    Raises:
        ImportError: The library cryptography is not installed.
        ValueError: They cannot be read; the text begins with ``keys``.
    """
    try:
        if isinstance(given, str | Path):
            return site.key_ring(given)
        return (
            site.key_ring({name: _as_in_file(table) for name, table in given.items()})
            if isinstance(given, Mapping)
            else given
        )
    except OSError as error:
        raise ValueError(f"keys: {error.filename or given}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"keys: {error}") from None


def _as_in_file(table: KeyTable | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a table as the file has it."""
    if isinstance(table, Mapping):
        return table
    found: dict[str, Any] = {"subdomains": table.subdomains, "allow_weak": table.allow_weak}
    if table.files:
        found["files"] = [str(each) for each in table.files]
    if table.key is not None:
        found["key"] = table.key if isinstance(table.key, Mapping) else str(table.key)
        found["selector"] = table.selector
    return found
