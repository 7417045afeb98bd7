"""Processes that a program forks for us, see scripts/forking.py: a fifth of the time that starting each takes."""

import json
import os
import select
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

__all__ = ["Forked", "Forker"]

ROOT: Final = Path(__file__).parents[2]
SCRIPT: Final = Path(__file__).parent / "scripts" / "forking.py"


class Forker:
    """Starts programs.

    Args:
        command: Takes a script and its arguments.
        modules: Imported once for all programs.
    """

    def __init__(self, command: Sequence[str], *modules: str) -> None:
        self._asking = threading.Lock()
        self._process = subprocess.Popen(
            [*command, str(SCRIPT), *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def start(
        self,
        argv: Sequence[str],
        *,
        stderr: Path,
        stdin: Path = Path(os.devnull),
        stdout: Path = Path(os.devnull),
        cwd: Path = ROOT,
        umask: int = -1,
    ) -> "Forked":
        """Start a program; what it prints is appended."""
        paths = {"stdin": stdin, "stdout": stdout, "stderr": stderr, "cwd": cwd}
        return Forked(
            self, self.ask({"argv": argv, "umask": umask, **{name: str(path) for name, path in paths.items()}})
        )

    def ask(self, request: object) -> int:
        """Return the answer to a request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._asking:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it; its programs have ended before."""
        self._process.communicate()


class Forked:
    """A process as ``subprocess.Popen`` has it, although another process is its parent."""

    def __init__(self, forker: Forker, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._forker = forker
        self._ended = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Return its exit status, None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its exit status.

        Raises:
            TimeoutExpired: It has not ended within so many seconds.
        """
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._ended, select.POLLIN)
            if not poll.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            os.close(self._ended)
            self.returncode = self._forker.ask(self.pid)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._ended, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)
