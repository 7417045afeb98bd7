"""``aiomilter replay`` and ``aiomilter record``: what they print, and how they end."""

import asyncio
import gzip
import signal
from pathlib import Path

import pytest

from aiomilter import Milter, mta, serve
from aiomilter._cli import main
from aiomilter.recording import Recording
from aiomilter.recording.format import head_line, packet_line
from tests.conformance.capture import conversations
from tests.life.daemon import running
from tests.recorded import recording_of

FILTER = """\
from aiomilter import Milter, Reply

class Gateway(Milter):
    async def envrcpt(self, ctx, rcpt):
        return Reply(550, "5.1.1", "no such mailbox") if rcpt.local_part == "nosuch" else None

    async def eom(self, ctx):
        {eom}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a session that was recorded, of a filter that let everything pass, and such a filter."""
    monkeypatch.chdir(tmp_path)
    write(recording_of(conversations()["postfix-3.7-default c1"]), Path("one.jsonl.gz"))
    Path("filter.py").write_text(FILTER.format(eom="pass"))
    Path("other.py").write_text(FILTER.format(eom='ctx.add_header("X-Seen", "yes[31m")'))
    Path("fails.py").write_text(FILTER.format(eom="raise ValueError('lost')"))
    return tmp_path


def write(recording: Recording, path: Path) -> None:
    path.write_bytes(gzip.compress(b"".join([head_line(recording.head), *map(packet_line, recording.packets)])))


def test_a_session_that_comes_to_the_same_is_equal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "one.jsonl.gz", "filter.py"]) == 0
    assert capsys.readouterr().out == "one.jsonl.gz: equal\n"


def test_what_differs_is_shown_and_the_exit_code_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "one.jsonl.gz", "other.py"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("one.jsonl.gz: 1 differ\n")
    assert "EOM: continue, with other edits\n" in out
    assert "  +AddHeader(name='X-Seen', value='yes[31m')\n" in out
    assert "  +X-Seen: yes[31m\n" in out


def test_a_failure_of_the_filter_is_shown_with_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "one.jsonl.gz", "fails.py", "--on-error", "continue"]) == 1
    out = capsys.readouterr().out
    assert "one.jsonl.gz: equal\n" in out
    assert "raise ValueError('lost')" in out


def test_many_sessions_of_a_directory_have_a_sum(capsys: pytest.CaptureFixture[str]) -> None:
    Path("corpus").mkdir()
    for number, name in enumerate(("postfix-3.7-default c1", "sendmail-8.17-default c1")):
        write(recording_of(conversations()[name]), Path(f"corpus/{number}.jsonl.gz"))
    Path("corpus/key").write_bytes(b"x")
    assert main(["replay", "corpus", "one.jsonl.gz", "filter.py"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "corpus/0.jsonl.gz: equal",
        "corpus/1.jsonl.gz: equal",
        "one.jsonl.gz: equal",
        "3 sessions, 0 differ",
    ]


def test_the_key_that_a_shell_names_beside_the_sessions_is_passed_over(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    (here / "key").write_bytes(bytes(range(128, 160)))
    assert main(["replay", "key", "one.jsonl.gz", "filter.py"]) == 0
    assert capsys.readouterr().out == "one.jsonl.gz: equal\n"
    assert main(["replay", "key", "filter.py"]) == 4
    (here / "elsewhere").mkdir()
    (here / "key").rename(here / "elsewhere" / "key")
    assert main(["replay", "elsewhere/key", "one.jsonl.gz", "filter.py"]) == 4


@pytest.mark.parametrize(("target", "status"), [("filter.py", 1), ("other.py", 0)])
def test_another_filter_can_be_compared_with(target: str, status: int) -> None:
    assert main(["replay", "one.jsonl.gz", target, "--against", "other.py"]) == status


def test_another_recording_can_be_compared_with() -> None:
    assert main(["replay", "one.jsonl.gz", "other.py", "--against", "one.jsonl.gz"]) == 1


async def test_a_milter_that_runs_is_asked(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Adds(Milter):
        async def eom(self, ctx: object) -> None:
            ctx.add_header("X-Seen", "yes")  # type: ignore[attr-defined]

    for factory, status in ((Milter, 0), (Adds, 1)):
        async with serve(factory, f"unix:{here}/s", socket_mode=0o600) as server:
            words = ["replay", "one.jsonl.gz", "--connect", server.addresses[0]]
            assert await asyncio.to_thread(main, words) == status
    assert "X-Seen: yes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "status", "what"),
    [
        (["filter.py"], 2, "which session, and which filter?"),
        ([], 2, "which session, and which filter?"),
        (["none.jsonl.gz", "filter.py"], 4, "'none.jsonl.gz' cannot be read: No such file or directory"),
        (["filter.py", "filter.py"], 4, "filter.py: expected a JSON object"),
        (["empty", "filter.py"], 4, "'empty' has no recorded sessions"),
        (["cut.jsonl.gz", "filter.py"], 4, "cut.jsonl.gz: ends in the middle"),
        (["head.jsonl.gz", "filter.py"], 4, "agreed on nothing"),
        (["one.jsonl.gz", "none.py"], 4, "none.py"),
        (["one.jsonl.gz", "--connect", "unix:/none"], 4, "cannot connect to unix:/none"),
        (["one.jsonl.gz", "--connect", "unix:/none", "--max-edits", "5"], 2, "--max-edits is for TARGET"),
        (["one.jsonl.gz", "filter.py", "--mta", "exim"], 2, "expected one of postfix, sendmail"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], status: int, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    Path("cut.jsonl.gz").write_bytes(Path("one.jsonl.gz").read_bytes()[:-20])
    recording = recording_of(conversations()["postfix-3.7-default c1"])
    write(Recording("x", recording.head, recording.packets[:1]), Path("head.jsonl.gz"))
    assert main(["replay", *words]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert what in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("--connect unix:/a --record d", "give --listen SOCKET"),
        ("--listen unix:/a --record d", "give --connect SOCKET"),
        ("--listen unix:/a --connect unix:/b", "give --record DIR"),
        ("--listen unix:/a --connect unix:/a --record d", "this is where --listen listens"),
        ("--listen unix:/a --connect unix:/b --record d --record-when failed", "is for 'aiomilter run'"),
        ("--listen unix:/a --connect unix:/b --record d --record-when loud", "expected one of failed, refused, slow"),
        ("--listen unix:/a --connect unix:/b --record d --record-share 2", "expected a share"),
    ],
)
def test_a_mistake_of_record_is_one_line(words: str, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", *words.split()]) == 2
    captured = capsys.readouterr()
    assert what in captured.err
    assert captured.err.count("\n") == 1
    assert not Path("d").exists()


def test_a_directory_that_cannot_be_used_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "--listen", "unix:/a", "--connect", "unix:/b", "--record", "filter.py"]) == 1
    assert "cannot record into" in capsys.readouterr().err


@pytest.mark.slow
async def test_record_passes_on_and_says_when_the_milter_is_away(here: Path) -> None:
    command = ("-m", "aiomilter", "record", "--socket-mode", "600", "--record-share", "100 %")
    words = ("--listen", f"unix:{here}/r", "--connect", f"unix:{here}/s", "--record", "made")
    async with running(*words, directory=here, command=command) as daemon:
        await daemon.logged("listening on")
        with pytest.raises(Exception, match="expected an answer"):
            async with mta.connect(f"unix:{here}/r"):
                pass
        await daemon.logged("cannot connect to unix:.*: No such file or directory; closing the MTA's connection")
        async with serve(Milter, f"unix:{here}/s", socket_mode=0o600), mta.connect(f"unix:{here}/r") as session:
            await session.connect()
            await session.helo()
            assert (await session.send(b"Subject: hi\r\n\r\n", "a@x.example", "b@y.example")).passed
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    (file,) = here.glob("made/*.jsonl.gz")
    assert await asyncio.to_thread(main, ["replay", str(file), "filter.py"]) == 0
