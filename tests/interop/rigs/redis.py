"""A private Redis, or Valkey, which speaks the same."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.interop.rigs.mta import free_port, wait_for_ports
from tests.programs import program


class RedisServer:
    """One server on loopback; it keeps nothing on disk unless told so.

    Args:
        options: For its command line.
        name: The program.
        configuration: What its file says; the server may write into that.
    """

    def __init__(self, *options: str, name: str = "redis-server", configuration: str = "") -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="redis-"))
        file = self.directory / "redis.conf"
        file.write_text(configuration)
        self._command = [program(name) or name, str(file), "--port", str(self.port), "--bind", "127.0.0.1"]
        self._command += ["--save", "", "--dir", str(self.directory), *options]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @staticmethod
    def missing(name: str = "redis-server") -> str | None:
        """What this machine lacks; None if nothing."""
        return None if program(name) else f"{name} is not installed (Debian package {name})"

    def start(self) -> None:
        """Return when it listens."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=-3, stdout=log, stderr=-2, start_new_session=True)
        wait_for_ports([self.port], self._process, "redis", (self.directory / "log").read_text)

    def follow(self, primary: "RedisServer") -> None:
        """Be another's replica, from the next start on."""
        self._command += ["--replicaof", "127.0.0.1", str(primary.port)]

    def speak_tls(self, certificate: Path, key: Path) -> None:
        """Speak TLS alone, from the next start on; clients need no certificate."""
        self._command += ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
        self._command += [
            "--tls-cert-file",
            str(certificate),
            "--tls-key-file",
            str(key),
            "--tls-ca-cert-file",
            str(certificate),
        ]

    def signal(self, number: signal.Signals) -> None:
        """Stop it, have it go on, or end it."""
        assert self._process is not None
        os.kill(self._process.pid, number)
        if number in (signal.SIGTERM, signal.SIGKILL):
            self._process.wait()

    def stop(self) -> None:
        """End it and remove its directory."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.directory)
