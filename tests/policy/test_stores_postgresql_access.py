"""Who a real PostgreSQL lets in, and over what: passwords and certificates; one line says why not, without the password."""

import asyncio
import logging
import shutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiomilter._cli import main
from aiomilter.exceptions import StoreError
from aiomilter.policy.stores import open_store
from tests.interop.rigs.postgresql import PostgresqlServer
from tests.patience import PATIENCE
from tests.policy.test_fault_matrix import WITHOUT_STORE, Policies
from tests.policy.test_stores import note
from tests.policy.test_stores_at_start import EXAMPLE
from tests.policy.test_stores_postgresql import ask
from tests.policy.test_stores_redis import SECRET, outcome

pytestmark = [pytest.mark.interop, pytest.mark.slow]
PASSWORD, ENCODED, WRONG = "right one: 100%", "right%20one%3A%20100%25", "n0t-th1s"


@pytest.fixture(scope="module")
def guarded(postgresql_server: PostgresqlServer) -> PostgresqlServer:
    """A server with a user who needs a password and has a database, and one who needs none and has none."""
    for query in (
        f"create role guarded login password '{PASSWORD}'",
        "create database guarded owner guarded",
        "create role visitor login",
    ):
        asyncio.run(ask(postgresql_server, query))
    return postgresql_server


def url_of(server: PostgresqlServer, login: str, rest: str = "/guarded", host: str = "127.0.0.1") -> str:
    return f"postgresql://{login}@{host}:{server.port}{rest}"


REFUSED = [
    ("guarded", WRONG, "/guarded", 'password authentication failed for user "guarded"'),
    ("guarded", None, "/guarded", 'password authentication failed for user "guarded"'),
    ("stranger", WRONG, "/guarded", 'password authentication failed for user "stranger"'),
    ("guarded", PASSWORD, "/nowhere", 'database "nowhere" does not exist'),
    ("visitor", WRONG, "/guarded", "permission denied for schema public"),
]


@pytest.mark.parametrize(("user", "password", "rest", "why"), REFUSED)
async def test_who_is_refused_is_told_in_one_line_in_time(
    guarded: PostgresqlServer,
    caplog: pytest.LogCaptureFixture,
    user: str,
    password: str | None,
    rest: str,
    why: str,
) -> None:
    told = list[str]()
    caplog.set_level(logging.DEBUG)
    where = url_of(guarded, user, rest)
    async with open_store(where, keys=[SECRET], password=password, on_change=told.append, timeout=PATIENCE) as store:
        assert await store.ready() == f"PostgreSQL: {why}"
        for _ in range(3):
            with pytest.raises(StoreError) as caught:
                await store.step(*note("a"))
    assert told == [f"the store is down: PostgreSQL: {why}"]
    async with open_store(where, keys=[SECRET], password=password, on_change=told.append) as store:
        policies = Policies(store)
        await policies.fails_in_time()
        assert await policies.verdicts() == WITHOUT_STORE
    shown = f"{told} {caplog.text} {store!r} {store.store!r} {traceback.format_exception(caught.value)}"
    assert (password or WRONG) not in shown
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("given", ["url", "argument", "variable"])
async def test_the_right_password_is_taken(
    guarded: PostgresqlServer, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    login = f"guarded:{ENCODED}" if given == "url" else "guarded"
    password = PASSWORD if given == "argument" else None
    if given == "variable":
        monkeypatch.setenv("PGPASSWORD", PASSWORD)
    async with open_store(url_of(guarded, login), keys=[SECRET], password=password, timeout=PATIENCE) as store:
        assert await store.ready() is None
        assert await outcome(store) == ""


def test_commands_say_so_in_one_line(
    guarded: PostgresqlServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "password").write_bytes(b"\xff\n")
    where = url_of(guarded, f"guarded:{WRONG}")
    assert main(["state", "export", where]) == 1
    assert capfd.readouterr() == ("", 'aiomilter: PostgreSQL: password authentication failed for user "guarded"\n')
    assert main(["state", "export", where, "--password-file", str(tmp_path / "password")]) == 1
    said = "expected a username and password in UTF-8 without control characters"
    assert capfd.readouterr() == ("", f"aiomilter: postgresql: {said}\n")


def test_a_filter_starts_with_one_warning_and_mail_goes_on(
    guarded: PostgresqlServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    shutil.copy(EXAMPLE, "rates_of_guarded.py")
    Path("message.eml").write_bytes(b"Subject: x\r\n\r\nHello\r\n")
    Path("key").write_bytes(b"k" * 32)
    monkeypatch.setenv("STORE", url_of(guarded, f"guarded:{WRONG}"))
    monkeypatch.setenv("STORE_KEYS", "key")
    assert main(["check", "rates_of_guarded.py", "message.eml", "--macro", "auth_authen=bob"]) == 0
    del sys.modules["rates_of_guarded"]
    out, err = capfd.readouterr()
    assert "250 2.0.0 Ok" in out
    (record,) = caplog.records
    assert record.exc_info is None
    assert record.getMessage().startswith("the store is down, each process counts alone: ")
    assert "\n" not in record.getMessage()
    assert WRONG not in out + err + caplog.text


async def test_a_server_that_takes_nothing_is_not_ready_and_can_be_read(
    guarded: PostgresqlServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """As a replica."""
    where = url_of(guarded, f"guarded:{ENCODED}")
    async with open_store(where, keys=[SECRET], timeout=PATIENCE) as store:
        assert await store.ready() is None
    await ask(guarded, "alter role guarded set default_transaction_read_only = on")
    try:
        async with open_store(where, keys=[SECRET], timeout=PATIENCE) as store:
            assert await store.ready() == "PostgreSQL: cannot execute INSERT in a read-only transaction"
            assert await store.ready(reads_only=True) is None
        assert await asyncio.to_thread(main, ["state", "export", where]) == 0
        assert capfd.readouterr().err == ""
    finally:
        await ask(guarded, "alter role guarded reset default_transaction_read_only")


WORDS: dict[str, bytes] = {
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "an authentication without a nonce": b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0R\0\0\0\x0b\0\0\0\x0bx=y",
    "an authentication that nobody knows": b"R\0\0\0\x08\0\0\0\x63",
    "an error without a text": b"E\0\0\0\x05\0",
}


@pytest.mark.parametrize("words", WORDS)
async def test_a_server_that_speaks_something_else_is_a_problem_of_the_store(words: str) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(WORDS[words])
        await reader.read(1000)
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        where = f"postgresql://u:{WRONG}@127.0.0.1:{port}/x?sslmode=disable"
        async with open_store(where, keys=[SECRET], timeout=0.5) as store:
            problem = await store.ready()
            assert problem
            assert await outcome(store) != ""
    assert WRONG not in problem
    assert "\n" not in problem


@pytest.fixture
def speaking_tls(guarded: PostgresqlServer, certificates: Path) -> Iterator[PostgresqlServer]:
    guarded.speak_tls(certificates / "cert.pem", certificates / "key.pem")
    yield guarded
    guarded.speak_no_tls()


UNKNOWN, NAME = "CERTIFICATE_VERIFY_FAILED", "Hostname mismatch"


@pytest.mark.parametrize(
    ("host", "query", "tls", "why"),
    [
        ("127.0.0.1", "ca=cert.pem", True, ""),
        ("127.0.0.1", "sslrootcert=cert.pem", True, ""),
        ("127.0.0.1", "sslmode=verify-full&sslrootcert=cert.pem", True, ""),
        ("127.0.0.1", "sslmode=verify-full", True, UNKNOWN),
        ("127.0.0.1", "sslmode=verify-full&sslrootcert=system", True, UNKNOWN),
        ("127.0.0.1", "sslrootcert=system", True, UNKNOWN),
        ("127.0.0.1", "ca=other.pem", True, UNKNOWN),
        ("127.0.0.1", "sslmode=verify-ca&ca=other.pem", True, UNKNOWN),
        ("127.0.0.1", "sslmode=verify-ca", True, UNKNOWN),
        ("127.0.0.1", "sslmode=require&ca=other.pem", True, UNKNOWN),
        ("localhost", "ca=cert.pem", True, NAME),
        ("localhost", "sslmode=verify-full&ca=cert.pem", True, NAME),
        ("localhost", "sslmode=verify-ca&ca=cert.pem", True, ""),
        ("localhost", "sslmode=require&ca=cert.pem", True, ""),
        ("localhost", "sslmode=require", True, ""),
        ("127.0.0.1", "sslmode=prefer", True, ""),
        ("127.0.0.1", "", True, ""),
        ("127.0.0.1", "sslmode=disable", False, ""),
    ],
)
async def test_tls_is_spoken_with_a_server_as_the_url_asks(
    speaking_tls: PostgresqlServer, certificates: Path, host: str, query: str, tls: bool, why: str
) -> None:
    query = query.replace("=cert", f"={certificates}/cert").replace("=other", f"={certificates}/other")
    where = url_of(speaking_tls, f"guarded:{ENCODED}", f"/guarded?{query}", host)
    async with open_store(where, keys=[SECRET], timeout=PATIENCE) as store:
        said = await store.ready() or ""
        assert why in said
        assert bool(said) is bool(why)
        assert "\n" not in said
        over = "select ssl from pg_stat_ssl join pg_stat_activity using (pid) where usename = 'guarded'"
        if not why:
            assert await ask(speaking_tls, over) == [(tls,)]


@pytest.mark.parametrize(
    ("mode", "why"),
    [("require", "rejected SSL upgrade"), ("verify-full", "rejected SSL upgrade"), ("prefer", ""), ("disable", "")],
)
async def test_what_a_server_without_tls_gets_depends_on_the_mode(
    guarded: PostgresqlServer, mode: str, why: str
) -> None:
    where = url_of(guarded, f"guarded:{ENCODED}", f"/guarded?sslmode={mode}")
    async with open_store(where, keys=[SECRET], timeout=PATIENCE) as store:
        said = await store.ready() or ""
    assert why in said
    assert bool(said) is bool(why)


@pytest.mark.parametrize(
    ("mode", "query", "why"),
    [("require", "", "rejected SSL upgrade"), ("verify", "", "must be one of"), ("require", "?sslmode=prefer", "")],
)
async def test_the_variable_counts_where_the_url_names_no_mode(
    guarded: PostgresqlServer, monkeypatch: pytest.MonkeyPatch, mode: str, query: str, why: str
) -> None:
    monkeypatch.setenv("PGSSLMODE", mode)
    where = url_of(guarded, f"guarded:{ENCODED}", f"/guarded{query}")
    async with open_store(where, keys=[SECRET], timeout=PATIENCE) as store:
        said = await store.ready() or ""
    assert why in said
    assert bool(said) is bool(why)
