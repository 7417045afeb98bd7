"""Servers that keep what filters remember."""

from collections.abc import Iterator

import pytest

from tests.interop.rigs.postgresql import PostgresqlServer
from tests.interop.rigs.redis import RedisServer
from tests.programs import need


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """Redis, for one test."""
    need(RedisServer.missing())
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """PostgreSQL, whose start takes seconds, for all tests: each has a prefix of its own."""
    need(PostgresqlServer.missing())
    server = PostgresqlServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()
