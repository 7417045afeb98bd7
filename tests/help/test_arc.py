"""What the help topic on ARC shows is so."""

import shlex
import time
from importlib import resources
from pathlib import Path
from typing import Final

import pytest

from aiomilter._cli import main
from aiomilter._cli.zone import read_zone
from aiomilter.auth import arc, dkim
from aiomilter.auth.results import AuthenticationResults, parse
from tests.auth.arc.made import FOUND, LIST, MESSAGE, with_footer, zone
from tests.auth.arc.test_chain import chain
from tests.help.pages import commands
from tests.help.test_pages import run_page

PAGE: Final = (resources.files("aiomilter") / "help" / "arc.rst").read_text("utf-8")


async def test_what_a_trusted_list_found_is_believed() -> None:
    names = run_page("arc")
    message = await names["sealed"](with_footer(MESSAGE), LIST, arc.Chain("none"), FOUND)
    assert await names["was_authentic"](message, zone(LIST))
    assert not await names["was_authentic"](with_footer(message), zone(LIST))
    failed = AuthenticationResults(FOUND.authserv_id, FOUND.results[:1])
    message = await names["sealed"](with_footer(MESSAGE), LIST, arc.Chain("none"), failed)
    assert not await names["was_authentic"](message, zone(LIST))


async def test_the_key_of_the_page_seals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    (command,) = (each for each in commands("arc") if "keygen" in each)
    assert main(shlex.split(command)[1:]) == 0
    Path("zone").write_bytes(capsysbinary.readouterr().out)
    key = dkim.Key.load("arc1.pem", domain="fwd.example.org", selector="arc1")
    message = await run_page("arc")["sealed"](MESSAGE, key, arc.Chain("none"), FOUND)
    assert (await arc.verify(message, resolver=read_zone("zone"), now=time.time())).result == "pass"


def test_the_result_is_written_as_the_page_shows_it() -> None:
    shown = str(chain("pass", "lists.example.org", "fwd.example.net").method_result("192.0.2.1"))
    assert f"\n    {shown}\n" in PAGE
    assert parse(f"mx; {shown}") is not None


def test_every_attribute_of_a_chain_is_in_the_table() -> None:
    public = {name for name in dir(arc.Chain) if not name.startswith("_")}
    named = {name for name in public if f"\n``{name}`` " in PAGE or f"\n``{name}()`` " in PAGE}
    assert public - named == {"method_result", "sealed_as_failed"}
