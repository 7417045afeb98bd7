from pathlib import Path

import pytest

import aiomilter
from aiomilter import Reply
from aiomilter.mta import Session, Style, connect
from aiomilter.testing import session
from tests.filters.configured import Configured, Settings, reload

MESSAGE = b"Subject: hi\r\n\r\nHello\r\n"


async def tags(s: Session) -> list[bytes]:
    """Play a message, and return the tags that it gets."""
    await s.mail("<a@x.example>")
    await s.rcpt("<b@example.org>")
    result = await s.message(MESSAGE)
    assert result.delivered is not None
    return [line[7:] for line in result.delivered.octets.splitlines() if line.startswith(b"X-Tag: ")]


async def test_what_the_file_says_is_done_for_each_message(tmp_path: Path, mta: Style) -> None:
    file = tmp_path / "filter.toml"
    file.write_text('tag = "one"\nrefuse = ["spam.example"]\n')
    settings = Settings.read(file)
    async with session(lambda: Configured(settings), mta=mta) as s:
        assert await s.mail("<x@SPAM.example>") == Reply(550, "5.7.1", "Not from there, please")
        assert await tags(s) == [b"one"]
        assert await tags(s) == [b"one"]


async def test_a_reload_is_for_new_connections(tmp_path: Path, mta: Style) -> None:
    file = tmp_path / "filter.toml"
    file.write_text('tag = "one"')
    settings = Settings.read(file)
    async with (
        aiomilter.serve(lambda: Configured(settings), "inet:0@127.0.0.1") as server,
        connect(server.addresses[0], style=mta) as old,
    ):
        await old.connect()
        assert await tags(old) == [b"one"]
        file.write_text('tag = "two"')
        await reload(server, file)
        assert await tags(old) == [b"one"]
        async with connect(server.addresses[0], style=mta) as new:
            await new.connect()
            assert await tags(new) == [b"two"]
            assert await tags(new) == [b"two"]


@pytest.mark.parametrize("text", ["tag = ", 'tga = "two"', "refuse = 3"])
async def test_a_broken_file_changes_nothing(
    text: str, tmp_path: Path, mta: Style, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "filter.toml"
    file.write_text('tag = "one"')
    settings = Settings.read(file)
    async with aiomilter.serve(lambda: Configured(settings), "inet:0@127.0.0.1") as server:
        file.write_text(text)
        await reload(server, file)
        async with connect(server.addresses[0], style=mta) as s:
            await s.connect()
            assert await tags(s) == [b"one"]
    assert "the old settings stay" in capsys.readouterr().err
