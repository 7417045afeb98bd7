import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from aiomilter.auth import dkim
from aiomilter.auth.dkim import _key_ring
from aiomilter.exceptions import StoreError
from tests.auth.dkim.made import key


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes a key file; three keys lie beside it."""
    for name, made in (
        ("2026q4.pem", key("rsa")),
        ("ed2026.pem", key("ed25519")),
        ("org.key", key("rsa", selector="x")),
    ):
        (tmp_path / name).write_bytes(made.private.pem())
        (tmp_path / name).chmod(0o600)

    def written(text: str) -> Path:
        (tmp_path / "keys.toml").write_text(text)
        (tmp_path / "keys.toml").chmod(0o600)
        return tmp_path / "keys.toml"

    return written


KEYS = """
[keys."Example.com"]
files = ["2026q4.pem", "ed2026.pem"]
subdomains = true

[keys."example.org"]
selector = "s1"
key = "org.key"

[seal]
domain = "example.com"
"""


async def names(ring: dkim.KeyRing, author: str) -> list[str]:
    return [each.name for each in await ring.keys(author, "", None)]


async def test_a_domain_signs_with_its_keys(write: Callable[[str], Path]) -> None:
    ring = dkim.load_keys(write(KEYS))
    both = ["2026q4._domainkey.example.com", "ed2026._domainkey.example.com"]
    assert isinstance(ring, dkim.KeyRing)
    assert await names(ring, "alice@example.com") == both
    assert await names(ring, "alice@EXAMPLE.com") == both
    assert await names(ring, "alice@example.com.") == both
    assert await names(ring, "alice@a.news.example.com") == both
    assert await names(ring, "alice@example.org") == ["s1._domainkey.example.org"]
    for author in (
        "alice@news.example.org",
        "alice@badexample.com",
        "alice@com",
        "alice",
        "",
        "a@b c",
        "a@\u00e4\udcff",
    ):
        assert await names(ring, author) == []
    assert ring.seal_domain == "example.com"


async def test_the_nearest_domain_counts(write: Callable[[str], Path]) -> None:
    ring = dkim.load_keys(
        write(
            '[keys."example.com"]\nfiles = ["2026q4.pem"]\nsubdomains = true\n'
            '[keys."a.example.com"]\nfiles = ["ed2026.pem"]\n'
        )
    )
    assert await names(ring, "x@a.example.com") == ["ed2026._domainkey.a.example.com"]
    # Its own subdomains are not its: they are those of the domain above.
    assert await names(ring, "x@b.a.example.com") == ["2026q4._domainkey.example.com"]
    assert ring.seal_domain == ""


async def test_a_key_may_be_a_credential(write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write('[keys."example.com"]\nselector = "s"\nkey = { credential = "org.key" }\n')
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(path.parent))
    ring = dkim.load_keys(path)
    assert await names(ring, "x@example.com") == ["s._domainkey.example.com"]
    assert ring.seal_domain == "example.com"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(ValueError, match="there are no credentials"):
        dkim.load_keys(path)


WRONG = [
    ("[keys", "keys.toml: "),
    ("keys = 1", "keys.toml: keys: expected a table, found 1"),
    ("[kyes]", "keys.toml: expected one of keys, opendkim, seal, found 'kyes'"),
    ('[keys."exa mple"]\nfiles = ["x"]', 'keys."exa mple": expected a domain name'),
    ('[keys."example.com"]', 'keys."example.com": expected files, or selector and key'),
    ('[keys]\n"example.com" = 1', 'keys."example.com": expected a table, found 1'),
    ('[keys."example.com"]\nfiels = ["x"]', "found 'fiels'"),
    ('[keys."example.com"]\nfiles = "x"', "files: expected a list of paths"),
    ('[keys."example.com"]\nkey = "org.key"', "selector: expected a text, found None"),
    ('[keys."example.com"]\nselector = "s"\nkey = 1', "key: expected a path or"),
    ('[keys."example.com"]\nselector = "s"\nkey = { credential = "../x" }', "key: expected a path or"),
    ('[keys."example.com"]\nselector = "s"\nkey = { credental = "x" }', "key: expected a path or"),
    ('[keys."example.com"]\nselector = "a b"\nkey = "org.key"', "selector: expected a domain name"),
    ('[keys."example.com"]\nfiles = ["2026q4.pem"]\nsubdomains = 1', "subdomains: expected true or false, found 1"),
    ('[keys."example.com"]\nfiles = ["keys.toml"]', "keys.toml: expected a private key in PEM"),
    (KEYS.replace('domain = "example.com"', 'domain = "example.net"'), "seal: expected a domain that has keys"),
    (KEYS + 'name = "x"', "seal: expected one of domain, found 'name'"),
    ('[opendkim]\nkey_table = "x"', "signing_table: expected a text, found None"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_wrong_is_said_with_its_place(text: str, message: str, write: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        dkim.load_keys(write(text))


def test_a_missing_key_is_found_at_the_start(write: Callable[[str], Path]) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.pem"):
        dkim.load_keys(write('[keys."example.com"]\nfiles = ["gone.pem"]'))


async def test_tables_of_opendkim_stand_behind_the_keys(write: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "key.table").write_text("k example.net:sel:./org.key\n")
    (tmp_path / "signing.table").write_text("*@example.net k\n*@example.com k\n")
    tables = '\n[opendkim]\nkey_table = "file:key.table"\nsigning_table = "refile:signing.table"\n'
    ring = dkim.load_keys(write(KEYS + tables))
    assert await names(ring, "x@example.net") == ["sel._domainkey.example.net"]
    assert len(await names(ring, "x@example.com")) == 2
    assert [source.selector for source in ring.sources()] == ["2026q4", "ed2026", "s1", "sel"]


async def test_of_many_keys_each_is_loaded_when_it_is_asked_for(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_key_ring, "_EAGER", 2)
    ring = dkim.load_keys(write(KEYS))
    (tmp_path / "org.key").unlink()
    assert len(await names(ring, "x@example.com")) == 2
    with pytest.raises(StoreError, match=r"a key for 'x@example.org' cannot be read: .*org\.key"):
        await ring.keys("x@example.org")
    # It was there at the start, and that it was is looked at then.
    with pytest.raises(FileNotFoundError):
        dkim.load_keys(tmp_path / "keys.toml")


async def test_a_reload_gives_new_keys_and_leaves_the_old_ones_to_their_messages(write: Callable[[str], Path]) -> None:
    ring = dkim.load_keys(write(KEYS))
    (old, _) = await ring.keys("x@example.com")
    write('[keys."example.com"]\nfiles = ["ed2026.pem"]\n')
    signing = dkim.Signer(old).start()
    await ring.reload()
    assert await names(ring, "x@example.com") == ["ed2026._domainkey.example.com"]
    signing.header(b"From: x@example.com\r\n")
    signing.end_of_headers()
    assert "s=2026q4" in (await signing.finish())[0]


@pytest.mark.parametrize("text", ["[keys", '[keys."example.com"]\nfiles = ["gone.pem"]', '[keys."example.com"]'])
async def test_a_bad_file_keeps_the_keys_there_were(text: str, write: Callable[[str], Path]) -> None:
    ring = dkim.load_keys(write(KEYS))
    write(text)
    with pytest.raises((ValueError, OSError)):
        await ring.reload()
    assert len(await names(ring, "x@example.com")) == 2


def test_weak_keys_are_refused_unless_the_domain_takes_them(write: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "weak.pem").write_bytes(key("rsa", 1024).private.pem())
    os.chmod(tmp_path / "weak.pem", 0o600)
    text = '[keys."example.com"]\nfiles = ["weak.pem"]\n'
    with pytest.raises(ValueError, match="found 1024; allow_weak takes it"):
        dkim.load_keys(write(text))
    assert dkim.load_keys(write(text + "allow_weak = true\n"))
