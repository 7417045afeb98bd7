"""``aiomilter auth``: what it finds in a message, what was hashed, and how it ends."""

import io
import sys
from pathlib import Path
from typing import Final

import pytest

from aiomilter._cli import main
from aiomilter.auth import dkim
from tests.auth.dkim.made import HEADER, MESSAGE, key, signed
from tests.auth.test_authenticator import ZONE

KEY: Final = key("ed25519")
SIGNED: Final = signed(MESSAGE, KEY)
CLIENT: Final = ("--ip", "192.0.2.1", "--helo", "mx.example.com", "--sender", "<alice@example.com>")


class Command:
    """Runs ``aiomilter auth`` in this process, in a directory of its own."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.capsys = capsys
        self.err = ""
        self.message("zone", f'{ZONE}{KEY.name} TXT "{KEY.record()}"\n'.encode())

    def message(self, name: str, octets: bytes) -> None:
        (self.directory / name).write_bytes(octets)

    def __call__(self, *arguments: str, status: int = 0, zone: bool = True) -> list[str]:
        assert main(["auth", *arguments, *(("--zone", "zone") if zone else ())]) == status
        out, self.err = self.capsys.readouterr()
        return out.splitlines()


@pytest.fixture
def auth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(tmp_path, capsys)


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_each_finding_is_a_line(auth: Command, line_end: bytes) -> None:
    auth.message("m", SIGNED.replace(b"\r\n", line_end))

    lines = auth("m", *CLIENT, "--name", "mx.example.net")

    assert lines[:8] == [
        "iprev  pass      mx.example.com",
        "spf    pass      alice@example.com: ip4:192.0.2.1",
        "helo   pass      mx.example.com: a",
        "dkim   pass      example.com, selector ed25519, ed25519-sha256, 256-bit key",
        "arc    none",
        "dmarc  pass      example.com: p=reject, published by example.com; aligned: spf, dkim",
        "",
        "Authentication-Results: mx.example.net;",
    ]


def test_what_fails_says_why(auth: Command) -> None:
    auth.message("m", b"Authentication-Results: localhost; dkim=pass\r\n" + SIGNED + b"more\r\n")

    lines = auth("m", "--ip", "203.0.113.1", "--sender", "alice@example.com")

    assert lines[:6] == [
        "iprev  permerror the address has no name",
        "spf    fail      alice@example.com: -all",
        "dkim   fail      example.com, selector ed25519, ed25519-sha256: the body was changed",
        "arc    none",
        "dmarc  fail      example.com: p=reject, published by example.com; neither SPF nor a signature is aligned",
        "forged           Authentication-Results, number 1 from the top, claims to be localhost's",
    ]


def test_an_unsigned_message_without_a_client_says_so(auth: Command) -> None:
    auth.message("m", b"From: a@other.example\r\n\r\n")

    assert auth("m")[:4] == [
        "spf    none      not checked without --ip",
        "dkim   none      the message is not signed",
        "arc    none",
        "dmarc  none      other.example publishes no DMARC policy",
    ]


def test_what_was_hashed_is_shown_octet_by_octet(auth: Command) -> None:
    options = dkim.Options(canonicalization="simple/relaxed", oversign=("From", "Cc"))
    message = HEADER + b"\r\nA  b\xff \r\n\r\n\r\n"
    auth.message("m", signed(message, KEY, options=options) + b"x")

    lines = auth("m", "-v")

    begin = lines.index("    header, simple:")
    assert "      Subject:   Minutes of the\\r\\n" in lines[begin:]
    assert "      \\t meeting \\r\\n" in lines[begin:]
    assert "    signed to be absent: cc, from" in lines
    body = lines.index("    body, relaxed, 13 octets:")
    assert lines[body + 1 : body + 5] == ["      A b\\xff\\r\\n", "      \\r\\n", "      \\r\\n", "      x\\r\\n"]
    assert ", signed was " in lines[body + 5]


@pytest.mark.parametrize(("option", "shown"), [("-v", 26), ("-vv", 1000)])
def test_a_long_body_is_cut_unless_all_is_asked_for(auth: Command, option: str, shown: int) -> None:
    auth.message("m", signed(HEADER + b"\r\n" + b"line\r\n" * 1000, KEY))

    lines = auth("m", option)

    body = lines.index("    body, relaxed, 6000 octets:")
    assert sum(line == "      line\\r\\n" or "all with -vv" in line for line in lines) == shown
    assert lines[body + shown + 1].endswith(", as signed")


def test_a_signature_that_covers_a_part_shows_that_part(auth: Command) -> None:
    auth.message("m", SIGNED.replace(b" bh=", b" l=5; bh="))

    lines = auth("m", "-v")

    assert lines[lines.index("    body, relaxed, 5 octets:") + 1] == "      Hello"


def test_a_signature_that_cannot_be_read_has_nothing_to_show(auth: Command) -> None:
    auth.message("m", b"DKIM-Signature: v=2; \x1b[2J\r\n" + MESSAGE)

    lines = auth("m", "-v")

    assert lines[1] == "dkim   neutral   the signature is not a tag list, or is too large"
    assert lines[2].startswith("arc")
    assert "\x1b" not in "".join(lines)


def test_several_messages_have_their_names(auth: Command) -> None:
    auth.message("a", MESSAGE)
    auth.message("b", SIGNED)

    lines = auth("a", "b")

    assert [line for line in lines if line in ("a:", "b:")] == ["a:", "b:"]


def test_a_message_may_come_from_standard_input(auth: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SIGNED)))

    assert auth("-")[1].startswith("dkim   pass")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["missing"], 4, "there is no message 'missing'"),
        (["m", "--ip", "x"], 2, "--ip: expected an IP address, found 'x'"),
        (["m", "--name", "a b"], 2, "--name: expected a name such as 'mx.example.net'"),
        (["m", "--zone", "nowhere"], 2, "nowhere: No such file or directory"),
    ],
)
def test_wrong_usage_is_one_line(auth: Command, arguments: list[str], status: int, message: str) -> None:
    auth.message("m", MESSAGE)

    assert auth(*arguments, status=status, zone="--zone" not in arguments) == []
    assert auth.err.startswith(f"aiomilter: {message}")
    assert auth.err.count("\n") == 1


def test_without_cryptography_the_extra_is_named(auth: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from aiomilter.auth.dkim import _crypto

    monkeypatch.setattr(_crypto, "_THERE", False)
    auth.message("m", MESSAGE)

    assert auth("m", status=1) == []
    assert "pip install 'aiomilter[dkim]'" in auth.err


def test_what_keygen_prints_is_a_zone_that_signatures_pass_with(
    auth: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three commands: a key of each kind, a signature by both, and the check of these."""
    auth.message("m", MESSAGE)
    assert main(["dkim", "keygen", "example.com", "--selector", "s", "--both", "--print-dns", "bind"]) == 0
    auth.message("zone", capsys.readouterr().out.encode())
    keys = sorted(path.name for path in auth.directory.glob("*.pem"))
    assert (
        main(["dkim", "sign", "m", "--domain", "example.com", *(each for name in keys for each in ("--key", name))])
        == 0
    )
    auth.message("signed", capsys.readouterr().out.encode())

    lines = auth("signed")

    assert len(keys) == 2
    assert [line.split()[:2] for line in lines if line.startswith("dkim")] == [["dkim", "pass"]] * 2
