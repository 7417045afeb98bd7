"""What is wrong with a store is one line when a filter starts; a server that is down is a warning, and mail goes on."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiomilter._cli import main
from aiomilter.exceptions import StoreSettingsError
from aiomilter.policy.stores import open_store

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "user_rates.py"
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
    ],
)  # fmt: skip
def test_a_store_that_cannot_be_opened_is_one_line(
    directory: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, store: str, key: str, line: str
) -> None:
    monkeypatch.setenv("STORE", store)
    monkeypatch.setenv("STORE_KEYS", key)
    assert main(["check", "f.py", "message.eml"]) == 1
    assert capfd.readouterr() == ("", f"aiomilter: f.py cannot be started: {line}\n")


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
