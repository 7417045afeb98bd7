"""The filter as a process of its own, as a postmaster runs it: command line, socket, log."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.interop.rigs.mta import GLANCE
from tests.listening import listens
from tests.patience import PATIENCE

__all__ = ["FilterProcess"]

_ROOT: Final = Path(__file__).parents[2]
_FILTER: Final = Path(__file__).parent / "faulty.py"


class FilterProcess:
    """``aiomilter run tests/faults/faulty.py``; it may be started more than once, one after the other.

    Args:
        socket: Where the MTA looks for it.
        directory: For its log, which goes on when it is started anew.
        options: Of the command line.
        environment: What ``faulty.py`` reads, ``FAULT`` above all.
        wrapper: A command that runs it with less than it would have: ``("prlimit", "--nofile=40")``.
        inherited: The socket it is given instead of ``socket``, as systemd does.
    """

    def __init__(
        self,
        socket: str,
        directory: Path,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        inherited: socket.socket | None = None,
    ) -> None:
        self.socket = socket
        self._log = directory / "filter.log"
        self._options = options
        self._environment = {**os.environ, **(environment or {})}
        self._wrapper = wrapper
        self._inherited = inherited
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs, or ran last."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """All that was logged so far."""
        return self._log.read_text(errors="replace")

    @property
    def descriptors(self) -> int:
        """How many files it has open, the one not counted that libuv keeps in reserve from the first connection on."""
        files = f"/proc/{self.pid}/fd"
        opened = []
        for number in os.listdir(files):
            with contextlib.suppress(FileNotFoundError):  # it has just been closed
                opened.append(os.readlink(f"{files}/{number}") if number != "0" else os.devnull)
        return len([path for path in opened if path != os.devnull])

    @property
    def workers(self) -> list[int]:
        """Its child processes."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    async def start(self) -> None:
        """Return once it listens."""
        inherited = self._inherited
        listen = self.socket if inherited is None else f"fd:{inherited.fileno()}"
        before = self._begins()
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._wrapper,
                *(sys.executable, "-m", "aiomilter", "run", str(_FILTER), "--listen", listen),
                *(() if inherited is not None or not self.socket.startswith("unix:") else ("--socket-mode", "666")),
                *self._options,
                cwd=_ROOT,
                env=self._environment,
                stderr=log,
                pass_fds=() if inherited is None else (inherited.fileno(),),
            )
        process = self._process
        await self.until(lambda: self._begins() > before or process.returncode is not None, "start")
        assert process.returncode is None, self.log
        assert inherited is not None or listens(self.socket)

    def _begins(self) -> int:
        return self.log.count(": listening on ") if self._log.exists() else 0

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        # Not send_signal of the process: that waits for one that has just ended, the event loop does too, and one of
        # the two does not hear the exit status.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def wait(self) -> int:
        """Wait for its end and return its exit status."""
        assert self._process is not None
        async with asyncio.timeout(PATIENCE):
            return await self._process.wait()

    async def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None and self._process.returncode is None:
            self.signal(signal.SIGKILL)
            await self._process.wait()

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for it to bring about a condition."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"no {what}:\n{self.log}"
            await asyncio.sleep(GLANCE)
