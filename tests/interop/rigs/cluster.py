"""``examples/cluster/`` on one machine: HAProxy, two Postfixes, two filters, Redis with a replica and three sentinels."""

import asyncio
import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from tests.dns.server import zone
from tests.interop.rigs.mta import GLANCE, RigError, free_port
from tests.interop.rigs.postfix import Postfix
from tests.interop.rigs.redis import RedisServer
from tests.life.daemon import Daemon, running
from tests.listening import listening_ports
from tests.patience import PATIENCE
from tests.programs import program

EXAMPLE: Final = Path(__file__).parent.parent.parent.parent / "examples" / "cluster"
SENDER: Final = "alice@client.test"
DELAY: Final = 2.0
"""Seconds that the greylist has a stranger wait."""


def missing() -> str | None:
    """What this machine lacks; None if nothing."""
    if program("haproxy") is None:
        return "haproxy is not installed (Debian package haproxy)"
    return Postfix.missing() or RedisServer.missing()


class Cluster:
    """All of it; ``port`` is where clients come to."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="cluster-", dir="/tmp"))
        self.port = free_port()
        self.filters = free_port()
        self.nodes = {"a": free_port(), "b": free_port()}
        self.running: dict[str, Daemon] = {}
        self.warnings: list[str] = []
        """What nodes that have ended said."""
        self.hosts = {name: self._postfix() for name in self.nodes}
        self.stores = [RedisServer(configuration=(EXAMPLE / "redis.conf").read_text()) for _ in range(2)]
        self.stores[1].follow(self.stores[0])
        self.sentinels = [free_port() for _ in range(3)]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._nameserver = ""
        self._ends: dict[str, AsyncExitStack] = {}

    def _postfix(self) -> Postfix:
        rig = Postfix()
        rig.ask({"front": (f"inet:{self.filters}@127.0.0.1",)})
        rig.settings = (EXAMPLE / "postfix.cf").read_text().replace("10.0.0.10:8890", f"127.0.0.1:{self.filters}")
        rig.smtpd = {"front": "-o smtpd_upstream_proxy_protocol=haproxy"}
        return rig

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """Have everything run but the nodes."""
        async with AsyncExitStack() as stack:
            stack.callback(shutil.rmtree, self.directory)
            for store in self.stores:
                stack.callback(store.stop)
                store.start()
            for port in self.sentinels:
                self._own(stack, self._sentinel(port))
            for host in self.hosts.values():
                stack.callback(host.stop)
                host.start()
            self._own(stack, ["haproxy", "-db", "-f", str(EXAMPLE / "haproxy.cfg")], self._haproxy())
            served = await stack.enter_async_context(
                zone({"client.test": {"TXT": ['"v=spf1 ip4:203.0.113.0/25 -all"']}})
            )
            self._nameserver = served.address
            stack.push_async_callback(self._end_all)
            await self._listening({self.port, self.filters, *self.sentinels})
            yield

    def _own(self, stack: AsyncExitStack, command: list[str], environment: Mapping[str, str] | None = None) -> None:
        log = stack.enter_context((self.directory / "log").open("ab"))
        process = subprocess.Popen(
            [program(command[0]) or command[0], *command[1:]],
            stdin=-3,
            stdout=log,
            stderr=-2,
            env=environment,
            start_new_session=True,
        )
        self._processes.append(process)
        stack.callback(process.wait)
        stack.callback(process.kill)

    def _sentinel(self, port: int) -> list[str]:
        path = self.directory / f"sentinel-{port}.conf"
        text = (EXAMPLE / "sentinel.conf").read_text().replace("10.0.0.21 6379", f"127.0.0.1 {self.stores[0].port}")
        path.write_text(f"port {port}\nbind 127.0.0.1\ndir {self.directory}\n{text}")
        return ["redis-server", str(path), "--sentinel"]

    def _haproxy(self) -> dict[str, str]:
        found = {"SMTP": self.port, "FILTERS": self.filters}
        found |= {f"FILTER_{name.upper()}": port for name, port in self.nodes.items()}
        found |= {f"POSTFIX_{name.upper()}": rig.ports["front"] for name, rig in self.hosts.items()}
        return {name: f"127.0.0.1:{port}" for name, port in found.items()}

    async def _listening(self, ports: set[int]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not ports <= listening_ports():
            ended = any(process.poll() is not None for process in self._processes)
            if ended or time.monotonic() > deadline:
                raise RigError(f"nobody listens on {ports - listening_ports()}\n{(self.directory / 'log').read_text()}")
            await asyncio.sleep(GLANCE)

    async def start(self, name: str) -> None:
        """Start a node; return when it listens."""
        keys = self.directory / "state.keys"
        keys.write_text("a secret that both nodes have\n")
        sentinels = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        environment = {
            "STORE": f"redis://{sentinels}/0?sentinel=mail",
            "STORE_KEYS": str(keys),
            "NODE": name,
            "NAMESERVER": self._nameserver,
            "DELAY": str(DELAY),
        }
        stack = self._ends[name] = AsyncExitStack()
        self.running[name] = await stack.enter_async_context(
            running(
                str(EXAMPLE / "gate.py"),
                "--listen",
                f"inet:{self.nodes[name]}@127.0.0.1",
                directory=self.directory,
                environment=environment,
            )
        )
        await self.running[name].logged("INFO aiomilter: listening")

    async def kill(self, name: str) -> None:
        """End a node without a word."""
        daemon = self.running.pop(name)
        daemon.send(signal.SIGKILL)
        await daemon.ended()
        self.warnings += [line for line in daemon.log if " INFO " not in line]
        await self._ends.pop(name).aclose()

    async def _end_all(self) -> None:
        for name in list(self.running):
            await self.kill(name)

    def lose_primary(self) -> None:
        """Kill the Redis that steps go to."""
        self.stores[0].signal(signal.SIGKILL)

    async def replace_primary(self) -> None:
        """Wait until the replica is the primary; then the other one comes back as its replica."""
        lost, heir = self.stores
        await self.until(lambda: "role:master" in self._ask(heir, "info", "replication"), "new primary")
        lost.follow(heir)
        lost.start()
        # On a busy machine the sentinels may take the heir for dead in the meantime, and change the two once more.
        await self.until(lambda: any(map(self._leads, (heir, lost))), "primary with a replica")
        self.stores = [heir, lost] if self._leads(heir) else [lost, heir]

    def _leads(self, store: RedisServer) -> bool:
        told = self._ask(store, "info", "replication")
        return "role:master" in told and "state=online" in told

    async def until(self, condition: object, what: str) -> None:
        """Wait for other processes to bring something about."""
        assert callable(condition)
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.05)

    async def replicated(self) -> None:
        """Wait until the replica has what the primary has, and the sentinels know it."""
        await self.until(lambda: "state=online" in self._ask(self.stores[0], "info", "replication"), "replica")
        for port in self.sentinels:
            await self.until(lambda port=port: self._known(port), "sentinels that know each other")

    def _known(self, port: int) -> bool:
        lines = self._told(port, "sentinel", "master", "mail").split()
        return lines[lines.index("num-slaves") + 1] == "1" and lines[lines.index("num-other-sentinels") + 1] == "2"

    def _ask(self, store: RedisServer, *command: str) -> str:
        return self._told(store.port, *command)

    @staticmethod
    def _told(port: int, *command: str) -> str:
        done = subprocess.run(
            [program("redis-cli") or "redis-cli", "-p", str(port), *command],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout

    def dumped(self) -> str:
        """Return all keys of the primary."""
        return self._ask(self.stores[0], "keys", "*")

    async def settled(self) -> None:
        """Wait until both Postfixes have delivered everything."""
        for host in self.hosts.values():
            await host.settled()


@contextlib.asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    """Have one, with both nodes down."""
    made = Cluster()
    async with made.up():
        yield made
