"""What the help topic on DKIM shows is so."""

import shlex
import tomllib
from pathlib import Path

import pytest

from aiomilter._cli import main
from aiomilter._cli.zone import read_zone
from aiomilter.auth import dkim
from aiomilter.testing import session
from tests.auth.dkim.made import MESSAGE, key, signed, zone
from tests.help.blocks import blocks, defined
from tests.help.pages import commands


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> list[str]:
    """Make keys as the page says; return its other commands."""
    monkeypatch.chdir(tmp_path)
    first, *others = commands("dkim")
    assert main(shlex.split(first)[1:]) == 0
    Path("zone").write_bytes(capsysbinary.readouterr().out)
    Path("message.eml").write_bytes(MESSAGE)
    Path("keys.toml").write_text(blocks("dkim", "toml")[0].text)
    return others


def test_the_commands_run(keys: list[str], capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert [command.split()[2] for command in keys] == ["dns", "sign", "check"]
    for command in keys:
        assert main(shlex.split(command)[1:]) == 0
    assert b"belongs to the private key" in capsysbinary.readouterr().out


@pytest.mark.usefixtures("keys")
async def test_the_keys_sign_in_a_program_as_the_records_say() -> None:
    message = await defined("dkim")["signed"](MESSAGE)
    found = await dkim.verify(message, resolver=read_zone("zone"))
    assert [each.result for each in found] == ["pass", "pass"]


@pytest.mark.usefixtures("keys")
async def test_the_tables_say_who_signs() -> None:
    ring = dkim.load_keys("keys.toml")
    assert [each.selector for each in await ring.keys("alice@news.example.com")] == ["s1", "eds1"]
    for block in blocks("dkim", "toml"):
        assert tomllib.loads(block.text)


async def test_the_filter_verifies() -> None:
    verify = defined("dkim")["Verify"]
    async with session(lambda: verify(zone(key()))) as s:
        await s.mail("<a@example.com>")
        await s.rcpt("<b@example.net>")
        result = await s.message(signed(MESSAGE, key()))
    assert result.delivered is not None
    assert b"mx.example.net;\r\n\tdkim=pass" in result.delivered.octets
