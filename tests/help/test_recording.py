"""The page on recording: its filter is recorded, and replayed as shown."""

import asyncio
import os
import re
import shutil
from pathlib import Path

import pytest

from aiomilter import mta, serve
from aiomilter._cli import main
from aiomilter.options import Options
from aiomilter.recording.directory import RecordDirectory
from aiomilter.recording.recorder import RecordSettings
from aiomilter.recording.redaction import Redaction
from aiomilter.recording.relay import Relay
from aiomilter.testing import Replay
from tests.help.pages import literal, python

FILTER, TEST, REPLAY = python("recording")
CONSOLE = next(block.text for block in literal("recording") if block.language == "console")
NAME = "20260504T101112.131415-4711-1.jsonl.gz"


@pytest.fixture
async def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the filter, and a session of it that was recorded."""
    monkeypatch.chdir(tmp_path)
    Path("filter.py").write_text(FILTER.text)
    Path("new.py").write_text(FILTER.text.replace('rcpt.local_part.startswith("bob")', 'rcpt.local_part == "bob"'))
    names: dict[str, type] = {}
    exec(FILTER.text, names)
    settings = RecordSettings("filter.py", "full", frozenset(), Redaction(b"k" * 32))
    async with serve(names["Gateway"], f"unix:{tmp_path}/s", socket_mode=0o600) as server:
        relay = Relay(
            server.addresses[0], [f"unix:{tmp_path}/r"], Options(), settings, RecordDirectory("made", 1 << 20)
        )
        await relay.start()
        async with mta.connect(f"unix:{tmp_path}/r") as session:
            await session.connect("client.example", "192.0.2.1")
            await session.helo("client.example")
            message = b"From: alice@example.org\r\nSubject: hello\r\n\r\nHello\r\n"
            await session.send(message, "alice@example.org", ["carol@example.net", "bobby@example.net"])
        await relay.drain()
        await relay.close()
    Path("sessions").mkdir()
    (file,) = Path("made").iterdir()
    shutil.move(file, f"sessions/{NAME}")
    return tmp_path


async def test_the_sessions_of_the_page_are_replayed_as_shown(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = re.findall(r"^\$ aiomilter (.*)\n((?:(?!\$ ).*\n)*)", CONSOLE, re.MULTILINE)
    assert len(found) == 2
    for command, shown in found:
        status = await asyncio.to_thread(main, command.split())
        assert status == (0 if shown.endswith(": equal\n") else 1)
        printed = re.sub(r"(?m) +$", "", capsys.readouterr().out)
        assert printed[: len(shown)] == shown


async def test_the_test_of_the_page_replays_a_session(saved: Path) -> None:
    names: dict[str, object] = {}
    for block in (FILTER, TEST, REPLAY):
        exec(block.text, names)
    played: list[object] = []

    async def milter_replay(factory: object) -> None:
        played.append(factory)

    await names["test_the_filter_answers_as_it_did"](milter_replay)  # type: ignore[operator]
    assert played == [names["Gateway"]]
    assert await names["differences"](os.fspath(saved / "sessions" / NAME)) == 0  # type: ignore[operator]
    assert Replay("x", ()).equal
