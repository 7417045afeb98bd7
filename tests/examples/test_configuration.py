"""The example of a configuration file is in order, and its filter does what the file sets."""

import tomllib
from pathlib import Path

import pytest

from aiomilter import ACCEPT
from aiomilter._cli import main
from aiomilter.testing import session
from tests.examples.test_examples import EXAMPLES, load

DIRECTORY = EXAMPLES / "configuration"


def test_the_file_is_in_order(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds no secret, so it may be read by everyone."""
    monkeypatch.chdir(Path("/"))
    path = str(DIRECTORY / "aiomilter.toml")
    assert main(["config", "check", path]) == 0
    assert capsys.readouterr() == (f"{path}: in order\n", "")


async def test_the_filter_does_what_the_file_sets() -> None:
    example = load("configuration/tagger")
    settings = tomllib.loads((DIRECTORY / "aiomilter.toml").read_text())["settings"]
    async with session(lambda: example.Tagger(example.Settings(**settings))) as s:
        tagged = await s.send(b"From: a@x.example\r\nSubject: Hello\r\n\r\n", "a@x.example", "b@example.org")
        again = await s.send(b"From: a@x.example\r\nSubject: [EXTERNAL] Hello\r\n\r\n", "a@x.example", "b@example.org")
        assert await s.mail("<a@example.org>") is ACCEPT
    assert b"Subject: [EXTERNAL] Hello\r\n" in tagged.octets
    assert again.modifications == ()
