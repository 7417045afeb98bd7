"""The gateway in containers: its file is in order, its commands are ones that aiomilter takes, its parts fit together.

It is also started without containers, over a Redis and a scanner of the test's own, and mail is sent through it.
"""

import asyncio
import json
import re
import shlex
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from aiomilter import CONTINUE, Reply, Stage, mta
from aiomilter._cli import main
from tests import programs
from tests.auth.dkim.made import key
from tests.filters.ready.gateway import gateway
from tests.interop.rigs.redis import RedisServer
from tests.life.daemon import Daemon, running
from tests.patience import PATIENCE
from tests.scan.server import CLEAN, Reader, Writer, serving, whole_request

FOLDER: Final = Path(__file__).parents[2] / "examples" / "gateway"


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return the instructions of a container file, with their arguments."""
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", path.read_text()))
    return [(name, rest) for line in text.splitlines() if line for name, _, rest in [line.partition(" ")]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with what its first comment says to make."""
    pytest.importorskip("cryptography")
    text = (FOLDER / "gateway.toml").read_text()
    (tmp_path / "state.key").write_text("0123456789abcdef0123456789abcdef")
    (tmp_path / "state.key").chmod(0o600)
    (tmp_path / "gateway.toml").write_text(text.replace("/run/secrets/state_key", "state.key"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_configuration_is_in_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "keys").mkdir(0o700)
    assert main(["dkim", "keygen", "example.com", "--selector", "2026q4", "--dir", "keys"]) == 0
    capsys.readouterr()
    assert main(["config", "check", "gateway.toml"]) == 0, capsys.readouterr().err
    assert capsys.readouterr() == ("gateway.toml: in order\n", "")


def test_the_commands_of_the_container_are_ones_that_aiomilter_takes(capsys: pytest.CaptureFixture[str]) -> None:
    found = instructions(FOLDER / "Containerfile")
    entry = json.loads(next(rest for name, rest in found if name == "ENTRYPOINT"))
    program = entry[0]
    assert [shlex.split(rest)[1:] for name, rest in found if name == "RUN" and rest.startswith(program)] == [
        ["--version"]
    ]
    command = json.loads(next(rest for name, rest in found if name == "CMD"))
    assert main(command) == 4  # the file is not here
    health = json.loads(next(rest for name, rest in found if name == "HEALTHCHECK").partition("CMD ")[2])
    assert health[0] == program
    assert main(health[1:]) == 1  # nothing listens here
    assert capsys.readouterr().out == ""
    last = max(at for at, (name, _) in enumerate(found) if name == "FROM")
    assert ("USER", "65534:65534") in found[last:]


def test_the_parts_of_the_compose_file_fit_together() -> None:
    compose: Any = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    services = compose["services"]
    volumes = {each.partition(":")[0] for one in services.values() for each in one.get("volumes", ())}
    assert {each for each in volumes if not each.startswith(".")} == set(compose["volumes"])
    assert {name for one in services.values() for name in one.get("secrets", ())} == set(compose["secrets"])
    assert {name for one in services.values() for name in one.get("depends_on", ())} <= set(services)
    text = (FOLDER / "gateway.toml").read_text()
    assert {"redis://valkey:6379", "inet:3310@clamd"} <= {
        each.rstrip("/0") for each in re.findall(r'"(\S+:\S+)"', text)
    }
    (milters,) = re.findall(r"smtpd_milters = inet:(\w+):(\d+)", (FOLDER / "postfix" / "Containerfile").read_text())
    assert milters[0] in services
    assert f'listen = ["inet:{milters[1]}@0.0.0.0"]' in text


MESSAGE = (
    b"From: me@example.com\r\nTo: you@example.net\r\nSubject: s\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
    b"Message-ID: <1@example.com>\r\n\r\n"
)


@pytest.fixture
def valkey() -> Iterator[RedisServer]:
    """What the container of that name runs, or its twin."""
    yield from programs.running(RedisServer)


async def clamd(reader: Reader, writer: Writer) -> None:
    """Find something in messages that say so."""
    found = b"MALWARE" in await whole_request("clamd", reader)
    writer.write(b"stream: Toy.Test FOUND\0" if found else CLEAN["clamd"])
    await writer.drain()


def with_key(folder: Path) -> Path:
    """Give the gateway its key; return its file."""
    (folder / "keys").mkdir(0o700)
    (folder / "keys" / "2026q4.pem").touch(0o600)
    (folder / "keys" / "2026q4.pem").write_bytes(key().private.pem())
    return folder / "gateway.toml"


@pytest.fixture
async def started(folder: Path, valkey: RedisServer) -> AsyncIterator[Daemon]:
    """Start it as the container does, with the addresses changed that its first comment speaks of."""
    path = with_key(folder)
    text = path.read_text()
    async with serving(clamd) as scanner:
        for old, new in {
            "inet:8891@0.0.0.0": "inet:0@127.0.0.1",
            "0.0.0.0:9464": "127.0.0.1:0",
            "redis://valkey:6379/0": f"{valkey.url}/0",
            "inet:3310@clamd": scanner,
        }.items():
            assert text.count(f'"{old}"') == 1
            text = text.replace(old, new)
        path.write_text(text)
        async with running("--config", "gateway.toml", directory=folder) as daemon:
            yield daemon
            daemon.send(signal.SIGTERM)
            assert await daemon.ended() == 0, "\n".join(daemon.log)


@pytest.mark.interop
@pytest.mark.slow
async def test_mail_of_a_user_goes_through_it_counted_scanned_and_signed(started: Daemon, valkey: RedisServer) -> None:
    port = (await started.logged(r"listening on inet:(\d+)@127\.0\.0\.1"))[1]
    login = {Stage.MAIL: {"{auth_authen}": "me", "{auth_type}": "PLAIN"}}
    async with mta.connect(f"inet:{port}@127.0.0.1", macros=login, timeout=PATIENCE) as session:
        await session.connect()
        await session.helo()
        clean = await session.send(MESSAGE + b"Hello\r\n", "me@example.com", ["you@example.net"])
        bad = await session.send(MESSAGE + b"MALWARE\r\n", "me@example.com", ["you@example.net"])
    reader, writer = await asyncio.open_connection("127.0.0.1", valkey.port)
    writer.write(b"DBSIZE\r\n")
    assert await reader.readline() != b":0\r\n"
    writer.close()
    await writer.wait_closed()
    assert clean.delivered is not None
    head, _, body = clean.delivered.octets.partition(b"\r\n\r\n")
    assert body == b"Hello\r\n"
    assert re.search(rb"(?m)^DKIM-Signature: .*d=example\.com;", head)
    assert b"s=2026q4;" in head
    assert re.search(rb"(?m)^Authentication-Results: mx\.example\.com;\s+auth=pass", head)
    assert bad.answer == Reply(550, "5.7.1", "malware found: Toy.Test")


async def test_mail_from_outside_is_judged(folder: Path) -> None:
    path = with_key(folder)
    # The scanner is not asked about what is refused before.
    path.write_text(path.read_text().replace("inet:3310@clamd", "inet:1@127.0.0.1"))
    async with gateway(path, 'good.example TXT "v=spf1 ip4:192.0.2.1 -all"\n') as begun:

        async def send(sender: str) -> int:
            async with begun.session() as s:
                found = await s.send(MESSAGE, sender, ["you@example.com"])
            assert isinstance(found.answer, Reply)
            return found.answer.code

        first = [await send("a@good.example"), await send("me@example.com")]
        begun.now += 600
        async with begun.session() as s:
            await s.mail("<a@good.example>")
            assert await s.rcpt("<you@example.com>") is CONTINUE
        forged = await send("me@example.com")
    assert first == [451, 451]
    assert forged == 550
