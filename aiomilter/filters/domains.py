"""Domains as settings name them, and what is set for each: by address, by domain, or for all below one."""

import re
from collections.abc import Container, Iterator
from typing import Final

from aiomilter.mail.domain import ascii_name
from aiomilter.mail.envelope import domain as domain_of
from aiomilter.mail.envelope import local_part

__all__ = ["covering", "covers", "domain_name", "key"]

_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*\Z"
)
_MOST_LABELS: Final = 128


def domain_name(text: str) -> str | None:
    """Return a domain name as A-labels in lower case, without a dot at its end; None if it is none."""
    name = (ascii_name(text.removesuffix(".")) or "").lower()
    return name if _NAME.match(name) else None


def key(text: str) -> str:
    """Return the key of a table by domains: an address, a domain, or with a dot in front all domains below one.

    Raises:
        ValueError: It is none of these.
    """
    local, at, domain = text.rpartition("@")
    below = not at and domain.startswith(".")
    name = domain_name(domain.removeprefix(".") if below else domain)
    if name is None or (at and not local):
        raise ValueError(f"expected an address, a domain, or one with a dot in front, found {text!r:.80}")
    return f"{local.lower()}@{name}" if at else f".{name}" if below else name


def covering(local: str, domain: str) -> Iterator[tuple[str, bool]]:
    """Yield the keys that cover an address, the most exact first, and whether each is that of a domain above its own.

    Args:
        local: Before the @; "" for a domain alone.
        domain: Behind it.
    """
    name = domain_name(domain)
    if name is None:
        return
    if local:
        yield f"{local.lower()}@{name}", False
    yield name, False
    for _ in range(_MOST_LABELS):
        name = name.partition(".")[2]
        if not name:
            return
        yield f".{name}", False
        yield name, True


def covers(keys: Container[str], address: str) -> bool:
    """Return whether one of several keys covers an address, without brackets."""
    return any(each in keys for each, _ in covering(local_part(address), domain_of(address)))
