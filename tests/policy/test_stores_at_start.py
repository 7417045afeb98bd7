"""What is wrong with a store is one line when a filter starts; a server that is down is a warning, and mail goes on."""

import re
import shutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiomilter._cli import main
from aiomilter.exceptions import StoreSettingsError
from aiomilter.policy.stores import open_store, urls

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "user_rates.py"
MODES = "disable, prefer, require, verify-ca, verify-full"
NO_CERTIFICATE = "[X509: NO_CERTIFICATE_OR_CRL_FOUND] no certificate or crl found (_ssl.c:LINE)"
FORMS = "memory:, sqlite:PATH, redis://HOST:PORT/NUMBER, rediss://, redis+unix:PATH or postgresql://HOST/NAME"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with the example, a message and a key that is too short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    shutil.copy(EXAMPLE, "f.py")
    Path("message.eml").write_bytes(b"Subject: x\r\n\r\nHello\r\n")
    Path("short").write_bytes(b"too short")
    Path("key").write_bytes(b"k" * 32)
    yield tmp_path
    for name in [name for name, module in sys.modules.items() if str(tmp_path) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("store", "key", "line"),
    [
        ("mysql://x", "", f"expected {FORMS}, found one that begins with 'mysql'"),
        ("", "", f"expected {FORMS}, found one that begins with ''"),
        ("redis://", "key", "redis: expected a host, as in redis://127.0.0.1"),
        ("redis://u:s3cret@h:x", "key", "redis: expected a port of 1 to 65535, found 'x'"),
        ("redis://h/x", "key", "redis: expected the number of a database, found 'x'"),
        ("redis://h", "", "redis: expected keys=, since all machines have to make the same keys"),
        ("redis://h", "short", "cannot take keys from 'short': keys: expected secrets of 16 octets or more"),
        ("redis://h", "none", "cannot take keys from 'none': No such file or directory"),
        ("rediss://h?ca=no", "key", "cannot read the authorities in 'no': [Errno 2] No such file or directory: 'no'"),
        ("memory:?x=1", "", "memory: unknown 'x'"),
        ("memory:?max_keys=0", "", "memory: expected a number for max_keys, found '0'"),
        ("sqlite:/nowhere/s", "", "cannot make or read the secret /nowhere/s.key: No such file or directory"),
        ("postgresql://h,i/x", "key", "postgresql: expected one host; several are sentinels, and need ?sentinel=NAME"),
        ("rediss://h?ca=short", "key", f"cannot read the authorities in 'short': {NO_CERTIFICATE}"),
        ("postgresql://h?ca=no", "key", "cannot read the authorities in 'no': [Errno 2] No such file or directory: 'no'"),
        ("postgresql://h?sslrootcert=short", "key", f"cannot read the authorities in 'short': {NO_CERTIFICATE}"),
        ("postgresql://h?sslmode=allow", "key", f"postgresql: expected sslmode {MODES}, found 'allow'"),
        ("postgresql://h?sslmode=", "key", f"postgresql: expected sslmode {MODES}, found ''"),
        ("postgres://h?sslcert=x", "key", "postgresql: unknown 'sslcert'; taken are ca, sslmode, sslrootcert"),
        ("postgresql://h?ca=key&sslrootcert=key", "key", "postgresql: ca and sslrootcert are the same; expected one of them"),
        ("postgresql://h?ca=key&sslmode=disable", "key",
         "postgresql: sslmode=disable asks for no certificate; expected verify-full with it"),
        ("postgresql://h?ca=key&sslmode=prefer", "key",
         "postgresql: sslmode=prefer asks for no certificate; expected verify-full with it"),
        ("postgresql://h?sslrootcert=system&sslmode=require", "key",
         "postgresql: sslrootcert=system needs sslmode=verify-full, found require"),
    ],
)  # fmt: skip
def test_a_store_that_cannot_be_opened_is_one_line(
    directory: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, store: str, key: str, line: str
) -> None:
    monkeypatch.setenv("STORE", store)
    monkeypatch.setenv("STORE_KEYS", key)
    assert main(["check", "f.py", "message.eml"]) == 1
    out, err = capfd.readouterr()
    assert (out, re.sub(r"_ssl\.c:\d+", "_ssl.c:LINE", err)) == ("", f"aiomilter: f.py cannot be started: {line}\n")


ALONE = "memory: each worker would count alone: use sqlite:PATH, or memory:?per_worker if that is meant"


@pytest.mark.slow
@pytest.mark.parametrize("given", ["flag", "file", "variable", "check"])
def test_a_store_that_workers_cannot_share_is_refused_at_the_start(
    directory: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("STORE", "memory:?max_keys=7")
    Path("g.toml").write_text("filter = 'f.py'\nlisten = ['inet:0@127.0.0.1']\nworkers = 2\n")
    if given == "variable":
        monkeypatch.setenv("AIOMILTER_WORKERS", "3")
    arguments = {"file": ["run", "--config", "g.toml"], "check": ["config", "check", "g.toml"]}
    flag = ["run", "f.py", "--listen", "inet:0@127.0.0.1", *(["--workers", "2"] if given == "flag" else [])]
    assert main(arguments.get(given, flag)) == 1
    assert capfd.readouterr() == ("", f"aiomilter: f.py cannot be started: {ALONE}\n")


def test_it_is_taken_where_that_is_meant_and_with_one_worker(
    directory: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for store, workers in (("memory:?per_worker", 2), ("memory:", 1), ("sqlite:state.db", 2)):
        monkeypatch.setenv("STORE", store)
        Path("g.toml").write_text(f"filter = 'f.py'\nworkers = {workers}\n")
        assert main(["config", "check", "g.toml"]) == 0
    assert capfd.readouterr() == ("g.toml: in order\n" * 3, "")


SECRET = "s3cret"


@pytest.mark.parametrize("scheme", ["redis", "rediss", "postgresql", "postgres"])
@pytest.mark.parametrize(
    "url",
    [
        f"u:{SECRET}/x@h/1", f"u:7/{SECRET}@h/1", f"u:7?{SECRET}@h/1", f"u:7#{SECRET}@h/1", f":#{SECRET}@h", f"h/1#{SECRET}",
        f"u:{SECRET}", f"u:{SECRET}\u2100@h", f"u:[{SECRET}@h", f"u:7/1?{SECRET}=@h", f"u:{SECRET}%00@h", f"u%0a:{SECRET}@h/1",
        f"u:{SECRET}%0d@h/1", f"u:{SECRET}@h/%7f", f"u:{SECRET}@:x", f"u:{SECRET}@h:{'9' * 9}",
        f"u:{SECRET}@h?password={SECRET}", f"u:{SECRET}\udcff@h", f"u:{SECRET}%ff@h", f"u:{SECRET}\t@h",
    ],
)  # fmt: skip
async def test_a_password_in_a_url_that_is_not_as_it_should_be_is_not_shown(scheme: str, url: str) -> None:
    with pytest.raises(StoreSettingsError) as caught:
        async with open_store(f"{scheme}://{url}", keys=[b"k" * 16]):
            pass
    assert (
        SECRET not in "".join(traceback.format_exception(caught.value, chain=True)).partition("StoreSettingsError")[2]
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "login", [("u", f"{SECRET}\udcff"), ("u", f"{SECRET}\0"), ("u", f"{SECRET}\n"), ("u\0", SECRET)]
)
async def test_a_login_that_no_server_could_read_is_refused_unseen(login: tuple[str, str]) -> None:
    """A NUL would end it early, and what follows would be read as something else."""
    for scheme in ("redis", "postgresql"):
        with pytest.raises(StoreSettingsError, match=f"{scheme}: expected a username and password in UTF-8") as caught:
            async with open_store(f"{scheme}://h", username=login[0], password=login[1], keys=[b"k" * 16]):
                pass
        assert SECRET not in str(caught.value)


def test_what_a_url_says_shows_no_password() -> None:
    found = urls.parse(f"redis://u:{SECRET}@h/1")
    assert found.password == SECRET
    assert SECRET not in f"{found!r} {found}"
    assert repr(found) == "StoreUrl('redis', (('h', 6379),), '1', 'u', '***', {})"


@pytest.mark.parametrize("store", ["redis://127.0.0.1:1", "postgresql://u:p@127.0.0.1:1/x", "sqlite:no/s"])
def test_a_store_that_is_down_is_one_warning_and_mail_goes_on(
    directory: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    store: str,
) -> None:
    monkeypatch.setenv("STORE", store)
    monkeypatch.setenv("STORE_KEYS", "key")
    assert main(["check", "f.py", "message.eml", "--macro", "auth_authen=bob"]) == 0
    out, err = capfd.readouterr()
    assert "250 2.0.0 Ok" in out
    assert err == ""
    (record,) = caplog.records
    assert record.exc_info is None
    assert record.getMessage().startswith("the store is down, each process counts alone: ")
    assert "\n" not in record.getMessage()


async def test_a_wrong_store_is_an_error_of_stores_and_of_values() -> None:
    """So that a program may catch it with what else goes wrong with stores."""
    with pytest.raises(StoreSettingsError) as caught:
        async with open_store("mysql://x"):
            pass
    assert isinstance(caught.value, ValueError)
