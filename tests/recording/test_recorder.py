"""Which sessions become files, and what they cost until then."""

import asyncio
import os
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aiomilter import Milter, Reply
from aiomilter._serving.memory import MemoryLimit
from aiomilter.mta import Session
from aiomilter.options import Options
from aiomilter.recording import FILTER, MTA, Recording, read, recorder
from aiomilter.recording.directory import RecordDirectory
from aiomilter.recording.format import ContentKind
from aiomilter.recording.recorder import Recorder, RecordSettings
from aiomilter.recording.redaction import Redaction, read_key
from aiomilter.recording.serving import ServerRecorder
from aiomilter.testing import replay
from aiomilter.testing._memory import MemoryServer
from aiomilter.wire.constants import Command, ReplyCode
from aiomilter.wire.framing import packet
from tests.mta.fakes import negotiated
from tests.patience import PATIENCE

MESSAGE = b"From: alice@example.org\r\nSubject: hello\r\n\r\nHello Bob\r\n"
OFFER = packet(Command.OPTNEG, b"\0\0\0\6\0\0\1\xff\0\x1f\xff\xff")
BEGUN = OFFER + packet(Command.CONNECT, b"client.example\0U") + packet(Command.MAIL, b"<alice@example.org>\0")


class Sees(Milter):
    async def envrcpt(self, ctx: Any, rcpt: Any) -> Any:
        return Reply(550, "5.1.1", "no such mailbox") if rcpt.local_part == "trap" else None

    async def body(self, ctx: Any, chunk: bytes) -> None:
        if b"raise" in chunk:
            raise ValueError

    async def eom(self, ctx: Any) -> None:
        ctx.add_header("X-Seen", "yes")


def settings(content: ContentKind = "full", *when: str) -> RecordSettings:
    return RecordSettings("f.py", content, frozenset(when), Redaction(b"k" * 32))


def sessions(path: Path) -> list[Recording]:
    return [read(file) for file in sorted(path.glob("*.jsonl.gz"))]


@asynccontextmanager
async def serving(path: Path, made: RecordSettings, share: float = 1.0) -> AsyncIterator[Callable[..., Any]]:
    """Serve a filter whose sessions are recorded; give what plays one."""
    recording = ServerRecorder(made, RecordDirectory(path, 1 << 20), share)
    async with MemoryServer(Sees, Options(), recording.connection) as server:
        server._server.observer.add(recording)

        async def play(recipient: str = "bob@example.net", message: bytes = MESSAGE) -> None:
            session = Session(*server.connect(), timeout=30.0)
            await session.negotiate()
            await session.connect("client.example", "192.0.2.1")
            await session.helo("client.example")
            await session.send(message, "alice@example.org", ["carol@example.net", recipient])
            await session.quit()

        yield play
    await recording.close()


async def test_each_session_of_a_server_is_a_file_that_replays_equal(tmp_path: Path) -> None:
    async with serving(tmp_path, settings()) as play:
        await play()
        await play("trap@example.net")

    found = sessions(tmp_path)
    assert len(found) == 2
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    for recording in found:
        assert (recording.head.mta, recording.head.filter, recording.head.content) == ("Postfix 3.7.11", "f.py", "full")
        assert str(await replay(recording, Sees)) == f"{recording.name}: equal"


@pytest.mark.parametrize(
    ("when", "kept"),
    [
        ((), ["plain", "refused", "failed"]),
        (("refused",), ["refused", "failed"]),
        (("failed",), ["failed"]),
        (("slow",), []),
    ],
)
async def test_a_session_is_kept_for_what_was_asked_for(when: tuple[str, ...], kept: list[str], tmp_path: Path) -> None:
    """A failure is answered TEMPFAIL, so it is a refusal, too."""
    plays = {"plain": ("bob", MESSAGE), "refused": ("trap", MESSAGE), "failed": ("bob", MESSAGE + b"raise\r\n")}
    for name, (recipient, message) in plays.items():
        async with serving(tmp_path / name, settings("full", *when)) as play:
            await play(f"{recipient}@example.net", message)
    assert [name for name in plays if sessions(tmp_path / name)] == kept


async def test_a_slow_answer_is_one_that_took_five_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(recorder, "monotonic", lambda: now)
    for seconds in (4.9, 5.0):
        one = Recorder(settings("full", "slow"), RecordDirectory(tmp_path / str(seconds), 1 << 20), memory(), no_report)
        record = one.begin("")
        record.add(MTA, BEGUN)
        now += seconds
        record.add(FILTER, negotiated())
        record.end()
        await one.close()
    assert [len(sessions(tmp_path / name)) for name in ("4.9", "5.0")] == [0, 1]


async def test_a_share_of_sessions_is_recorded_and_the_others_know_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chances = iter([0.009, 0.01, 0.5])
    monkeypatch.setattr("random.random", lambda: next(chances))
    async with serving(tmp_path, settings(), share=0.01) as play:
        for _ in range(3):
            await play()
    assert len(sessions(tmp_path)) == 1


def memory(most: int = 1 << 30) -> MemoryLimit:
    return MemoryLimit(most, None, lambda *_: pytest.fail("the limit is reached"))


def no_report(what: str) -> None:
    pytest.fail(what)


async def test_what_waits_is_counted_and_given_back(tmp_path: Path) -> None:
    limit = memory()
    one = Recorder(settings(), RecordDirectory(tmp_path, 1 << 20), limit, no_report)
    record = one.begin("")
    record.add(MTA, BEGUN)
    record.add(FILTER, negotiated())
    record.add(MTA, packet(Command.BODY, b"x" * 60_000))
    assert 60_000 <= limit.used == record.size <= 62_000
    record.end()
    assert limit.used >= 60_000  # until it is written
    await one.close()
    assert limit.used == 0
    assert len(sessions(tmp_path)) == 1


async def test_recordings_that_wait_are_dropped_before_the_limit_is_reached(tmp_path: Path) -> None:
    reports: list[str] = []
    limit = memory(100_000)
    one = Recorder(settings(), RecordDirectory(tmp_path, 1 << 20), limit, reports.append)
    first, second = one.begin(""), one.begin("")
    first.add(MTA, BEGUN)
    second.add(MTA, BEGUN)
    second.add(MTA, packet(Command.BODY, b"x" * 5000))
    limit.change(99_500)  # of what is served

    assert not limit.full
    assert limit.used == 99_500
    assert reports == ["memory is short (--max-memory): sessions that are not recorded: 2"]
    first.add(MTA, b"x")
    first.end()
    second.end()
    await one.close()
    assert limit.used == 99_500
    assert sessions(tmp_path) == []


async def gone(kept: "weakref.ref[Any]") -> None:
    """Wait until something is kept by nobody; the thread lets go of it a moment after its work."""
    async with asyncio.timeout(PATIENCE):
        while kept() is not None:
            await asyncio.sleep(0)


async def test_what_is_dropped_is_kept_by_nobody(tmp_path: Path) -> None:
    limit = memory()
    one = Recorder(settings(), RecordDirectory(tmp_path, 1 << 20), limit, lambda _: None)
    record = one.begin("")
    record.add(MTA, BEGUN)
    for _ in range(20):
        record.add(MTA, packet(Command.BODY, b"x" * 60_000))
    idle = asyncio.Event()
    one.later(lambda: None, idle.set)
    await idle.wait()  # what was handed to the thread is encoded
    encoder = weakref.ref(record._encoder)
    one.drop()
    await gone(encoder)  # though the connection goes on, and with it the record
    assert limit.used == 0
    await one.close()


async def test_what_is_written_is_kept_by_nobody(tmp_path: Path) -> None:
    limit = memory()
    one = Recorder(settings(), RecordDirectory(tmp_path, 1 << 20), limit, no_report)
    record = one.begin("")
    record.add(MTA, BEGUN)
    record.end()
    encoder = weakref.ref(record._encoder)
    del record
    await gone(encoder)  # though there is no next session
    await one.close()


async def test_a_long_session_that_waits_for_its_end_does_so_as_its_shape(tmp_path: Path) -> None:
    limit = memory()
    one = Recorder(settings("full", "refused"), RecordDirectory(tmp_path, 1 << 20), limit, no_report)
    record = one.begin("")
    record.add(MTA, BEGUN)
    record.add(FILTER, negotiated())
    for _ in range(40):
        record.add(MTA, packet(Command.BODY, b"secret words\r\n" * 4500))
        record.add(FILTER, packet(ReplyCode.CONTINUE))
    idle = asyncio.Event()
    one.later(lambda: None, idle.set)
    await idle.wait()  # what was handed to the thread is encoded
    assert limit.used < 1_300_000  # of 2.5 MB
    record.add(FILTER, packet(ReplyCode.REJECT))
    record.end()
    await one.close()

    (recording,) = sessions(tmp_path)
    assert recording.head.content == "shape"
    assert b"secret" not in b"".join(each.payload for each in recording.packets)
    assert sum(each.code == Command.BODY and each.sender == MTA for each in recording.packets) == 40
    assert limit.used == 0


async def test_a_connection_that_was_only_tried_is_no_session(tmp_path: Path) -> None:
    one = Recorder(settings(), RecordDirectory(tmp_path, 1 << 20), memory(), no_report)
    record = one.begin("")
    record.add(MTA, OFFER)
    record.add(FILTER, negotiated())
    record.add(MTA, packet(Command.QUIT))
    record.end()
    await one.close()
    assert sessions(tmp_path) == []


async def test_a_disk_that_is_full_is_reported_and_costs_that_session_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[str] = []
    directory = RecordDirectory(tmp_path, 1 << 20)
    one = Recorder(settings(), directory, memory(), reports.append)
    write = directory.write

    def full(octets: bytes, began: float) -> Any:
        directory.write = write  # type: ignore[method-assign]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(directory, "write", full)
    for _ in range(2):
        record = one.begin("")
        record.add(MTA, BEGUN)
        record.end()
    await one.close()
    assert reports == ["a session cannot be recorded: No space left on device"]
    assert len(sessions(tmp_path)) == 1


def test_the_oldest_files_are_removed(tmp_path: Path) -> None:
    directory = RecordDirectory(tmp_path / "new", 1000)
    (tmp_path / "new" / "key").write_bytes(b"k" * 900)
    names = [directory.write(b"x" * 300, 1e9 + number) for number in range(3)]
    assert directory.write(b"x" * 1001, 2e9) is None
    assert all(name is not None and name.exists() for name in names)
    for number, name in enumerate(names):
        assert name is not None
        os.utime(name, (1e9 + number, 1e9 + number))
    last = directory.write(b"x" * 700, 1.1e9)
    assert [name is not None and name.exists() for name in [*names, last]] == [False, False, True, True]
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_the_key_of_a_directory_is_made_once_and_belongs_to_its_owner(tmp_path: Path) -> None:
    key = read_key(tmp_path)
    assert len(key) == 32
    assert read_key(tmp_path) == key
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(ValueError, match="expected 32 octets, found 5"):
        read_key(tmp_path)
