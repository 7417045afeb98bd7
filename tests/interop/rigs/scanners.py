"""Private clamd, spamd and rspamd, each with one toy signature or rule of ours: nothing is downloaded, and no DNS is asked."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path

from tests.interop.rigs.mta import free_port, wait_for_ports
from tests.programs import program

# What the toy signature, the toy rule and the toy symbol look for.
MALWARE = b"this-is-toy-malware"
SPAM = b"this-is-toy-spam"

CLAMD = """\
Foreground yes
TCPSocket {port}
TCPAddr 127.0.0.1
User root
DatabaseDirectory {directory}/db
StreamMaxLength 2M
MaxThreads 4
"""

# Untrusted relays show what SpamAssassin makes of the Received field that it is given.
SPAMD = """\
util_rb_tld test
required_score 5
header TOY_SPAM Subject =~ /this-is-toy-spam/
score TOY_SPAM 6.5
header TOY_CLIENT X-Spam-Relays-Untrusted =~ /^[^a-z]*ip=192\\.0\\.2\\.7 rdns=client\\.test helo=[^ ]+ by=mx\\.example\\.test /
score TOY_CLIENT 1.25
header TOY_SENDER EnvelopeFrom =~ /^alice\\@client\\.test$/
score TOY_SENDER 0.5
"""

RSPAMD = """\
options {{
    pidfile = "{directory}/rspamd.pid";
    filters = "";
    url_tld = "{directory}/tld";
    tempdir = "{directory}";
    temp_dir = "{directory}";
    control_socket = "{directory}/control.sock mode=0600";
    dns {{ nameserver = ["127.0.0.1:{port}"]; }}
}}
logging {{ type = "console"; level = "warning"; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}
metric "default" {{ actions {{ reject = 15; add_header = 6; greylist = 4; }} }}
lua = "{directory}/toy.lua";
"""

LUA = """\
rspamd_config:register_symbol({
    name = 'TOY_SPAM',
    score = 7.5,
    callback = function(task)
        local from, ip = task:get_from('smtp'), task:get_from_ip()
        local seen = string.format('%s %s %s %s %s', from and from[1].addr, #(task:get_recipients('smtp') or {}),
            ip and ip:to_string(), task:get_helo(), task:get_user())
        task:insert_result('TOY_SEEN', 0.0, seen)
        task:set_milter_reply({
            add_headers = { ['X-Toy'] = 'checked', ['X-Toy-Top'] = { value = 'first', order = 0 } },
            remove_headers = { ['X-Forged'] = 0, ['X-Second'] = 2 },
        })
        if string.find(tostring(task:get_header('Subject') or ''), 'this-is-toy-spam', 1, true) then
            return true, 1.0, 'subject'
        end
    end
})
rspamd_config:set_metric_symbol({ name = 'TOY_SPAM', score = 7.5 })
rspamd_config:set_metric_symbol({ name = 'TOY_SEEN', score = 0.0 })
"""


class ScannerRig(ABC):
    """One daemon on loopback."""

    name: str
    package: str

    def __init__(self) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir="/tmp"))
        self.directory.chmod(0o755)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"inet:{self.port}@127.0.0.1"

    @classmethod
    def missing(cls) -> str | None:
        """What this machine lacks; None if nothing."""
        if os.geteuid() != 0:
            return f"{cls.name} changes its user and must be started as root"
        return None if program(cls.name) else f"{cls.name} is not installed (Debian package {cls.package})"

    @abstractmethod
    def _command(self) -> list[str]:
        """Write what it is configured with, and return how it is started."""

    def start(self) -> None:
        """Return when it listens."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=-3, stdout=log, stderr=-2, start_new_session=True, cwd="/"
            )
        wait_for_ports([self.port], self._process, self.name, self.log)

    def log(self) -> str:
        """What it has printed."""
        return (self.directory / "log").read_text(errors="replace")

    def stop(self) -> None:
        """End it, with its children, and remove its directory."""
        if self._process is not None:
            # It waits for its children, which nobody would do if it were killed.
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


class ClamdRig(ScannerRig):
    """clamd with one signature."""

    name = "clamd"
    package = "clamav-daemon"

    def _command(self) -> list[str]:
        database = self.directory / "db"
        database.mkdir()
        (database / "toy.ndb").write_text(f"Toy.Test:0:*:{MALWARE.hex()}\n")
        file = self.directory / "clamd.conf"
        file.write_text(CLAMD.format(port=self.port, directory=self.directory))
        return [program("clamd") or "", "-c", str(file)]


class SpamdRig(ScannerRig):
    """spamd with three rules."""

    name = "spamd"
    package = "spamd"

    def _command(self) -> list[str]:
        rules = self.directory / "rules"
        rules.mkdir()
        (rules / "a.pre").write_text("loadplugin Mail::SpamAssassin::Plugin::Check\n")
        (rules / "a.cf").write_text(SPAMD)
        where = ["-p", str(self.port), "-i", "127.0.0.1", "-C", str(rules), "--siteconfigpath", str(rules)]
        return [program("spamd") or "", "-L", "-x", "-s", "stderr", "-m", "1", "-u", "nobody", *where]


class RspamdRig(ScannerRig):
    """rspamd with one symbol."""

    name = "rspamd"
    package = "rspamd"
    lua = LUA

    def _command(self) -> list[str]:
        shutil.chown(self.directory, "nobody", "nogroup")
        (self.directory / "toy.lua").write_text(self.lua)
        # Of the list that comes with rspamd a pattern is compiled, which takes half a minute.
        (self.directory / "tld").write_text("com\ntest\n")
        file = self.directory / "rspamd.conf"
        file.write_text(RSPAMD.format(port=self.port, directory=self.directory))
        return [program("rspamd") or "", "-f", "-i", "-c", str(file), "-u", "nobody", "-g", "nogroup"]
