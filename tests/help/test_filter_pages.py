"""Each ready filter has a page, whose configuration is in order and does as the filter says."""

import asyncio
from pathlib import Path
from typing import Final

import pytest

from aiomilter import Reply, filters, mta
from aiomilter._cli import main
from aiomilter._cli.manual import page as shown
from tests.auth.dkim.made import key
from tests.filters.ready.gateway import gateway
from tests.help import filter_pages
from tests.help.pages import PAGES, literal

EVERY: Final = pytest.mark.parametrize("name", filters.NAMES)
MESSAGE: Final = b"From: sales@corp.example\r\nTo: bob@corp.example\r\nSubject: hello\r\n\r\nHello Bob.\r\n"
# What the file of a page changes in MESSAGE, which comes from outside; nothing if it is not here.
DOES: Final = {
    "authenticate": ["InsertHeader"],
    "known_senders": ["InsertHeader"],
    "reputation": ["InsertHeader"],
    "copy": ["AddRecipient"],
    "banner": ["ChangeHeader", "ReplaceBody"],
    "seal": ["InsertHeader"] * 4,
}
# Those that have it come again.
REFUSED: Final = {"greylist", "scan"}


async def played(path: Path) -> mta.MessageResult:
    """Return what the gateway of a file does with MESSAGE."""
    async with gateway(path) as running, running.session() as s:
        return await s.send(MESSAGE, "sales@corp.example", ["bob@corp.example"])


def test_all_have_one() -> None:
    assert {name for name in PAGES if name.startswith("filter-")} == {f"filter-{name}" for name in filters.NAMES}


@EVERY
def test_the_index_names_it_with_its_title(name: str) -> None:
    title = shown(f"filter-{name}").partition("\n")[0]
    assert f"``filter-{name}``".ljust(25) + title[:1].lower() + title[1:] + "\n" in PAGES["filters"].read_text("utf-8")


@EVERY
def test_what_is_made_from_the_settings_is_up_to_date(name: str) -> None:
    """``python -m tests.help.filter_pages`` writes it."""
    assert filter_pages.written(name) == filter_pages.made(name)


@EVERY
def test_it_is_found_by_the_name_of_the_filter(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", name]) == 0
    expected = name if name in PAGES else f"filter-{name}"
    assert capsys.readouterr().out == shown(expected)


@EVERY
def test_its_configuration_is_in_order_and_takes_a_message(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = [each for each in literal(f"filter-{name}") if each.language == "toml"]
    (tmp_path / "s1.pem").touch(0o600)
    (tmp_path / "s1.pem").write_bytes(key("ed25519").private.pem())
    (tmp_path / "keys.toml").write_text('[keys."example.com"]\nselector = "s1"\nkey = "s1.pem"\n')
    (tmp_path / "banner.txt").write_text("From outside.\n")
    head = 'hostname = "mx.corp.example"\nown_domains = ["corp.example"]\n'
    (tmp_path / "gateway.toml").write_text(head + block.text.replace("/run/clamav", "/nonexistent"))
    assert main(["config", "check", "gateway.toml"]) == 0
    assert "in order" in capsys.readouterr().out
    found = asyncio.run(played(tmp_path / "gateway.toml"))
    refused = bool(found.refused) or (isinstance(found.answer, Reply) and found.answer.code >= 400)
    assert refused == (name in REFUSED)
    assert sorted(type(each).__name__ for each in found.modifications) == DOES.get(name, [])
