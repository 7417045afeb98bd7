"""A stderr that nobody reads stops no mail: records are dropped and counted; where somebody reads slowly, none is lost."""

import contextlib
import fcntl
import io
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import pytest

from aiomilter._cli import unread
from aiomilter._cli.unread import Unread

from .patience import PATIENCE
from .peer import MESSAGE, OPENING, QUIT

LINE: Final = b"x" * 99 + b"\n"
MOST: Final = 1 << 18
FULL: Final = 5_000
"""Lines that are more than a pipe and what is kept take."""


def notice(count: int) -> str:
    return f"{count} dropped"


def accounted(octets: bytes) -> int:
    """Return how many lines came or are told to have been dropped; all are whole."""
    lines = octets.splitlines()
    assert set(lines) - {LINE.strip()} == {line for line in lines if b"dropped" in line}
    return sum(int(line.split()[0]) if b"dropped" in line else 1 for line in lines)


@pytest.fixture(autouse=True)
def less_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unread, "_MOST", MOST)


class Pipe:
    """A pipe, and a stream to it."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.stream = Unread(self.writer, notice)

    def read_all(self) -> bytes:
        """Read to the end, once the stream has written what it can."""
        found: list[bytes] = []
        thread = threading.Thread(target=lambda: found.append(self._read()))
        thread.start()
        self.stream.finish()
        self.stream.close()
        assert _opened_again(self.writer) == {self.writer}
        os.close(self.writer)
        thread.join()
        os.close(self.reader)
        return found[0]

    def _read(self) -> bytes:
        parts = []
        while part := os.read(self.reader, 4096):
            parts.append(part)
        return b"".join(parts)


def _opened_again(fd: int) -> set[int]:
    """Return the other descriptors of this process that write to the same."""
    wanted = os.stat(fd)
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            one = os.fstat(int(name))
            same = (one.st_dev, one.st_ino) == (wanted.st_dev, wanted.st_ino)
            if same and fcntl.fcntl(int(name), fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
                found.add(int(name))
    return found


@pytest.fixture(params=["opened again", "looked at first"])
def pipe(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Pipe:
    """One that can be opened again, or that belongs to another user, say."""
    if request.param != "opened again":
        monkeypatch.setattr("aiomilter._cli.unread.os.open", _refused)
    return Pipe()


def _refused(*_: object) -> int:
    raise PermissionError


def test_what_is_read_comes_in_order_and_whole(pipe: Pipe) -> None:
    for number in range(100):
        pipe.stream.write(b"%d\n" % number)
    assert pipe.read_all().split() == [b"%d" % number for number in range(100)]


@pytest.mark.slow
def test_a_pipe_that_nobody_reads_is_waited_for_by_nobody_and_drops_are_counted(pipe: Pipe) -> None:
    for _ in range(FULL):
        pipe.stream.write(LINE)
    octets = pipe.read_all()
    assert accounted(octets) == FULL
    assert octets.count(b"dropped") == 1
    assert len(octets) > MOST


@pytest.mark.slow
def test_who_reads_slowly_loses_nothing(pipe: Pipe) -> None:
    read = []
    for number in range(FULL):
        pipe.stream.write(LINE)
        if number % 40 == 39:
            read.append(os.read(pipe.reader, 4096))
    octets = b"".join(read) + pipe.read_all()
    assert octets == LINE * FULL


@pytest.mark.slow
def test_the_count_comes_where_the_records_were_and_without_another_record(pipe: Pipe) -> None:
    for _ in range(FULL):
        pipe.stream.write(LINE)
    octets = b""
    while b"dropped" not in octets:
        octets += os.read(pipe.reader, 65536)  # the thread writes it
    assert accounted(octets) == FULL
    pipe.stream.write(b"on\n")
    assert pipe.read_all() == b"on\n"


def test_a_record_longer_than_a_pipe_takes_at_once_stays_whole(pipe: Pipe) -> None:
    long = b"y" * 200_000 + b"\n"
    for record in (LINE, long, LINE):
        pipe.stream.write(record)
    assert pipe.read_all() == LINE + long + LINE


@pytest.mark.slow
def test_the_descriptor_that_others_have_too_stays_as_it_is(pipe: Pipe) -> None:
    for _ in range(FULL):
        pipe.stream.write(LINE)
    assert not fcntl.fcntl(pipe.writer, fcntl.F_GETFL) & os.O_NONBLOCK
    pipe.read_all()


def test_who_closes_it_is_no_error_and_a_new_reader_gets_the_count(tmp_path: Path) -> None:
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY)
    stream = Unread(writer, notice)
    os.close(reader)
    for _ in range(3):
        stream.write(LINE)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    stream.write(LINE)
    assert os.read(reader, 4096) == b"3 dropped\n" + LINE
    stream.close()
    for fd in (reader, writer):
        os.close(fd)


@pytest.mark.slow
def test_a_terminal_that_is_held_is_waited_for_by_nobody() -> None:
    """Ctrl-S."""
    main, terminal = pty.openpty()
    stream = Unread(terminal, notice)
    termios.tcflow(terminal, termios.TCOOFF)
    for _ in range(FULL):
        stream.write(LINE)
    termios.tcflow(terminal, termios.TCOON)
    octets = b""
    while b"dropped" not in octets:
        octets += os.read(main, 65536)
    assert accounted(octets.replace(b"\r\n", b"\n")) == FULL
    assert stream.isatty()
    stream.close()
    for fd in (main, terminal):
        os.close(fd)


@pytest.mark.slow
def test_a_socket_that_nobody_reads_is_waited_for_by_nobody() -> None:
    """The journal's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = Unread(theirs.fileno(), notice)
        for _ in range(FULL):
            stream.write(LINE)
        octets = b""
        while b"dropped" not in octets:
            octets += ours.recv(65536)
        stream.close()
    assert accounted(octets) == FULL


def test_a_file_has_all(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb") as file:
        file.write(b"before\n")
        file.flush()
        stream = Unread(file.fileno(), notice)
        stream.write(LINE)
    assert (tmp_path / "log").read_bytes() == b"before\n" + LINE


def test_a_full_disk_is_no_error() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        stream = Unread(full.fileno(), notice)
        assert [stream.write(LINE), stream._dropped] == [len(LINE), 1]
        stream.finish()


def test_what_prints_while_something_is_written_is_written_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer does."""
    pipe = Pipe()
    write = pipe.stream._write_now

    def finalized(octets: memoryview) -> int:
        monkeypatch.setattr(pipe.stream, "_write_now", write)
        pipe.stream.write(b"two\n")
        return write(octets)

    monkeypatch.setattr(pipe.stream, "_write_now", finalized)
    pipe.stream.write(b"one\n")
    assert pipe.read_all() == b"one\ntwo\n"


@pytest.mark.slow
def test_a_part_of_a_line_is_no_record_and_the_count_begins_a_line(pipe: Pipe) -> None:
    text = io.TextIOWrapper(cast(Any, pipe.stream), "utf-8", write_through=True)
    for _ in range(FULL // 2):
        print("x" * 99, file=text)
        print("x" * 99, file=text)
    octets = pipe.read_all()
    assert re.findall(rb"[^x\n].*", octets) == re.findall(rb"(?m)^\d+ dropped$", octets)
    assert sum(map(int, re.findall(rb"(\d+) dropped", octets))) + octets.count(b"x\n") in range(FULL - 1, FULL + 1)


@pytest.mark.slow
def test_a_fork_has_no_thread_and_each_process_writes_its_own(pipe: Pipe) -> None:
    for _ in range(FULL):
        pipe.stream.write(LINE)
    assert pipe.stream._thread is not None
    pipe.stream._before_fork()
    assert not any(thread.name == "aiomilter stderr" for thread in threading.enumerate())
    child = os.fork()
    if child == 0:
        pipe.stream._after_fork_in_child()
        os._exit(len(pipe.stream._kept) + pipe.stream._dropped)
    pipe.stream._after_fork()
    assert os.waitpid(child, 0)[1] == 0
    assert accounted(pipe.read_all()) == FULL


# Processes

SOME: Final = 8_000
"""Messages, of which the records fill the pipe and what is kept."""
FILTER: Final = "from aiomilter import Milter\nclass M(Milter):\n    async def eom(self, ctx): pass\n"
PROGRAM: Final = """\
import logging, sys
import Milter
logging.basicConfig(level=logging.INFO)
class M(Milter.Base):
    def eom(self):
        return Milter.CONTINUE
Milter.factory = M
Milter.runmilter("test", sys.argv[1], 0)
"""


class Process:
    """A command whose stderr is read only when a test likes."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self._reader, writer = os.pipe()
        command = [sys.executable, "-m", "aiomilter", *arguments]
        self.process = subprocess.Popen(command, cwd=cwd, stderr=writer, stdin=subprocess.DEVNULL)
        os.close(writer)
        self.octets = b""

    def until(self, pattern: bytes, times: int = 1) -> "re.Match[bytes]":
        """Read until the log has a pattern so often."""
        while len(found := list(re.finditer(pattern, self.octets))) < times:
            part = os.read(self._reader, 65536)
            assert part, self.octets
            self.octets += part
        return found[times - 1]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it, and return its exit status; nobody reads meanwhile."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def read(self) -> bytes:
        """Return all that it has said."""
        while part := os.read(self._reader, 65536):
            self.octets += part
        return self.octets

    def close_log(self) -> None:
        os.close(self._reader)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self._reader)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[Process]]:
    (tmp_path / "f.py").write_text(FILTER)
    (tmp_path / "program.py").write_text(PROGRAM)
    found: list[Process] = []
    yield found
    for one in found:
        one.kill()


def bring(where: tuple[str, int] | str, count: int) -> None:
    """Bring messages, one after the other on one connection."""
    with socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(where)
        sending = threading.Thread(target=lambda: sock.sendall(OPENING + MESSAGE * count + QUIT))
        sending.start()
        while sock.recv(65536):
            pass
        sending.join()


def port_of(process: Process) -> tuple[str, int]:
    return "127.0.0.1", int(process.until(rb"listening on inet:(\d+)@")[1])


def dropped(octets: bytes) -> int:
    return sum(map(int, re.findall(rb"WARNING.*: (\d+) records were dropped: stderr was not read\n", octets)))


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["--uvloop", "--no-uvloop"])
def test_a_daemon_whose_stderr_nobody_reads_serves_on(loop: str, processes: list[Process], tmp_path: Path) -> None:
    process = Process("run", "f.py", "--listen", "inet:0@127.0.0.1", loop, cwd=tmp_path)
    processes.append(process)
    where = port_of(process)
    bring(where, SOME)
    process.until(rb"records were dropped: stderr was not read\n")
    bring(where, 10)
    process.until(rb"client='192.0.2.1'", SOME + 10 - dropped(process.octets))
    assert process.end() == 0
    octets = process.read()
    assert octets.count(b"client='192.0.2.1'") + dropped(octets) == SOME + 10
    assert dropped(octets) > 0
    assert re.fullmatch(rb"(?:\d{4}-\d\d-\d\d [\d:.]+ (?:INFO|WARNING) aiomilter: .*\n)+", octets)


@pytest.mark.slow
def test_workers_whose_stderr_nobody_reads_are_reloaded_and_end(processes: list[Process], tmp_path: Path) -> None:
    process = Process("run", "f.py", "--listen", "inet:0@127.0.0.1", "--workers", "2", cwd=tmp_path)
    processes.append(process)
    where = port_of(process)
    process.until(rb"workers .* serve new connections")
    for _ in range(2):
        bring(where, SOME)
    process.process.send_signal(signal.SIGHUP)
    bring(where, 10)
    process.until(rb"reloaded: workers")
    assert process.end() == 0
    octets = process.read()
    assert dropped(octets) > 0
    assert b"ERROR" not in octets


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_daemon_whose_stderr_nobody_reads_any_more_ends(
    number: signal.Signals, processes: list[Process], tmp_path: Path
) -> None:
    for closed in (False, True):
        process = Process("run", "f.py", "--listen", "inet:0@127.0.0.1", cwd=tmp_path)
        processes.append(process)
        where = port_of(process)
        if closed:
            process.close_log()
        bring(where, SOME)
        assert process.end(number) == 0


@pytest.mark.slow
def test_a_program_for_pymilter_whose_stderr_nobody_reads_is_served_on(
    processes: list[Process], tmp_path: Path
) -> None:
    path = str(tmp_path / "x.sock")
    process = Process("compat", "program.py", f"unix:{path}", cwd=tmp_path)
    processes.append(process)
    process.until(rb"listening")
    bring(path, SOME)
    what = rb"WARNING:aiomilter:(\d+) records were dropped: the handlers took too long\n"
    count = int(process.until(what)[1])
    bring(path, 10)
    process.until(b"client='192.0.2.1'", SOME + 10 - count)
    assert process.octets.count(b"client='192.0.2.1'") + count == SOME + 10
    bring(path, SOME)
    assert process.end() == 0
