"""A gateway as a configuration file describes it, over a resolver, a store and a clock of the test's own."""

import argparse
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from aiomilter import Factory, mta
from aiomilter._cli.configured import Configuration, configured
from aiomilter._cli.target import load
from aiomilter._config.written import toml
from aiomilter.handler import Handler
from aiomilter.policy.stores.memory import MemoryStore
from aiomilter.secret import Secret
from aiomilter.testing import session
from aiomilter.testing.resolver import ZoneResolver

__all__ = ["KEY", "START", "Gateway", "factory", "gateway", "read", "written"]

KEY = b"0123456789abcdef"
"""Of the store."""
START = 1_700_000_000
"""Seconds since 1970, at the beginning of each."""


def written(filters: list[dict[str, Any]], **tables: Any) -> str:
    """Return the text of a configuration file."""
    top = [f"{name} = {toml(value)}" for name, value in tables.items()]
    each = [
        "\n".join(["[[filter]]", *(f"{name} = {toml(value)}" for name, value in table.items())]) for table in filters
    ]
    return "\n".join([*top, *each]) + "\n"


def read(path: Path) -> Configuration:
    """Return what a file amounts to."""
    return configured(argparse.Namespace(config=path.name, target=None), str(path.parent), {})


@dataclass
class Gateway:
    """A gateway that runs; each session is one of its connections."""

    make: Callable[[], Handler]
    now: float
    resolver: ZoneResolver
    store: MemoryStore

    def session(
        self,
        client: str = "192.0.2.1",
        hostname: str = "mail.out.example",
        helo: str = "mail.out.example",
        auth: str = "",
    ) -> AbstractAsyncContextManager[mta.Session]:
        """Begin a session; ``auth`` is the login."""
        login = {"auth_authen": auth, "auth_type": "PLAIN"} if auth else {}
        return session(self.make, client=client, hostname=hostname, helo=helo, macros={"j": "mx.corp.example", **login})


def factory(path: Path, resolver: ZoneResolver, store: MemoryStore | None = None) -> Factory:
    """Return the gateway of a file, over a resolver and a store of the test's own."""
    found = read(path)
    assert found.where is not None
    assert found.where.site is not None
    site = replace(
        found.where.site([], []),
        resolver=resolver,
        store=MemoryStore() if store is None else store,
        keys=(Secret(KEY.decode()),),
    )
    return load(replace(found.where, site=lambda faults, warnings: site))


@asynccontextmanager
async def gateway(path: Path, zone: str | Mapping[str, Any] = "") -> AsyncIterator[Gateway]:
    """Start the gateway of a file."""
    running: list[Gateway] = []
    store = MemoryStore(clock=lambda: round((running[0].now if running else START) * 1_000_000))
    resolver = ZoneResolver(zone)
    async with cast(Any, factory(path, resolver, store))() as make:
        running.append(Gateway(make, START, resolver, store))
        yield running[0]
