"""A private PostgreSQL (15 and later).  It refuses to be run by root, so it is nobody's."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tests.interop.rigs.mta import GLANCE, RigError, free_port
from tests.patience import PATIENCE
from tests.programs import program

_VERSIONS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


class PostgresqlServer:
    """One server on loopback, which takes whoever comes; its user is ``filter``, and so is its database ``postgres``.

    Two users need a password: ``guarded``, which has none until a test gives it one, and ``stranger``, which does not exist.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self.directory.chmod(0o755)
        self._data = self.directory / "data"
        self._data.mkdir()
        shutil.chown(self._data, "nobody", "nogroup")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://filter@127.0.0.1:{self.port}/postgres"

    @staticmethod
    def missing() -> str | None:
        """What this machine lacks; None if nothing."""
        if program("setpriv") is None or os.geteuid() != 0:
            return "PostgreSQL is run as nobody, by setpriv as root"
        return None if _VERSIONS else "PostgreSQL is not installed (Debian package postgresql)"

    def _command(self, name: str, *arguments: str) -> list[str]:
        user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        return [*user, str(_VERSIONS[-1] / name), "-D", str(self._data), *arguments]

    def start(self) -> None:
        """Return when it takes connections, which is later than it listens; the first time it is made."""
        if not (self._data / "PG_VERSION").exists():
            make = self._command("initdb", "-U", "filter", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8")
            subprocess.run(make, check=True, capture_output=True, cwd="/")
            rules = self._data / "pg_hba.conf"  # the first one that fits counts
            rules.write_text(f"host all guarded,stranger 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        options = ["-p", str(self.port), "-k", "", "-h", "127.0.0.1", "-c", "fsync=off", "-c", "max_connections=120"]
        path = self.directory / "log"
        with path.open("ab") as log:
            before = log.tell()
            self._process = subprocess.Popen(
                self._command("postgres", *options), stdin=-3, stdout=log, stderr=-2, start_new_session=True, cwd="/"
            )
        deadline = time.monotonic() + PATIENCE
        while b"database system is ready to accept connections" not in path.read_bytes()[before:]:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RigError(f"postgres takes no connections\n{path.read_text()}")
            time.sleep(GLANCE)

    def speak_tls(self, certificate: Path, key: Path) -> None:
        """Speak TLS with clients that ask for it, from now on."""
        for path in (certificate, key):
            copy = self._data / path.name
            shutil.copyfile(path, copy)
            shutil.chown(copy, "nobody", "nogroup")
            copy.chmod(0o600)
        self._set(f"ssl = on\nssl_cert_file = '{certificate.name}'\nssl_key_file = '{key.name}'\n", 'to "on"')

    def speak_no_tls(self) -> None:
        """Speak no TLS from now on."""
        self._set("ssl = off\n", 'to "off"')

    def _set(self, settings: str, shown: str) -> None:
        """Have it follow other settings, and return when its log says so: connections that come now are after that."""
        assert self._process is not None
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(settings)
        path = self.directory / "log"
        before = path.stat().st_size
        os.kill(self._process.pid, signal.SIGHUP)
        deadline = time.monotonic() + PATIENCE
        while f'parameter "ssl" changed {shown}'.encode() not in path.read_bytes()[before:]:
            if time.monotonic() > deadline:
                raise RigError(f"postgres does not speak TLS\n{path.read_text()}")
            time.sleep(GLANCE)

    def signal(self, number: signal.Signals) -> None:
        """Stop it with all its processes, have it go on, or end it."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (*map(int, children), self._process.pid):
            with contextlib.suppress(ProcessLookupError):  # some end with a connection, or with one another
                os.kill(pid, number)
        if number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL):
            self._process.wait()

    def stop(self) -> None:
        """End it and remove its directory."""
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
        shutil.rmtree(self.directory)
