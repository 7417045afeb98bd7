"""``aiomilter run`` as a process, a filter that says which version it is, and a load of clients that count what they get."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Self

from aiomilter import RemoteProtocolError
from aiomilter.mta import connect
from tests.patience import PATIENCE

LOOPS: Final = ("--uvloop", "--no-uvloop")
_FILTER: Final = """\
import os
from contextlib import asynccontextmanager
from aiomilter import Milter

class Version(Milter):
    async def eom(self, ctx):
        ctx.add_header("X-Version", "{version}")
        ctx.add_header("X-Process", str(os.getpid()))

@asynccontextmanager
async def milter():
    say("opened {version}")
    yield Version
    say("closed {version}")

def say(text):
    os.write(1, text.encode() + b"\\n")  # in one piece, whoever else writes
"""

HANGS: Final = """\
import asyncio
from contextlib import asynccontextmanager
@asynccontextmanager
async def milter():
    print('opening', flush=True)
    await asyncio.Event().wait()
    yield
"""
"""A filter that is never built."""
ENDS: Final = """\
import asyncio, os
from contextlib import asynccontextmanager
from aiomilter import Milter

async def refresh():
    while not os.path.exists("end"):
        await asyncio.sleep(0.01)
    raise ValueError("no map")

@asynccontextmanager
async def milter():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(refresh())
        yield type("Version", (Milter,), {})
"""
"""A filter whose factory ends once there is a file of that name."""


CACHING: Final = {"PYTHONDONTWRITEBYTECODE": ""}
"""Variables of a process that leaves compiled code beside what it imports."""


def write_filter(path: Path, version: str, more: str = "") -> None:
    """Have the file hold a filter that marks messages with its version."""
    path.write_text(_FILTER.format(version=version) + more)


def write_at_once(path: Path, text: str) -> None:
    """Write a file as if in the same second as any other: compiled code of the same size looks fresh then."""
    path.write_text(text)
    os.utime(path, (1_700_000_000, 1_700_000_000))


class Daemon:
    """A process and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.pid = process.pid
        self.log: list[str] = []
        self.out: list[str] = []
        self._news = asyncio.Event()
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            asyncio.create_task(self._read(process.stdout, self.out)),
            asyncio.create_task(self._read(process.stderr, self.log)),
        ]

    async def _read(self, stream: asyncio.StreamReader, lines: list[str]) -> None:
        async for line in stream:
            lines.append(line.decode().rstrip("\n"))
            self._news.set()
        self._news.set()

    async def logged(self, pattern: str, count: int = 1) -> re.Match[str]:
        """Wait until the log has so many lines that hold a pattern, and return the last match."""
        return await self._has(self.log, pattern, count)

    async def printed(self, pattern: str, count: int = 1) -> re.Match[str]:
        """The same of the output."""
        return await self._has(self.out, pattern, count)

    async def _has(self, lines: list[str], pattern: str, count: int) -> re.Match[str]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while True:
                    self._news.clear()
                    found = [match for line in lines if (match := re.search(pattern, line))]
                    if len(found) >= count:
                        return found[count - 1]
                    if all(reader.done() for reader in self._readers):
                        break
                    await self._news.wait()
        raise AssertionError(f"no {pattern!r}, {count} times, in:\n" + "\n".join([*self.log, "--", *self.out]))

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        # Not send_signal of the process: that waits for one that has just ended, the event loop does too, and one of
        # the two does not hear the exit status.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def ended(self) -> int:
        """Wait for its end, and return the exit status."""
        async with asyncio.timeout(PATIENCE):
            status = await self.process.wait()
            await asyncio.gather(*self._readers)
        return status


@asynccontextmanager
async def running(
    *arguments: str,
    directory: Path,
    command: Sequence[str] = ("-m", "aiomilter", "run"),
    environment: dict[str, str] | None = None,
    handed: Sequence[int] = (),
    own_group: bool = False,
) -> AsyncIterator[Daemon]:
    """Run a daemon; killed at the end if it still runs.

    Args:
        arguments: After ``aiomilter run``.
        directory: Where it runs.
        command: Instead of ``aiomilter run``.
        environment: Variables beside our own.
        handed: Descriptors of sockets that it gets as 3, 4, ... with LISTEN_FDS, as from systemd.
        own_group: Whether it has a process group of its own.
    """
    start: tuple[str, ...] = (sys.executable, *command, *arguments)
    if handed:
        moves = " ".join(f"{number}<&{fd}" for number, fd in enumerate(handed, start=3))
        # The shell stays the same process, so LISTEN_PID is right.
        script = f'exec {moves} && export LISTEN_PID=$$ LISTEN_FDS={len(handed)} && exec "$@"'
        start = ("bash", "-c", script, "bash", *start)
    process = await asyncio.create_subprocess_exec(
        *start,
        cwd=directory,
        env={**os.environ, **(environment or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=tuple(handed),
        start_new_session=own_group,
    )
    daemon = Daemon(process)
    try:
        yield daemon
    finally:
        if process.returncode is None:
            process.kill()
        if own_group:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # workers that hear nothing
        await process.wait()
        await asyncio.gather(*daemon._readers)


class Load:
    """Clients that connect, deliver a message and quit, again and again.

    Args:
        address: Of the filter.
        clients: How many at a time.
    """

    def __init__(self, address: str, clients: int = 8) -> None:
        self._address = address
        self._clients = clients
        self._enough = False
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        self.versions: Counter[str] = Counter()
        self.processes: Counter[str] = Counter()
        self.lost: list[str] = []
        """What went wrong, each a message that an MTA would have had to tempfail."""

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._client()) for _ in range(self._clients)]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._enough = True
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._tasks)

    async def _client(self) -> None:
        while not self._enough:
            try:
                version, process = await deliver(self._address)
            except (OSError, RemoteProtocolError, AssertionError) as error:
                self.lost.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(0)
            else:
                self.versions[version] += 1
                self.processes[process] += 1
            self._news.set()

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until what has been delivered is enough."""
        async with asyncio.timeout(PATIENCE):
            while not done():
                self._news.clear()
                await self._news.wait()

    async def more(self, messages: int, version: str) -> None:
        """Wait until so many more messages were marked with a version."""
        wanted = self.versions[version] + messages
        await self.until(lambda: self.versions[version] >= wanted)


async def deliver(address: str) -> tuple[str, str]:
    """Play an SMTP session with one message; return version and process of the filter that marked it."""
    async with connect(address, timeout=PATIENCE) as session:
        await session.connect()
        await session.helo()
        await session.mail("<a@x.example>")
        await session.rcpt("<b@x.example>")
        return marks((await session.message(b"Subject: s\r\n\r\nbody\r\n")).delivered)


def marks(delivered: object) -> tuple[str, str]:
    """Return version and process that a message is marked with."""
    octets = getattr(delivered, "octets", b"")
    version = re.search(rb"(?m)^X-Version: (.*)\r$", octets)
    process = re.search(rb"(?m)^X-Process: (.*)\r$", octets)
    assert version is not None, "not delivered, or unmarked"
    assert process is not None
    return version[1].decode(), process[1].decode()
