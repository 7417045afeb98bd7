import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from aiomilter.auth import dkim
from tests.auth.dkim.made import MESSAGE, key, signed, verified

RSA, ED = key("rsa"), key("ed25519")
SECRET = "BEGIN PRIVATE KEY"


def pem(made: dkim.Key, form: serialization.PrivateFormat, password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return made.private._key.private_bytes(serialization.Encoding.PEM, form, encryption)


@pytest.mark.parametrize("form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL])
async def test_a_key_is_read_in_both_forms(form: serialization.PrivateFormat, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(pem(RSA, form))
    (tmp_path / "key.pem").chmod(0o640)
    for _ in range(2):
        made = dkim.Key.load(tmp_path / "key.pem", domain="Example.com", selector="S")
        assert (made.domain, made.selector, made.name) == ("Example.com", "S", "S._domainkey.Example.com")
        assert (made.algorithm, made.bits) == ("rsa-sha256", 2048)
        assert made.record() == RSA.record()
        assert await verified(signed(MESSAGE, made), made) == ["pass"]


def test_a_key_that_everybody_may_read_gives_a_warning(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(ED.private.pem())
    (tmp_path / "key.pem").chmod(0o644)
    with pytest.warns(UserWarning, match=r"everybody may read the private key '.*key\.pem'; chmod 640"):
        dkim.Key.load(tmp_path / "key.pem", domain="example.com", selector="s")


@pytest.mark.parametrize(
    ("octets", "message"),
    [
        (b"", "expected a private key in PEM"),
        (b"hello", "expected a private key in PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nYQ==\n-----END PRIVATE KEY-----\n", "expected a private key in PEM"),
        (b"x" * 65_537, "found more than 65536 octets"),
        (pem(RSA, serialization.PrivateFormat.PKCS8, b"password"), "the private key is encrypted"),
        (
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            "found one of another type",
        ),
        (key("rsa", 1024).private.pem(), "expected an RSA key of 2048 bits, found 1024; allow_weak takes it"),
    ],
)
def test_what_is_no_key_to_sign_with_is_refused(octets: bytes, message: str) -> None:
    """D-113."""
    with pytest.raises(ValueError, match=message):
        dkim.Key.from_pem(octets, domain="example.com", selector="s")


def test_a_weak_key_signs_if_it_is_forced_to() -> None:
    """D-113."""
    weak = dkim.Key.from_pem(key("rsa", 1024).private.pem(), domain="example.com", selector="s", allow_weak=True)
    assert weak.bits == 1024


@pytest.mark.parametrize(
    ("domain", "selector", "identity", "message"),
    [
        ("exa mple.com", "s", "", "domain: expected a domain name in ASCII"),
        ("", "s", "", "domain: expected a domain name in ASCII"),
        ("ex\u00e4mple.com", "s", "", "domain: expected a domain name in ASCII"),
        ("example.com", "s\n", "", "selector: expected a domain name in ASCII"),
        ("example.com", "s", "alice@example.net", "identity: expected an address at example.com or below"),
        ("example.com", "s", "example.com", "identity: expected an address at example.com or below"),
    ],
)
def test_names_that_cannot_be_are_refused(domain: str, selector: str, identity: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dkim.Key(domain, selector, RSA.private, identity)


def test_a_key_shows_nothing_of_itself() -> None:
    for shown in (repr(RSA), repr(RSA.private), repr(ED), str(RSA)):
        assert SECRET not in shown
        assert not re.search(r"0x|p=", shown)
    assert repr(RSA) == "Key(domain='example.com', selector='rsa2048', identity='')"
    assert repr(ED.private) == "<ed25519 private key of 256 bits>"


def test_a_key_is_checked_the_first_time_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """D-116: the checks take 70 ms."""
    skipped: list[bool] = []
    load = serialization.load_pem_private_key

    def counted(octets: bytes, password: None, *, unsafe_skip_rsa_key_validation: bool) -> RSAPrivateKey:
        skipped.append(unsafe_skip_rsa_key_validation)
        found = load(octets, password, unsafe_skip_rsa_key_validation=unsafe_skip_rsa_key_validation)
        assert isinstance(found, RSAPrivateKey)
        return found

    monkeypatch.setattr(serialization, "load_pem_private_key", counted)
    octets = key("rsa", 2048, "checked").private.pem()
    for _ in range(2):
        dkim.Key.from_pem(octets, domain="example.com", selector="s")
    assert skipped == [False, True]
