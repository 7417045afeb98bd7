"""Whole lives of programs: how they start, what signals and ``Milter.stop()`` do, what is left at the end.

A scene is played to one side and gives lines; both sides' must be equal.  pymilter takes seconds to stop, so that all scenes
are played at once.
"""

import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.compat.playing import ROOT, SCRIPTS, Side, connected, exchange, rendered
from tests.interop.rigs.mta import free_port
from tests.patience import PATIENCE
from tests.peer import MESSAGE, OPENING, QUIT, connect, mail, offer, rcpt

__all__ = ["SCENES", "Scene"]


class Daemon:
    """A program with its output, in a directory of its own."""

    def __init__(self, side: Side, directory: Path, script: str, *args: str) -> None:
        self.directory = directory
        self.path = str(directory / "s")
        self._out = directory / "out"
        self._err = directory / "err"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            command = [*side.command, str(SCRIPTS / script), *(arg.replace("DIR", str(directory)) for arg in args)]
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=out, stderr=err, env=environment, cwd=directory
            )

    def connect(self) -> socket.socket:
        """Be an MTA that has connected; the filter listens when this returns."""
        return connected(self.path, self.process)

    def played(self, octets: bytes) -> list[str]:
        """Play a conversation from its begin to its end."""
        with self.connect() as mta:
            answers, ended = exchange(mta, octets)
        return [*rendered(answers), "closed" if ended else "open"]

    def said(self, line: str) -> None:
        """Wait until it has said a line."""
        self._until(lambda: line in self.lines(), f"it does not say {line!r}")

    def lines(self) -> list[str]:
        """What it has said."""
        return self._out.read_text().splitlines()

    def _until(self, what: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not what():
            assert time.monotonic() < deadline, f"{otherwise}: {self.lines()}, {self._err.read_text()}"
            time.sleep(0.01)

    def ended(self, patience: float = PATIENCE) -> list[str]:
        """Wait for its end, and return all that can be seen of it afterwards."""
        try:
            status: object = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            status = "none: it goes on"
        return left(self.directory, status)

    def kill(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()


def left(directory: Path, status: object) -> list[str]:
    """Return all that can be seen of a program that has ended: what it said, its exit status, and its socket."""
    complaints = [line for line in (directory / "err").read_text().splitlines() if line and line[0] != " "]
    lines = [
        *(directory / "out").read_text().splitlines(),
        *(f"stderr {line}" for line in complaints),
        f"status {status}",
        f"socket {'is left' if (directory / 's').exists() else 'is gone'}",
    ]
    return [_OF_THE_RUN.sub(_without, line.replace(str(directory), "DIR")) for line in lines]


_OF_THE_RUN: Final = re.compile(r"(inet6?:)\d+(?=@)|\([^ ]+, process \d+, user [^ ]+\)")


def _without(found: re.Match[str]) -> str:
    """Return what a line says in every run, in the place of a port or of who listens there."""
    return f"{found[1]}PORT" if found[1] else "(PROCESS)"


_GOES_ON: Final = 12.0
"""Seconds until a program that does not stop on pymilter is seen not to; those that stop take five."""

Scene = Callable[[Side], list[str]]


@contextmanager
def daemon(side: Side, script: str, *args: str) -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory() as directory:
        running = Daemon(side, Path(directory), script, *args)
        try:
            yield running
        finally:
            running.kill()


SESSION: Final = OPENING + MESSAGE + QUIT


def _signalled(number: signal.Signals) -> Scene:
    def scene(side: Side) -> list[str]:
        with daemon(side, "plain.py", "DIR/s") as program:
            found = program.played(SESSION)
            program.process.send_signal(number)
            return found + program.ended()

    return scene


def _signalled_twice(side: Side) -> list[str]:
    with daemon(side, "plain.py", "DIR/s") as program:
        found = program.played(SESSION)
        program.process.send_signal(signal.SIGTERM)
        program.process.send_signal(signal.SIGTERM)
        return found + program.ended()


def _signalled_in_a_callback(side: Side) -> list[str]:
    with daemon(side, "plain.py", "DIR/s") as program, program.connect() as mta:
        mta.settimeout(PATIENCE)
        mta.sendall(OPENING + mail("<wait@example.org>"))
        program.said("envfrom <wait@example.org>")
        program.process.send_signal(signal.SIGTERM)
        Path(program.path + ".go").touch()
        answers, ended = exchange(mta, QUIT)
        found = [*rendered(answers)[-1:], str(ended), *program.ended()]
    # pymilter's main thread looks every five seconds whether it is to end; if it does in this moment, close is not called.
    assert "close" in found or side.name == "pymilter", found
    return [line for line in found if line != "close"]


def _varied(way: str, *, number: signal.Signals | None = signal.SIGTERM, octets: bytes = SESSION) -> Scene:
    def scene(side: Side) -> list[str]:
        with daemon(side, "variants.py", "DIR/s", way) as program:
            found = program.played(octets)
            if way == "thread":
                assert program.process.stdin is not None
                program.process.stdin.write(b"\n")
                program.process.stdin.flush()
            elif way == "fork":
                os.kill(int(Path(program.path + ".pid").read_text()), signal.SIGTERM)
            elif number is not None:
                program.process.send_signal(number)
            goes_on = way == "handler" and side.name == "pymilter"
            return found + program.ended(_GOES_ON if goes_on else PATIENCE)

    return scene


def _stopped(step: str) -> Scene:
    """Milter.stop() in a callback: whether what is under way is still answered is a matter of luck in pymilter."""

    def scene(side: Side) -> list[str]:
        with daemon(side, "variants.py", "DIR/s", f"stop in {step}") as program:
            program.played(SESSION)
            return [line for line in program.ended() if line != "close"]

    return scene


def _asked(mta: socket.socket, *packets: bytes) -> list[str]:
    """Send packets that each have an answer, and return these."""
    mta.settimeout(PATIENCE)
    mta.sendall(b"".join(packets))
    answers = b""
    while len(rendered(answers)) < len(packets) or "cut" in rendered(answers):
        found = mta.recv(1 << 16)
        if not found:
            return [*rendered(answers), "closed"]
        answers += found
    return list(rendered(answers))


def _timed_out(sent: bytes, timeout: int = 1) -> Scene:
    """One MTA stops inside of a packet until it is closed; another, idle for longer, is served on."""

    def scene(side: Side) -> list[str]:
        with daemon(side, "waiting.py", "DIR/s", str(timeout)) as program:
            with program.connect() as idle, program.connect() as stopped:
                found = _asked(idle, offer(), connect("idle"), mail())
                found += _asked(stopped, offer(), connect("stopped"), mail())
                stopped.sendall(sent)
                found += _asked(stopped)
                while stopped.recv(1):
                    found.append("an answer")
                program.said("stopped close")
                found += _asked(idle, rcpt())
                idle.sendall(QUIT)
                while idle.recv(1):
                    found.append("an answer")
            program.said("idle close")
            program.process.terminate()
            return found + program.ended()

    return scene


def _twice(side: Side) -> list[str]:
    """pymilter serves once in the life of a process; the second time its runmilter returns at once."""
    with daemon(side, "variants.py", "DIR/s", "twice") as program:
        found = program.played(SESSION)
        program.process.send_signal(signal.SIGTERM)
        program.said("returned None")
        deadline = time.monotonic() + PATIENCE
        while program.process.poll() is None and time.monotonic() < deadline:
            with socket.socket(socket.AF_UNIX) as mta:
                try:
                    mta.connect(program.path)
                except OSError:
                    time.sleep(0.01)
                    continue
                answers, _ = exchange(mta, SESSION)
                if answers:
                    found += [*rendered(answers), "again"]
                    program.process.send_signal(signal.SIGTERM)
                    break
        return found + program.ended()


def _console(*lines: str, before: Callable[[Path], object] | None = None, umask: int = -1) -> Scene:
    """Expressions in a process of their own, see scripts/console.py; DIR is a directory that is there."""

    def scene(side: Side) -> list[str]:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            if before is not None:
                before(directory)
            said = "\n".join(lines).replace("DIR", name)
            (directory / "in").write_text(said, "utf-8", "surrogateescape")
            streams = {f"std{stream}": directory / stream for stream in ("in", "out", "err")}
            process = side.start([str(SCRIPTS / "console.py")], **streams, cwd=directory, umask=umask)
            try:
                return left(directory, process.wait(PATIENCE))
            finally:
                process.kill()
                process.wait()

    return scene


_OPEN: Final = (" import os, stat, socket", "milter.register('x')")


def _opened(
    name: str, *, rmsock: bool = True, umask: int = -1, before: Callable[[Path], object] | None = None
) -> Scene:
    return _console(
        *_OPEN,
        f"milter.setconn({name!r})",
        f"milter.opensocket({rmsock})",
        "[oct(os.stat(p).st_mode) for p in sorted(os.listdir('.')) if p not in ('in', 'out', 'err')]",
        before=before,
        umask=umask,
    )


def _stale(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "s"))


def _live(directory: Path) -> None:
    # Nobody accepts there any more when it is closed; it is bound for as long as the test lasts.
    _LISTENERS.append(socket.socket(socket.AF_UNIX))
    _LISTENERS[-1].bind(str(directory / "s"))
    _LISTENERS[-1].listen()


_LISTENERS: Final[list[socket.socket]] = []


def _tcp(form: str, host: str) -> Scene:
    """A socket text for TCP, served, and what its port answers."""

    def scene(side: Side) -> list[str]:
        port = free_port()
        with daemon(side, "plain.py", form.format(port)) as program:
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    mta = socket.create_connection((host, port))
                    break
                except ConnectionRefusedError:
                    if program.process.poll() is not None or time.monotonic() > deadline:
                        return program.ended()
                    time.sleep(0.01)
            with mta:
                answers, ended = exchange(mta, OPENING + MESSAGE + QUIT)
            return [*rendered(answers), str(ended)]

    return scene


def _port_in_use(side: Side) -> list[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with daemon(side, "plain.py", f"inet:{port}@127.0.0.1") as program:
            return program.ended()


_BAD_SOCKETS: Final = (
    *("nonsense:x", "unix:DIR/missing/s", "inet:", "inet:x@localhost"),
    *(
        "inet6:x@::1",
        "inet:25@" + "x" * 64,
        "unix:DIR/" + "x" * 120,
        "DIR/missing/s",
        "smtp:1@localhost",
    ),
    *(
        "inet:-1@localhost",
        "inet:25@[127.0.0.1",
        "inet:25@[nonsense]",
        "fd:99",
        "fd:x",
        "UNIX:DIR/missing/s",
        "inet: 25@localhost",
    ),
)


SCENES: Final[Mapping[str, Scene]] = {
    **{f"{number.name}": _signalled(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)},
    "SIGTERM twice": _signalled_twice,
    "SIGTERM in a callback": _signalled_in_a_callback,
    **{
        way: _varied(way)
        for way in (
            *(
                "thread",
                "loop",
                "fork",
                "processes",
                "own handlers",
                "another thread",
                "exits",
                "fails",
                "partial",
                "logging",
                "lambda",
            ),
        )
    },
    "a signal handler that stops": _varied("handler", number=signal.SIGUSR1),
    **{f"stop in {step}": _stopped(step) for step in ("hello", "envfrom", "eom", "close")},
    "runmilter twice": _twice,
    **{
        f"runmilter(timeout=1), {what}": _timed_out(sent)
        for what, sent in (
            ("in the length of a packet", rcpt()[:2]),
            ("behind the length", rcpt()[:4]),
            ("behind the command", rcpt()[:5]),
            ("before the last octet", rcpt()[:-1]),
        )
    },
    **{
        f"socket {name}, umask {umask:03o}, rmsock {rmsock}, {what}": _opened(
            name, rmsock=rmsock, umask=umask, before=before
        )
        for what, before in (
            ("nothing there", None),
            ("stale", _stale),
            ("live", _live),
            ("a file", lambda d: (d / "s").touch()),
            ("a directory", lambda d: (d / "s").mkdir()),
        )
        for rmsock in (True, False)
        for umask in ((0o022, 0o007, 0) if what == "nothing there" else (0o022,))
        for name in (
            ("unix:DIR/s", "local:DIR/s", "UNIX:DIR/s", "DIR/s", "Local:DIR/s", ":DIR/s")
            if what == "nothing there" and umask == 0o022 and rmsock
            else ("unix:DIR/s",)
        )
    },
    **{f"runmilter on {name!r}": _console(f"Milter.runmilter('x', {name!r}, 10)") for name in ("", *_BAD_SOCKETS)},
    "runmilter on a bad socket, rmsock=False": _console("Milter.runmilter('x', 'unix:DIR/missing/s', rmsock=False)"),
    "nothing is set": _console("milter.opensocket(True)", "milter.main()"),
    "main without a socket": _console("milter.register('x')", "milter.main()"),
    "main without register": _console("milter.setconn('unix:DIR/s')", "milter.opensocket(True)", "milter.main()"),
    "opensocket before register": _console("milter.setconn('unix:DIR/s')", "milter.opensocket(True)"),
    "opensocket twice": _console(
        *_OPEN,
        "milter.setconn('unix:DIR/s')",
        "milter.opensocket(True)",
        "milter.opensocket(True)",
        "milter.opensocket(False)",
    ),
    "stop before main": _console(*_OPEN, "milter.stop()", "milter.setconn('unix:DIR/s')", "milter.opensocket(True)"),
    "port in use": _port_in_use,
    **{
        form: _tcp(form, host)
        for form, host in (
            *(
                ("inet:{}@localhost", "127.0.0.1"),
                ("inet:{}@127.0.0.1", "127.0.0.1"),
                ("inet:{}@[127.0.0.1]", "127.0.0.1"),
            ),
            *(
                ("INET:{}@localhost", "127.0.0.1"),
                ("inet6:{}@::1", "::1"),
                ("inet6:{}@[::1]", "::1"),
                ("Inet6:{}@localhost", "::1"),
            ),
        )
    },
}
