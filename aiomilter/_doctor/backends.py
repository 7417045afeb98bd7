"""Services that the settings of a filter name, as clamd or Redis: does anything listen there, and is it that?"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from aiomilter.addresses import Inet, Unix, parse
from aiomilter.exceptions import AddressError, StoreSettingsError
from aiomilter.policy.stores.urls import parse as parse_store

__all__ = ["Away", "Backend", "away", "named", "of_store"]

_PORTS: Final = {
    "redis": 6379,
    "rediss": 6379,
    "valkey": 6379,
    "postgresql": 5432,
    "postgres": 5432,
    "http": 80,
    "https": 443,
}
_PATIENCE: Final = 5.0
"""Seconds for a connection and an answer."""
_AT_ONCE: Final = 10
_MOST: Final = 50
_DEEPEST: Final = 10
_QUESTIONS: Final[Mapping[str, tuple[bytes, tuple[bytes, ...]]]] = {
    "clamd": (b"zPING\0", (b"PONG",)),
    "spamd": (b"PING SPAMC/1.2\r\n\r\n", (b"SPAMD/",)),
    "rspamd": (b"GET /ping HTTP/1.0\r\n\r\n", (b"HTTP/1.",)),
    # One that wants a password says so.
    "redis": (b"*1\r\n$4\r\nPING\r\n", (b"+PONG", b"-NOAUTH")),
}
"""What services are asked that changes nothing, and how their answers begin.

Source: clamd(8), PING; spamd(8); rspamd(8).
"""
_LONGEST: Final = 4
"""Octets of an answer that are looked at."""


class Backend(NamedTuple):
    """A service that a setting names.

    Args:
        setting: The key, with those above it.
        address: Where it is; of a file, its path.
        kind: What is known to be there: ``clamd``, ``spamd``, ``rspamd``, ``redis`` or ``file``; "" for nothing.
    """

    setting: str
    address: Inet | Unix
    kind: str = ""


class Away(NamedTuple):
    """A service that does not serve.

    Args:
        backend: Which.
        said: What the system says of it, or what is wrong with its answer.
        listens: Whether something listens there.
    """

    backend: Backend
    said: str
    listens: bool = False


def named(settings: Mapping[str, Any], above: str = "", depth: int = 0) -> Iterator[Backend]:
    """Yield the services that settings name by an endpoint or a URL."""
    for key, value in settings.items():
        name = f"{above}{key}"
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Mapping) and depth < _DEEPEST:
                yield from named(one, f"{name}.", depth + 1)
            elif isinstance(one, str) and (address := _address(one)) is not None:
                yield Backend(name, address)


def of_store(url: str, setting: str) -> Iterator[Backend]:
    """Yield what the URL of a store names: servers, or the file of one that is a file."""
    try:
        found = parse_store(url)
    except StoreSettingsError:
        return  # the start says so
    if found.scheme == "sqlite":
        yield Backend(setting, Unix(found.path), "file")
    elif found.scheme == "redis+unix":
        yield Backend(setting, Unix(found.path), "redis")
    # One with TLS speaks to nobody without, and a sentinel is asked by another protocol.
    kind = "redis" if found.scheme == "redis" else ""
    for host, port in found.hosts:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        yield Backend(setting, Inet(host, port, family), kind)


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


async def away(backends: Iterable[Backend], timeout: float = _PATIENCE) -> list[Away]:
    """Return those that do not serve: nothing listens, or what does is something else, or does not answer.

    Args:
        backends: Which.
        timeout: Seconds for each.
    """
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(backend: Backend) -> Away | None:
        async with slots:
            return await _away(backend, timeout)

    found = await asyncio.gather(*map(one, list(dict.fromkeys(backends))[:_MOST]))
    return [each for each in found if each is not None]


async def _away(backend: Backend, timeout: float) -> Away | None:
    if backend.kind == "file":
        return _unwritable(backend)
    try:
        async with asyncio.timeout(timeout) as deadline:
            reader, writer = await _connected(backend.address)
    except TimeoutError as error:
        return Away(backend, f"no connection in {timeout:g} s" if deadline.expired() else str(error))
    except OSError as error:
        return Away(backend, _said(error))
    try:
        if backend.kind not in _QUESTIONS:
            return None
        question, answers = _QUESTIONS[backend.kind]
        async with asyncio.timeout(timeout):
            writer.write(question)
            found = await _beginning(reader)
    except TimeoutError:
        return Away(backend, f"no answer in {timeout:g} s", listens=True)
    except OSError as error:
        return Away(backend, _said(error), listens=True)
    finally:
        writer.close()
    if found.startswith(tuple(each[:_LONGEST] for each in answers)):
        return None
    return Away(backend, f"it answers {found.decode('ascii', 'replace')!r}" if found else "it hangs up", listens=True)


def _said(error: OSError) -> str:
    # asyncio has a text of its own, with the address once more; getaddrinfo has numbers below zero.
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)


async def _connected(address: Inet | Unix) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(address, Inet):
        return await asyncio.open_connection(address.host or "localhost", address.port)
    return await asyncio.open_unix_connection(address.path)


async def _beginning(reader: asyncio.StreamReader) -> bytes:
    """Return the first octets of an answer; fewer if the connection ends before."""
    try:
        return await reader.readexactly(_LONGEST)
    except asyncio.IncompleteReadError as error:
        return error.partial


def _unwritable(backend: Backend) -> Away | None:
    """Return what keeps a file from being made, for us: the filter may run as another user."""
    assert isinstance(backend.address, Unix)
    directory = os.path.dirname(os.path.abspath(backend.address.path))
    if not os.path.isdir(directory):
        return Away(backend, f"there is no directory {directory}")
    if os.path.isdir(backend.address.path):
        return Away(backend, "it is a directory")
    return None
