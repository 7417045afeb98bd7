"""The messages that ``aiomilter check`` is given."""

import io
import mailbox
import os
import sys
import threading
from pathlib import Path

import pytest

from aiomilter._cli.messages import Message, messages
from aiomilter._cli.trouble import Trouble

LINE = b"From alice@x.example Mon Nov 30 12:00:00 2026\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def played(*names: str) -> list[tuple[str, bytes]]:
    return [(message.source, message.octets) for message in messages(names)]


@pytest.mark.parametrize(
    ("octets", "found"),
    [
        (LINE + b"A: b\n\nc\n", [b"A: b\n\nc\n"]),
        (LINE + b"A: b\n\nc\n\n" + LINE + b"D: e\n\nf\n\n", [b"A: b\n\nc\n", b"D: e\n\nf\n"]),
        (
            LINE.replace(b"\n", b"\r\n") + b"A: b\r\n\r\nc\r\n\r\n" + LINE + b"D: e\r\n",
            [b"A: b\r\n\r\nc\r\n", b"D: e\r\n"],
        ),
        (
            LINE + b"A: b\n\n>From me 12:00 2026\n>>From\n>>From x\n> From\n",
            [b"A: b\n\nFrom me 12:00 2026\n>>From\n>From x\n> From\n"],
        ),
        (LINE + b"A: b\n\nx\n\nFrom now on no date\n\ny\n", [b"A: b\n\nx\n\nFrom now on no date\n\ny\n"]),
        (LINE + b"A: b\n\nx\n" + LINE, [b"A: b\n\nx\n" + LINE]),
        (LINE + LINE, [LINE]),
        (LINE.rstrip() + b" +0100\n\nx\n", [b"\nx\n"]),
        (LINE, [b""]),
        (LINE.rstrip(), [b""]),
        (b"From here on it is a message\n\nx\n", None),
        (b"From ", None),
        (b"A: b\n\nx\n\n" + LINE + b"C: d\n", None),
        (b"", None),
    ],
)
def test_an_mbox_is_its_messages_and_another_file_is_one(here: Path, octets: bytes, found: list[bytes] | None) -> None:
    (here / "m").write_bytes(octets)
    expected = [("m", octets)] if found is None else [(f"m:{number}", one) for number, one in enumerate(found, 1)]
    assert played("m") == expected


def test_an_mbox_that_python_has_written_is_read_back(here: Path) -> None:
    written = [b"A: b\n\nFrom me\n\nFrom here 12:00:00 2026\nx\n", b"A: b\n\n", b"\n\nFrom\n", b"A: b\n\n>From x\n\n\n"]
    box = mailbox.mbox("box")
    for octets in written:
        box.add(octets)
    box.close()
    # Python quotes a line that begins with "From ", but not one that has been quoted before.
    assert [octets.rstrip(b"\n") for _, octets in played("box")] == [
        octets.replace(b"\n>From ", b"\nFrom ").rstrip(b"\n") for octets in written
    ]


def test_a_name_in_eml_is_one_message_as_it_is(here: Path) -> None:
    (here / "m.eml").write_bytes(LINE + b"A: b\n\nc\n\n" + LINE + b"D: e\n")
    assert played("m.eml") == [("m.eml", LINE + b"A: b\n\nc\n\n" + LINE + b"D: e\n")]


def test_a_directory_is_its_eml_files_in_order(here: Path) -> None:
    for name in ("b.eml", "a.eml", "a.json", "x.py", ".c.eml", "below/d.eml", ".hidden/e.eml"):
        (here / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "d" / name).write_bytes(name.encode())
    assert played("d") == [("d/a.eml", b"a.eml"), ("d/b.eml", b"b.eml"), ("d/below/d.eml", b"below/d.eml")]


def test_a_maildir_is_its_cur_and_new(here: Path) -> None:
    for name in ("cur/1:2,S", "new/2", "tmp/3", "dovecot.index.py"):
        (here / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "d" / name).write_bytes(name.encode())
    assert played("d/") == [("d/cur/1:2,S", b"cur/1:2,S"), ("d/new/2", b"new/2")]


def test_files_are_found_after_the_filter_has_left_the_directory(here: Path) -> None:
    (here / "m").write_bytes(b"x")
    found = messages(["m"])
    os.chdir("/")
    assert list(found) == [Message("m", b"x")]


def test_standard_input_and_a_pipe_are_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINE + b"A: b\n")))
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: (here / "pipe").write_bytes(LINE + b"C: d\n"))
    writer.start()
    assert played("-", "pipe") == [("-", LINE + b"A: b\n"), ("pipe:1", b"C: d\n")]
    writer.join()


@pytest.mark.parametrize(
    ("name", "status", "what"),
    [
        ("none", 4, "there is no message 'none'"),
        ("d", 4, "there is no message in the directory 'd'"),
        ("f.py", 2, "'f.py' is a Python file, not a message; several filters run as one process each"),
    ],
)
def test_what_is_not_a_message_is_told_before_any_is_played(here: Path, name: str, status: int, what: str) -> None:
    (here / "d").mkdir()
    (here / "f.py").touch()
    (here / "m").touch()
    with pytest.raises(Trouble, match=what) as caught:
        messages(["m", name])
    assert caught.value.status == status
