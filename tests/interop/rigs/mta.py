"""What every rig can do: start and stop an MTA with several ports, each with filters of its own, and watch its queue."""

import asyncio
import random
import shutil
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tests.interop.rigs.sink import Delivery, Sink
from tests.listening import listening_ports
from tests.patience import PATIENCE

# Looked at this often while waiting for another process: seconds.
GLANCE = 0.01

# What the port ``hasty`` waits for an answer of its filter: seconds.
HASTE = 4


class RigError(RuntimeError):
    """An MTA did not do what a rig asked it to; the message ends with its log."""


class Rig(ABC):
    """One private MTA.

    Its ports differ in the filters that they ask, by socket in libmilter's syntax: ``tcp`` asks ``first``, ``unix`` asks
    ``local``, ``both`` asks ``first``, then ``local``, ``hasty`` asks a filter to which it gives ``HASTE`` seconds for any
    answer.  The sockets stay the same for the life of the rig and nobody
    listens there but a test's own filter.
    """

    name: str
    """What a test calls it by."""

    version: tuple[int, ...]
    """Of the MTA."""

    def __init__(self) -> None:
        # Where pytest keeps temporary files only its own user may go, but Postfix has one of its own; and the paths of
        # sockets are short.
        self.directory = Path(tempfile.mkdtemp(prefix="mta-", dir="/tmp"))
        self.directory.chmod(0o755)
        (self.directory / "s").mkdir(mode=0o755)
        self.ports = {port: free_port() for port in ("tcp", "unix", "both", "hasty")}
        self.hasty = f"inet:{free_port()}@127.0.0.1"
        self.first = f"inet:{free_port()}@127.0.0.1"
        self.local = f"unix:{self.directory}/s/local"
        self.log = self.directory / "log"
        self.sink = Sink(self.directory / "devlog", self.log)
        self.filters: dict[str, tuple[str, ...]] = {
            "tcp": (self.first,),
            "unix": (self.local,),
            "both": (self.first, self.local),
            "hasty": (self.hasty,),
        }
        """The sockets that each port asks, in this order."""

    def ask(self, filters: Mapping[str, tuple[str, ...]]) -> None:
        """Have these ports instead; before it starts.

        Args:
            filters: The sockets that each port asks, by its name.  Sendmail has ten ports at most.
        """
        self.filters = dict(filters)
        self.ports = {port: free_port() for port in filters}

    @classmethod
    @abstractmethod
    def missing(cls) -> str | None:
        """What this machine lacks for such a rig, and how to get it; None if nothing."""

    def start(self) -> None:
        """Return when all ports answer."""
        self.directory.joinpath("etc").mkdir()
        self._start(self.sink.start())

    def stop(self) -> None:
        """End all its processes and remove its directory."""
        try:
            self._stop()
        finally:
            self.sink.stop()
            shutil.rmtree(self.directory)

    @abstractmethod
    def _start(self, sink_port: int) -> None: ...

    @abstractmethod
    def _stop(self) -> None: ...

    @abstractmethod
    def queued(self) -> list[str]:
        """Messages that are still on their way, held ones not counted."""

    @abstractmethod
    def held(self) -> dict[str, str]:
        """Quarantined messages: queue id, and the reason as far as the MTA keeps it."""

    @abstractmethod
    async def release(self) -> None:
        """Let all quarantined messages go."""

    @abstractmethod
    async def delete_all(self) -> None:
        """Empty the queue."""

    async def settled(self, timeout: float = PATIENCE) -> None:
        """Wait until the MTA has nothing left to deliver: what arrived by then is all that arrives."""
        # Twice: a bounce may take the place of its message while the queue is being read.
        await self.until(lambda: not self.queued() and not self.queued(), timeout, "empty queue")

    async def until(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait for another process to bring about a condition."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise RigError(f"{self.name}: no {what} within {timeout} s: {self.queued()}\n{self.tail()}")
            await asyncio.sleep(GLANCE)

    def tail(self, lines: int = 40) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    @property
    def deliveries(self) -> list[Delivery]:
        """All that the sink took, oldest first."""
        return self.sink.deliveries

    def _wait_for_ports(self, process: "subprocess.Popen[bytes] | None" = None) -> None:
        wait_for_ports(self.ports.values(), process, self.name, self.tail)


def wait_for_ports(
    ports: Iterable[int], process: "subprocess.Popen[bytes] | None", name: str, said: Callable[[], object]
) -> None:
    """Return when somebody listens on all of some ports.

    It looks at the system's table: a connection would make an MTA open one to the filter.

    Args:
        ports: Which.
        process: Where it is to be; None if it goes into the background.
        name: Its own.
        said: Returns what it has said, for the error.
    """
    deadline, wanted = time.monotonic() + PATIENCE, set(ports)
    while missing := wanted - listening_ports():
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() > deadline:
            raise RigError(f"{name} does not listen on {sorted(missing)}\n{said()}")
        time.sleep(GLANCE)


_RESERVED: list[socket.socket] = []
"""Names that say which ports are ours, for as long as this process lives."""


def free_port() -> int:
    """A port that nobody has, that the system gives to no outgoing connection, and this function to no other process."""
    while True:
        port = random.randrange(15000, 30000)
        reserved = socket.socket(socket.AF_UNIX)
        try:
            reserved.bind(f"\0aiomilter-tests-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            reserved.close()
            continue
        _RESERVED.append(reserved)
        return port


async def run(*command: str, stdin: bytes = b"") -> str:
    """Run a command to its end without stopping the loop, and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate(stdin))[0].decode(errors="replace")
    if process.returncode != 0:
        raise RigError(f"{' '.join(command)}: exit status {process.returncode}\n{output}")
    return output
