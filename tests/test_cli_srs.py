"""``aiomilter srs``: what it prints, how it serves, and how it ends."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aiomilter._cli import main
from aiomilter.mail.srs import Rewriter
from tests.mail.test_socketmap import Client
from tests.patience import PATIENCE

SECRET = "a secret of 16 octets"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("secrets").write_text(f"{SECRET}\n")
    Path("secrets").chmod(0o600)
    Path("empty").write_text("\n")
    return tmp_path


def srs(*arguments: str) -> int:
    return main(["srs", *arguments, "--domain", "fwd.example", "--secrets", "secrets"])


def test_addresses_are_rewritten_and_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert srs("forward", "alice@example.com", "bob@corp.example", "--own-domain", "corp.example") == 0
    rewritten, own = capsys.readouterr().out.splitlines()
    assert rewritten == Rewriter([SECRET], "fwd.example").forward("alice@example.com")
    assert own == "bob@corp.example"
    assert srs("reverse", rewritten) == 0
    assert capsys.readouterr().out == "alice@example.com\n"


def test_options_are_heeded(capsys: pytest.CaptureFixture[str]) -> None:
    assert srs("forward", "a@b.example", "--separator", "+", "--hash-length", "8", "--max-age", "0") == 0
    rewritten = capsys.readouterr().out.strip()
    assert rewritten.startswith("SRS0+")
    assert len(rewritten.split("=")[0]) == len("SRS0+") + 8
    assert srs("reverse", rewritten, "--hash-length", "9") == 1
    assert srs("forward", f"{'a' * 60}@b.example", "--too-long", "refuse") == 1
    assert ": too long: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["reverse", "alice@example.com"],
            "'alice@example.com': not ours: expected an address that begins with SRS0 or SRS1",
        ),
        (["forward", "alice"], "'alice': malformed: expected a local-part, an @ and a domain"),
        (["forward", "a\x1b@b\n"], "'a\\x1b@b\\n': malformed: expected no control characters"),
    ],
)
def test_an_address_that_cannot_be_rewritten_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert srs(*arguments) == 1
    assert capsys.readouterr() == ("", f"aiomilter: {line}\n")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--secrets", "nowhere"], "cannot read the secrets in 'nowhere': No such file or directory"),
        (["--secrets", "empty"], "--secrets 'empty': expected 1 to 100 secrets, one a line, found 0"),
        (["--domain", "a b"], "'a b': expected a domain, as in example.org"),
        (["--own-domain", "@"], "'@': expected a domain, as in example.org"),
        (["--hash-length", "3"], "hash_length: expected 4 to 20, found 3"),
        (["--min-hash-length", "5"], "min_hash_length: expected 4 to 4, found 5"),
    ],
)
@pytest.mark.parametrize("command", [["forward", "a@b.example"], ["serve", "--listen", "inet:0@127.0.0.1"]])
def test_wrong_options_are_one_line(
    capsys: pytest.CaptureFixture[str], command: list[str], options: list[str], line: str
) -> None:
    given = ["srs", *command, "--domain", "fwd.example", "--secrets", "secrets", *options]
    assert main(given) != 0
    assert capsys.readouterr() == ("", f"aiomilter: {line}\n")


@pytest.mark.parametrize(
    ("listen", "start"),
    [
        ([], "where to listen? give --listen inet:10003@127.0.0.1"),
        (["--listen", "unix:/nonexistent/dir/sock"], "cannot listen on unix:/nonexistent/dir/sock"),
        (["--listen", "fd:milter"], "--listen 'fd:milter': systemd has handed over no socket"),
    ],
)
def test_where_it_cannot_listen_is_one_line(capsys: pytest.CaptureFixture[str], listen: list[str], start: str) -> None:
    assert srs("serve", *listen) != 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"aiomilter: {start}")
    assert err.count("\n") == 1


def test_a_port_in_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert srs("serve", "--listen", f"inet:{port}@127.0.0.1") == 1
    assert capsys.readouterr().err.startswith(f"aiomilter: cannot listen on inet:{port}@127.0.0.1")


class Serving:
    """The command as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log: list[str] = []

    async def line(self, text: str) -> str:
        """Return the next line of the log with a text in it."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            while line := (await self.process.stderr.readline()).decode():
                self.log.append(line)
                if text in line:
                    return line
        raise AssertionError("".join(self.log))


@asynccontextmanager
async def serving(*options: str) -> AsyncIterator[tuple[Serving, Client]]:
    words: Sequence[str] = ("serve", "--listen", f"unix:{os.getcwd()}/s", *options)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "aiomilter", "srs", *words, "--domain=fwd.example", "--secrets=secrets", stderr=-1
    )
    service = Serving(process)
    try:
        await service.line("answering as a socketmap")
        client = Client(*await asyncio.open_unix_connection("s"))
        yield service, client
        client.writer.close()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.slow
async def test_it_serves_three_tables_until_sigterm() -> None:
    rewriter = Rewriter([SECRET], "fwd.example")
    made = rewriter.forward("alice@example.com")
    forged = made.replace("alice", "eve")
    async with serving() as (service, client):
        asked = {
            "forward alice@example.com": f"OK {made}",
            "forward bob@fwd.example": "NOTFOUND ",
            "forward alice": "NOTFOUND ",
            "forward @example.com": "NOTFOUND ",
            f"reverse {made}": "OK alice@example.com",
            f"reverse {forged}": "NOTFOUND ",
            "reverse alice@example.com": "NOTFOUND ",
            f"access {made}": "OK srs_bounces",
            f"access {forged}": "OK 550 5.7.1 Not an address for bounces: forged",
            "access bob@fwd.example": "NOTFOUND ",
        }
        assert {request: await client.ask(request) for request in asked} == asked
        service.process.send_signal(signal.SIGTERM)
        assert await client.ended()
        assert await service.process.wait() == 0
    assert not Path("s").exists()


@pytest.mark.slow
async def test_secrets_are_read_again_at_sighup() -> None:
    old, new = Rewriter([SECRET], "fwd.example"), Rewriter(["another secret of 16"], "fwd.example")
    async with serving("--any-sender", "--socket-mode", "600") as (service, client):
        made = old.forward("alice@example.com")
        assert Path("s").stat().st_mode & 0o777 == 0o600
        assert await client.ask(f"access {made}") == "NOTFOUND "
        Path("secrets").write_text("another secret of 16\nshort\n" + SECRET)
        Path("secrets").chmod(0o644)
        service.process.send_signal(signal.SIGHUP)
        await service.line("a secret of less than 16 octets can be guessed")
        await service.line("every user of this machine may read secrets")
        await service.line("reloaded")
        assert await client.ask("forward alice@example.com") == f"OK {new.forward('alice@example.com')}"
        assert await client.ask(f"reverse {made}") == "OK alice@example.com"
        Path("secrets").write_text("")
        service.process.send_signal(signal.SIGHUP)
        await service.line("cannot reload: --secrets 'secrets': expected 1 to 100 secrets")
        assert await client.ask(f"reverse {made}") == "OK alice@example.com"
