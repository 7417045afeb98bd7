"""``aiomilter dkim``: keys are made, looked at, and sign; what they print is one line a finding."""

import asyncio
import io
import stat
import sys
from pathlib import Path

import pytest

from aiomilter._cli import main
from aiomilter._cli.zone import read_zone
from aiomilter.auth import dkim
from aiomilter.auth.dkim import _crypto

MESSAGE = (
    b"From: alice@example.com\nTo: bob@example.net\nDate: Mon, 30 Nov 2026 10:00:00 +0000\n"
    b"Message-ID: <1@example.com>\n\nhello\n"
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    assert main(["dkim", *words]) == status
    return capsys.readouterr().out


def results(message: bytes) -> list[str]:
    found = asyncio.run(dkim.verify(message, resolver=read_zone("zone")))
    return [each.result for each in found]


def made(capsys: pytest.CaptureFixture[str], *words: str) -> None:
    Path("zone").write_text(printed(capsys, "keygen", "example.com", *words))


def test_what_keygen_prints_verifies_what_its_keys_sign(here: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["dkim", "keygen", "example.com", "--both", "--selector", "s1", "--print-dns", "bind"]) == 0
    (here / "zone").write_bytes(capsysbinary.readouterr().out)
    (here / "message.eml").write_bytes(MESSAGE)
    words = ["dkim", "sign", "message.eml", "--domain", "example.com", "--key", "s1.pem", "--key", "eds1.pem"]
    assert main(words) == 0
    signed, errors = capsysbinary.readouterr()
    assert errors == b""
    assert signed.endswith(MESSAGE)
    assert b"\r" not in signed
    assert results(signed.replace(b"\n", b"\r\n")) == ["pass", "pass"]


def test_key_files_are_for_their_owner_and_are_never_overwritten(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(capsys, "--selector", "s1", "--ed25519")
    before = (here / "s1.pem").read_bytes()
    assert stat.S_IMODE((here / "s1.pem").stat().st_mode) == 0o600
    for kind in ("--ed25519", "--both"):
        assert main(["dkim", "keygen", "example.com", "--selector", "s1", kind]) == 1
        assert capsys.readouterr().err == "aiomilter: s1.pem is there already; choose another --selector or --dir\n"
    assert (here / "s1.pem").read_bytes() == before
    assert not (here / "eds1.pem").exists()


def test_the_selector_is_the_quarter(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(capsys, "--ed25519")
    (path,) = here.glob("*.pem")
    assert path.name[4:] in ("q1.pem", "q2.pem", "q3.pem", "q4.pem")


def test_records_are_printed_in_three_forms(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("keygen", "example.com", "--selector", "s", "--print-dns")
    for number, form in enumerate(("bind", "text", "nsupdate")):
        (here / str(number)).mkdir()
        lines = printed(capsys, *words, form, "--dir", str(number)).splitlines()
        match form:
            case "bind":
                assert lines[0].startswith('s._domainkey.example.com. 3600 IN TXT ( "v=DKIM1; k=rsa; p=MII')
                assert all(len(string) <= 255 for string in lines[0].split('"')[1::2])
                assert lines[0].count('"') == 4
            case "text":
                assert lines[0] == "s._domainkey.example.com"
                assert lines[1].startswith("v=DKIM1; k=rsa; p=MII")
            case "nsupdate":
                assert lines[0].startswith('update add s._domainkey.example.com. 3600 TXT "v=DKIM1; k=rsa; p=MII')
                assert lines[1] == "send"


def test_it_is_said_what_to_do_next(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dkim", "keygen", "example.com", "--selector", "s", "--ed25519"]) == 0
    assert "aiomilter dkim dns example.com s --key s.pem" in capsys.readouterr().err


def test_a_record_is_looked_at(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(capsys, "--selector", "s", "--both")
    zone = ("--zone", "zone")
    name = "s._domainkey.example.com"
    assert printed(capsys, "dns", "example.com", "s", *zone) == f"{name}: rsa, 2048 bits\n"
    assert printed(capsys, "dns", "example.com", "s", "--key", "s.pem", *zone) == (
        f"{name}: rsa, 2048 bits, belongs to the private key\n"
    )
    assert printed(capsys, "dns", "example.com", "s", "--key", "eds.pem", *zone, status=1) == (
        f"{name}: rsa, 2048 bits, belongs to another private key\n"
    )
    assert printed(capsys, "dns", "example.com", "other", *zone, status=1) == (
        "other._domainkey.example.com: there is no key record\n"
    )


@pytest.mark.parametrize(
    ("record", "said", "status"),
    [
        ("v=DKIM1; p=", "the key is revoked", 1),
        ("v=spf1 -all", "there is no key record among its TXT records", 1),
        ("RECORD; t=y:s", "ed25519, 256 bits, testing (t=y), not for subdomains (t=s)", 0),
        ("RECORD; s=other", "ed25519, 256 bits, the key is not for email", 1),
    ],
)
def test_what_is_odd_about_a_record_is_said(
    record: str, said: str, status: int, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = dkim.Key("example.com", "s", _crypto.generate("ed25519"))
    Path("zone").write_text(f's._domainkey.example.com. TXT "{record.replace("RECORD", key.record())}"\n')
    assert printed(capsys, "dns", "example.com", "s", "--zone", "zone", status=status) == (
        f"s._domainkey.example.com: {said}\n"
    )


def test_several_records_are_one_too_many(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(capsys, "--selector", "s", "--ed25519")
    Path("zone").write_text(Path("zone").read_text() + 's._domainkey.example.com. TXT "v=DKIM1; p="\n')
    assert (
        printed(capsys, "dns", "example.com", "s", "--zone", "zone").splitlines()[-1].startswith("several key records")
    )


def test_servers_that_fail_are_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("zone").write_text("s._domainkey.example.com TXT TIMEOUT\n")
    assert main(["dkim", "dns", "example.com", "s", "--zone", "zone"]) == 1
    assert capsys.readouterr().err == "aiomilter: no answer to 's._domainkey.example.com' TXT\n"


def test_all_keys_of_a_file_are_looked_at(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(capsys, "--selector", "s", "--both")
    printed(capsys, "keygen", "example.net", "--selector", "weak", "--rsa", "1024")
    Path("eds.pem").chmod(0o644)
    Path("keys.toml").write_text(
        '[keys."example.com"]\nfiles = ["s.pem", "eds.pem"]\n'
        '[keys."example.net"]\nfiles = ["weak.pem"]\nallow_weak = true\n'
    )
    assert printed(capsys, "check", "keys.toml", "--zone", "zone", status=1).splitlines() == [
        "example.com s: signs (s.pem)",
        "example.com eds: everybody may read the file; chmod 640 (eds.pem)",
        "example.net weak: 1024 bits, 2048 are recommended; there is no key record: weak._domainkey.example.net (weak.pem)",
    ]
    Path("keys.toml").write_text('[keys."example.com"]\nfiles = ["s.pem"]\n')
    assert printed(capsys, "check", "keys.toml", "--zone", "zone") == "example.com s: signs (s.pem)\n"


WRONG = [
    (["check", "gone.toml"], 1, "aiomilter: gone.toml: No such file or directory"),
    (["check", "bad.toml"], 1, "aiomilter: bad.toml: keys: expected a table, found 1"),
    (["check", "missing.toml"], 1, "aiomilter: gone.pem: No such file or directory"),
    (["keygen", "exa mple"], 2, "aiomilter: domain: expected a domain name in ASCII, found 'exa mple'"),
    (["keygen", "example.com", "--selector", "../x"], 2, "aiomilter: selector: expected a domain name in ASCII"),
    (["keygen", "example.com", "--dir", "gone"], 1, "No such file or directory"),
    (["keygen", "example.com", "--rsa", "512"], 2, "expected one of 1024, 2048, 3072, 4096, found 512"),
    (["dns", "example.com", "s", "--key", "gone.pem"], 2, "aiomilter: gone.pem: No such file or directory"),
    (["dns", "example.com", "s", "--key", "bad.toml"], 2, "aiomilter: bad.toml: expected a private key in PEM"),
    (["sign", "m", "--domain", "example.com"], 2, "--key"),
    (
        ["sign", "m", "--domain", "example.com", "--key", "gone.pem"],
        2,
        "aiomilter: gone.pem: No such file or directory",
    ),
    (["sign", "gone", "--domain", "example.com", "--key", "s.pem"], 2, "aiomilter: 'gone' cannot be read"),
    (
        ["sign", "m", "--domain", "example.com", "--key", "s.pem", "--selector", "a", "--selector", "b"],
        2,
        "aiomilter: expected a --selector for each --key, or for none",
    ),
    (
        ["sign", "m", "--domain", "example.com", "--key", "s.pem", "--canonicalization", "x"],
        2,
        "aiomilter: canonicalization: expected simple or relaxed",
    ),
]


@pytest.mark.parametrize(("words", "status", "said"), WRONG)
def test_bad_input_is_one_line(
    words: list[str], status: int, said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(capsys, "--selector", "s", "--ed25519")
    for name, text in (
        ("bad.toml", "keys = 1"),
        ("missing.toml", '[keys."a.b"]\nfiles = ["gone.pem"]'),
        ("m", "A: b\n\n"),
    ):
        Path(name).write_text(text)
        Path(name).chmod(0o600)
    assert main(["dkim", *words]) == status
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert said in errors


def test_a_message_may_come_by_stdin_and_keeps_its_line_ends(
    here: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["dkim", "keygen", "example.com", "--selector", "s", "--ed25519"]) == 0
    (here / "zone").write_bytes(capsysbinary.readouterr().out)
    octets = MESSAGE.replace(b"\n", b"\r\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(octets)))
    assert main(["dkim", "sign", "-", "--domain", "example.com", "--key", "s.pem"]) == 0
    signed = capsysbinary.readouterr().out
    assert signed.endswith(octets)
    assert signed.count(b"\n") == signed.count(b"\r\n")
    assert results(signed) == ["pass"]


def test_what_may_break_a_signature_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(capsys, "--selector", "s", "--ed25519")
    Path("m").write_bytes(MESSAGE.replace(b"Date:", b"X-Date:"))
    assert main(["dkim", "sign", "m", "--domain", "example.com", "--key", "s.pem"]) == 0
    assert capsys.readouterr().err.startswith("aiomilter: there is no Date field: ")


def test_without_the_library_it_says_what_to_install(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_crypto, "_THERE", False)
    assert main(["dkim", "keygen", "example.com"]) == 1
    assert capsys.readouterr().err == (
        "aiomilter: DKIM needs the package cryptography: pip install 'aiomilter[dkim]'\n"
    )
