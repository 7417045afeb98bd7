"""Programs written for pymilter, run on pymilter or on ours, and conversations played to them.

A conversation is sent at once, and that direction closed after it: nothing waits for an answer that never comes, so that
no time has to be guessed.
"""

import asyncio
import json
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from aiomilter.exceptions import RemoteProtocolError
from aiomilter.mta import OFFER, MacroValues, Session, Style, connect
from aiomilter.wire.events import Negotiate
from tests.compat.forking import Forked, Forker
from tests.patience import PATIENCE
from tests.peer import pieces

__all__ = ["SCRIPTS", "Case", "Played", "Side", "Talk", "connected", "evaluate", "exchange", "ours", "play", "rendered"]

SCRIPTS: Final = Path(__file__).parent / "scripts"
ROOT: Final = Path(__file__).parents[2]


class Side(NamedTuple):
    """What runs a program.

    Args:
        name: Whose it is.
        command: Takes a script and its arguments.
        gentle: Whether it ends at once when it is asked to.
        forker: Starts programs where many are played.
    """

    name: str
    command: tuple[str, ...]
    gentle: bool = True
    forker: Forker | None = None

    def start(self, argv: Sequence[str], **where: Any) -> Forked:
        """Start a program as :meth:`Forker.start` does."""
        assert self.forker is not None
        return self.forker.start(argv, **where)


class Case(NamedTuple):
    """A conversation.

    Args:
        octets: What the MTA writes.
        plan: What the program does in each callback, see scripts/driven.py.
        patience: Seconds until pymilter is taken to hang; short for what is known to.
        deadly: Whether it may end the program.
    """

    octets: bytes
    plan: Mapping[str, str] = {}
    patience: float = PATIENCE
    deadly: bool = False


class Talk(NamedTuple):
    """A session that an MTA plays, waiting for answers.

    Args:
        session: Plays it, and returns what was answered, a line each.
        plan: What the program does in each callback, see scripts/driven.py.
        style: Whose manners.
        offer: What is offered.
        macros: Lent, by step.
    """

    session: Callable[[Session], Awaitable[list[str]]]
    plan: Mapping[str, str] = {}
    style: Style = "postfix"
    offer: Negotiate = OFFER
    macros: MacroValues = MappingProxyType({})


class Played(NamedTuple):
    """What came of a conversation: packets answered, what callbacks were told, and what stderr got."""

    answers: tuple[str, ...]
    told: tuple[str, ...]
    complaints: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """All of it, a line each."""
        return [
            *(f"answer {answer}" for answer in self.answers),
            *self.told,
            *(f"stderr {line}" for line in self.complaints),
        ]

    @property
    def callbacks(self) -> int:
        """How many callbacks were called."""
        return sum(line[0] not in "!>" for line in self.told)


def ours() -> Side:
    """This project's command."""
    return Side("aiomilter", (sys.executable, "-m", "aiomilter", "compat"))


_UNPRINTABLE: Final = re.compile(rb"[^ -~]|\\")


def rendered(octets: bytes) -> tuple[str, ...]:
    """Write each packet as a line; a long one by its begin, its length and its end."""
    lines = []
    for piece in pieces(octets):
        text = _UNPRINTABLE.sub(lambda match: b"\\x%02x" % match[0][0], piece[5:]).decode("ascii")
        if len(text) > 400:
            text = f"{text[:100]}...{len(text)}...{text[-100:]}"
        lines.append(f"{chr(piece[4])}({text})" if text else chr(piece[4])) if len(piece) > 4 else lines.append("cut")
    return tuple(lines)


def connected(path: str, process: subprocess.Popen[bytes] | Forked | None = None) -> socket.socket:
    """Connect to a program as soon as it listens."""
    deadline = time.monotonic() + PATIENCE
    while True:
        mta = socket.socket(socket.AF_UNIX)
        try:
            mta.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            mta.close()
            if process is not None:
                assert process.poll() is None, f"the program has ended with status {process.returncode}"
            assert time.monotonic() < deadline, "the program does not listen"
            # Another process tells nobody that it listens.
            time.sleep(0.005)
        else:
            return mta


def at_rest(process: Forked) -> tuple[str, ...] | None:
    """Return the times that the threads of a process have had so far; None if one of them runs, or waits for its turn to."""
    found = []
    for stat in Path(f"/proc/{process.pid}/task").glob("*/stat"):
        try:
            state, *fields = stat.read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        if state != "S":
            return None
        found.append(f"{stat.parent.name} {fields[10:12]}")
    return tuple(sorted(found))


def exchange(
    mta: socket.socket, octets: bytes, patience: float = PATIENCE, process: Forked | None = None
) -> tuple[bytes, bool]:
    """Write all octets, close that direction, and return all that was answered, and whether there was an end to it.

    Args:
        mta: The connection.
        octets: What to write.
        patience: Seconds without an answer until there is none.
        process: Who answers; while it has not done nothing for as long, it may yet.
    """
    rested: tuple[str, ...] | None = None
    mta.setblocking(False)
    answers = bytearray()
    left = memoryview(octets)
    poll = select.poll()
    poll.register(mta, select.POLLIN | select.POLLOUT)
    while True:
        ready = poll.poll(patience * 1000)
        if not ready:
            before, rested = rested, None if process is None else at_rest(process)
            if process is None or (rested is not None and rested == before):
                return bytes(answers), False
            continue
        if left or ready[0][1] & select.POLLOUT:
            try:
                left = left[mta.send(left) :] if left else left
            except BlockingIOError:
                pass
            except (BrokenPipeError, ConnectionResetError):
                left = left[len(left) :]
            if not left:
                with suppress(OSError):
                    mta.shutdown(socket.SHUT_WR)
                poll.modify(mta, select.POLLIN)
        try:
            while piece := mta.recv(1 << 18):
                answers += piece
            return bytes(answers), True
        except BlockingIOError:
            pass
        except ConnectionResetError:
            return bytes(answers), True


class Program:
    """A program that serves, with what it tells."""

    def __init__(self, side: Side, script: str, directory: Path, shape: Mapping[str, Any]) -> None:
        self.path = str(directory / "s")
        self._plan = directory / "plan"
        self._record = directory / "record"
        self._stderr = directory / "stderr"
        self._record.touch()
        self._played: list[tuple[tuple[str, ...], bool]] = []
        self._deaths: dict[int, int] = {}
        self._side = side
        self._argv = [str(SCRIPTS / script), self.path, str(self._plan), str(self._record), json.dumps(shape)]
        self._start()

    def _start(self) -> None:
        self.process = self._side.start(self._argv, stderr=self._stderr)
        try:
            connected(self.path, self.process).close()
        except BaseException:
            self.kill()
            print(self._stderr.read_text(), file=sys.stderr)
            raise

    def play(self, case: Case) -> None:
        """Play a conversation."""
        number = len(self._played)
        self._next({**case.plan, "case": number})
        with connected(self.path, self.process) as mta:
            answers, ended = exchange(mta, case.octets, case.patience, self.process)
        self._played.append((rendered(answers), ended))
        if not ended:
            self.kill()
        elif case.deadly:
            self._die_or_rest()
        if (status := self.process.poll()) is not None:
            self._deaths[number] = status
            self._start()

    def _die_or_rest(self) -> None:
        rested: tuple[str, ...] | None = None
        while True:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.2)
                return
            before, rested = rested, at_rest(self.process)
            if rested is not None and rested == before:
                return

    def talk(self, case: Talk) -> None:
        """Play a session as an MTA does that waits for answers."""
        number = len(self._played)
        self._next({**case.plan, "case": number})
        self._played.append((tuple(asyncio.run(self._talk(case))), True))
        # The MTA leaves without waiting for what the program does about it.
        deadline = time.monotonic() + PATIENCE
        while (told := self._told().get(number, [])).count("close") < told.count("made"):
            assert time.monotonic() < deadline, told
            time.sleep(0.001)

    async def _talk(self, case: Talk) -> list[str]:
        try:
            async with connect(
                self.path, style=case.style, offer=case.offer, timeout=PATIENCE, lenient=True, macros=case.macros
            ) as session:
                return [f"{session.agreed!r}", *await case.session(session)]
        except RemoteProtocolError as error:
            return [f"raised {error}"]

    def _next(self, plan: Mapping[str, Any]) -> None:
        # Whole at once, since the connection before may still be read by the program.
        draft = self._plan.with_suffix(".new")
        draft.write_text(json.dumps(plan))
        draft.rename(self._plan)
        with self._stderr.open("ab") as stderr:
            stderr.write(b"%s%d\n" % (_MARK, plan["case"]))

    def _told(self) -> dict[int, list[str]]:
        told: dict[int, list[str]] = {}
        for line in self._record.read_text("ascii").splitlines():
            which, _, text = line.partition(" ")
            told.setdefault(int(which), []).append(text)
        return told

    def end(self, gently: bool) -> list[Played]:
        """End the program and return what came of each conversation; ours has told everything only when it ends."""
        if gently:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()
        self.kill()
        told = self._told()
        complaints: dict[int, list[str]] = {}
        for part in self._stderr.read_bytes().split(_MARK)[1:]:
            first, *lines = part.decode("utf-8", "replace").splitlines()
            # The frames of a traceback are those of the program and of what runs it.
            complaints[int(first)] = [line for line in lines if line and line[0] != " "]
        found = []
        for number, (answers, ended) in enumerate(self._played):
            if not ended:
                last = ["never closed"]
            elif number in self._deaths:
                last = [f"died with status {self._deaths[number]}"]
            else:
                last = []
            found.append(Played(answers, tuple(told.get(number, ())), (*complaints.get(number, ()), *last)))
        return found

    def kill(self) -> None:
        # pymilter takes seconds to stop when asked to.
        self.process.kill()
        self.process.wait()


_MARK: Final = b"\n== conversation "


def play(side: Side, cases: Iterable[Case | Talk], shape: Mapping[str, Any], script: str = "driven.py") -> list[Played]:
    """Start a program, play conversations to it, one after the other, and end it."""
    with tempfile.TemporaryDirectory() as directory:
        program = Program(side, script, Path(directory), shape)
        try:
            for case in cases:
                if isinstance(case, Talk):
                    program.talk(case)
                else:
                    program.play(case)
        except BaseException:
            program.kill()
            raise
        return program.end(gently=side.gentle)


def evaluate(side: Side, expressions: Sequence[str]) -> list[list[str]]:
    """Evaluate expressions in one program, see scripts/console.py: for each what was printed, and its value."""
    done = subprocess.run(
        [*side.command, str(SCRIPTS / "console.py")],
        input="\n".join(expressions).encode("utf-8", "surrogateescape"),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=PATIENCE,
        check=True,
    )
    found: list[list[str]] = [[]]
    for line in done.stdout.decode("ascii").splitlines():
        found[-1].append(line)
        if line.startswith("= "):
            found.append([])
    return found[:-1]
