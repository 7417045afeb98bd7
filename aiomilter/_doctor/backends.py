"""Services that the settings of a filter name, as clamd or Redis: does anything listen there?"""

import contextlib
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from aiomilter.addresses import Inet, Unix, parse
from aiomilter.exceptions import AddressError

__all__ = ["Backend", "away", "named"]

_PORTS: Final = {
    "redis": 6379,
    "rediss": 6379,
    "valkey": 6379,
    "postgresql": 5432,
    "postgres": 5432,
    "http": 80,
    "https": 443,
}
_PATIENCE: Final = 3.0
_MOST: Final = 50
_DEEPEST: Final = 10


class Backend(NamedTuple):
    """A service that a setting names.

    Args:
        setting: The key, with those above it.
        address: Where it is.
    """

    setting: str
    address: Inet | Unix


def named(settings: Mapping[str, Any], above: str = "", depth: int = 0) -> Iterator[Backend]:
    """Yield the services that settings name by an endpoint or a URL."""
    for key, value in settings.items():
        name = f"{above}{key}"
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Mapping) and depth < _DEEPEST:
                yield from named(one, f"{name}.", depth + 1)
            elif isinstance(one, str) and (address := _address(one)) is not None:
                yield Backend(name, address)


def _address(text: str) -> Inet | Unix | None:
    text = text.removeprefix("redis+")
    if text.startswith(("unix:/", "local:/", "inet:", "inet6:")):
        with contextlib.suppress(AddressError):
            found = parse(text)
            return found if isinstance(found, Unix) or (isinstance(found, Inet) and found.host and found.port) else None
        return None
    with contextlib.suppress(ValueError):
        url = urlsplit(text)
        if url.scheme in _PORTS and url.hostname:
            family = socket.AF_INET6 if ":" in url.hostname else socket.AF_INET
            return Inet(url.hostname, url.port or _PORTS[url.scheme], family)
    return None


def away(backends: Iterable[Backend]) -> list[tuple[Backend, str]]:
    """Return those where nothing listens, and what the system says of it."""
    found = []
    for backend in list(backends)[:_MOST]:
        try:
            _connect(backend.address)
        except OSError as error:
            found.append((backend, error.strerror or str(error)))
    return found


def _connect(address: Inet | Unix) -> None:
    if isinstance(address, Inet):
        socket.create_connection((address.host or "localhost", address.port), _PATIENCE).close()
        return
    with socket.socket(socket.AF_UNIX) as made:
        made.settimeout(_PATIENCE)
        made.connect(address.path)
