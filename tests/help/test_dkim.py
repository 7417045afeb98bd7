"""What the help topic on DKIM shows is so."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from aiomilter._cli import main
from aiomilter._cli.zone import read_zone
from aiomilter.auth import dkim
from aiomilter.testing import session
from tests.auth.dkim.made import MESSAGE, key, signed, zone
from tests.conformance.test_dkim_suites import RULES
from tests.help.pages import PAGES, ROOT, blocks, commands
from tests.help.test_pages import run_page

TABLES = [block.text for block in blocks("dkim") if block.language == "toml"]


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> list[str]:
    """Make keys as the page says; return its other commands."""
    monkeypatch.chdir(tmp_path)
    first, *others = commands("dkim")
    assert main(shlex.split(first)[1:]) == 0
    Path("zone").write_bytes(capsysbinary.readouterr().out)
    Path("message.eml").write_bytes(MESSAGE)
    Path("keys.toml").write_text(TABLES[0])
    return others


def test_the_commands_run(keys: list[str], capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert [command.split()[2] for command in keys] == ["dns", "sign", "check"]
    for command in keys:
        assert main(shlex.split(command)[1:]) == 0
    assert b"belongs to the private key" in capsysbinary.readouterr().out


@pytest.mark.usefixtures("keys")
async def test_the_keys_sign_in_a_program_as_the_records_say() -> None:
    message = await run_page("dkim")["signed"](MESSAGE)
    found = await dkim.verify(message, resolver=read_zone("zone"))
    assert [each.result for each in found] == ["pass", "pass"]


@pytest.mark.usefixtures("keys")
async def test_the_tables_say_who_signs() -> None:
    ring = dkim.load_keys("keys.toml")
    assert [each.selector for each in await ring.keys("alice@news.example.com")] == ["s1", "eds1"]


@pytest.mark.usefixtures("keys")
async def test_the_tables_of_opendkim_say_who_signs(tmp_path: Path) -> None:
    (tmp_path / "key.table").write_text(f"news example.com:s1:{tmp_path}/s1.pem\n")
    (tmp_path / "signing.table").write_text("*@news.example.com news\n")
    Path("opendkim.toml").write_text(TABLES[1].replace("/etc/opendkim", str(tmp_path)))
    ring = dkim.load_keys("opendkim.toml")
    assert [each.selector for each in await ring.keys("alice@news.example.com")] == ["s1"]
    assert await ring.keys("alice@example.com") == []


async def test_the_filter_verifies() -> None:
    verify = run_page("dkim")["Verify"]
    async with session(lambda: verify(zone(key()))) as s:
        await s.mail("<a@example.com>")
        await s.rcpt("<b@example.net>")
        result = await s.message(signed(MESSAGE, key()))
    assert result.delivered is not None
    assert b"mx.example.net;\r\n\tdkim=pass" in result.delivered.octets


def test_every_rule_has_a_test_that_cites_it() -> None:
    rules = re.findall(r"^\* (D-\d{3}): ", PAGES["dkim"].read_text("utf-8"), re.MULTILINE)
    assert len(rules) == len(set(rules)) == 66
    cited = {case["rule"] for case in RULES}
    for folder in ("auth/dkim", "conformance", "interop", "mail"):
        for path in (ROOT / "tests" / folder).glob("test_*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                    docstring = ast.get_docstring(node) or ""
                    cited |= set(re.findall(r"\bD-\d{3}\b", docstring))
                    for first, last in re.findall(r"\bD-(\d{3}) to D-(\d{3})\b", docstring):
                        cited |= {f"D-{number:03}" for number in range(int(first), int(last) + 1)} & set(rules)
    assert cited >= set(rules), sorted(set(rules) - cited)
    assert cited <= set(rules), sorted(cited - set(rules))
