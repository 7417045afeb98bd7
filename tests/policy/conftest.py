"""Servers that keep what filters remember."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.rigs.postgresql import PostgresqlServer
from tests.interop.rigs.redis import RedisServer
from tests.programs import running


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """Redis, for one test."""
    yield from running(RedisServer)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """PostgreSQL, whose start takes seconds, for all tests: each has a prefix of its own."""
    yield from running(PostgresqlServer)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a key, a certificate for 127.0.0.1 that is its own authority, and one of somebody else."""
    directory = tmp_path_factory.mktemp("tls")
    command = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -addext subjectAltName=IP:127.0.0.1"
    )
    for name, key in (("cert.pem", "key.pem"), ("other.pem", "other-key.pem")):
        files = ["-keyout", str(directory / key), "-out", str(directory / name), "-subj", f"/CN={name}"]
        subprocess.run(["openssl", *command.split(), *files], check=True, capture_output=True)
    return directory
