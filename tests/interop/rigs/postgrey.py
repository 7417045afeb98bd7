"""A private postgrey (1.37 and later), asked as Postfix asks it."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tests.interop.rigs.mta import free_port, wait_for_ports
from tests.programs import program


class Postgrey:
    """One server on loopback."""

    def __init__(self, delay: int = 1) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="postgrey-", dir="/tmp"))
        self.directory.chmod(0o755)
        shutil.chown(self.directory, "nobody", "nogroup")
        where = [f"--inet=127.0.0.1:{self.port}", f"--dbdir={self.directory}", "--user=nobody", "--group=nogroup"]
        lists = [f"--whitelist-clients={os.devnull}", f"--whitelist-recipients={os.devnull}"]
        self._command = [program("postgrey") or "postgrey", *where, *lists, f"--delay={delay}"]
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def missing() -> str | None:
        """What this machine lacks; None if nothing."""
        if os.geteuid() != 0:
            return "postgrey is started as root and becomes nobody"
        for name, package in (("postgrey", "postgrey"), ("db5.3_dump", "db5.3-util")):
            if program(name) is None:
                return f"{name} is not installed (Debian package {package})"
        return None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Return when it listens."""
        log = self.directory / "log"
        with log.open("ab") as file:
            self._process = subprocess.Popen(self._command, stdin=-3, stdout=file, stderr=-2, start_new_session=True)
        wait_for_ports([self.port], self._process, "postgrey", log.read_text)

    def end(self) -> None:
        """End it; its files stay."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()

    def stop(self) -> None:
        """End it and remove its directory."""
        self.end()
        shutil.rmtree(self.directory)

    def dump(self, name: str) -> str:
        """Return one of its databases as db5.3_dump prints it."""
        command = [program("db5.3_dump") or "db5.3_dump", "-p", "-h", str(self.directory), name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def request(address: str, sender: str, recipient: str) -> bytes:
    """Return what Postfix asks at RCPT.

    Source: Postfix's SMTPD_POLICY_README.
    """
    lines = {
        "request": "smtpd_access_policy",
        "protocol_state": "RCPT",
        "protocol_name": "ESMTP",
        "client_address": address,
        "client_name": "unknown",
        "helo_name": "client.test",
        "sender": sender,
        "recipient": recipient,
        "queue_id": "",
        "instance": f"{time.monotonic_ns()}",
    }
    return "".join(f"{name}={value}\n" for name, value in lines.items()).encode() + b"\n"
