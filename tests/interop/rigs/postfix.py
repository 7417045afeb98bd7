"""A private Postfix (3.7 and later): the package must be installed, it need not be configured or run."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.interop.rigs.mta import GLANCE, HASTE, Rig, RigError, free_port, run
from tests.patience import PATIENCE
from tests.programs import program

MAIN_CF = """\
compatibility_level = 3.6
# this instance
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/log
maillog_file_prefixes = {directory}
mail_owner = postfix
setgid_group = postdrop
syslog_name = postfix
# names and interfaces
myhostname = mx.example.test
mydomain = example.test
myorigin = example.test
inet_interfaces = 127.0.0.1
inet_protocols = all
# everything is relayed to the sink, without DNS
mydestination =
relayhost = [127.0.0.1]:{sink_port}
local_transport = error:5.1.1 no local delivery here
local_recipient_maps =
alias_maps =
alias_database =
# not mynetworks: a client may have no address
relay_domains = example.test
smtpd_relay_restrictions = reject_unauth_destination
smtp_dns_support_level = disabled
smtp_host_lookup = native
smtp_destination_recipient_limit = 1000
# messages stay as they are
local_header_rewrite_clients =
append_dot_mydomain = no
smtp_line_length_limit = 0
smtputf8_enable = yes
recipient_delimiter =
# tests say what address, name and login a client has
smtpd_authorized_xclient_hosts = 127.0.0.0/8
# no limits or delays that get in the way of tests
message_size_limit = 104857600
mailbox_size_limit = 0
queue_minfree = 0
in_flow_delay = 0
smtpd_client_connection_count_limit = 0
smtpd_client_event_limit_exceptions = static:all
smtpd_error_sleep_time = 0
smtpd_soft_error_limit = 10000
smtpd_hard_error_limit = 10000
smtpd_junk_command_limit = 100000
notify_classes =
biff = no
readme_directory = no
enable_long_queue_ids = yes
milter_protocol = 6
# A busy machine is no reason to do without a filter, or to give up one that is to hang.
milter_connect_timeout = 300s
milter_command_timeout = 300s
"""

# A filter that local mail passes belongs to cleanup, and cleanup serves the SMTP server as well: so two of them.
MASTER_CF = """\
probe     unix  n - n - - smtpd
pickup    unix  n - n 60 1 pickup -o cleanup_service_name=submitted
cleanup   unix  n - n - 0 cleanup
submitted unix  n - n - 0 cleanup -o non_smtpd_milters={submitted}
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""


class Postfix(Rig):
    """See ``Rig``; ``submitted`` is the socket of the filter that local mail passes (non_smtpd_milters).

    Before it starts, ``settings`` takes more lines of main.cf, ``services`` of master.cf, and ``smtpd`` options by port.
    """

    name = "postfix"

    def __init__(self) -> None:
        super().__init__()
        self.submitted = f"inet:{free_port()}@127.0.0.1"
        self.etc = self.directory / "etc"
        self.queue = self.directory / "queue"
        self.settings = ""
        self.services = ""
        self.smtpd: dict[str, str] = {}

    @classmethod
    def missing(cls) -> str | None:
        if os.geteuid() != 0:
            return "Postfix's master changes its user and must be started as root"
        if program("postfix") is None:
            return "Postfix is not installed (Debian package postfix)"
        return None

    def _start(self, sink_port: int) -> None:
        self.version = tuple(map(int, re.findall(r"\d+", _output("postconf", "-dh", "mail_version"))))
        self.queue.mkdir(mode=0o755)
        (self.directory / "data").mkdir()
        shutil.chown(self.directory / "data", "postfix")
        main_cf = self.etc / "main.cf"
        main_cf.write_text(MAIN_CF.format(directory=self.directory, sink_port=sink_port) + self.settings)
        services = [MASTER_CF.format(submitted=_socket(self.submitted)), self.services]
        for port, number in self.ports.items():
            milters = ",".join(map(_socket, self.filters[port]))
            if port == "hasty":
                milters = f"{{ {milters}, command_timeout={HASTE}s, content_timeout={HASTE}s }}"
            services.append(
                f"127.0.0.1:{number} inet n - n - - smtpd -o {{ smtpd_milters = {milters} }} {self.smtpd.get(port, '')}\n"
            )
        (self.etc / "master.cf").write_text("".join(services))
        # Postfix waits before it reads a file that changed a moment ago.
        os.utime(main_cf, (time.time() - 10,) * 2)
        os.utime(self.etc / "master.cf", (time.time() - 10,) * 2)
        _output("postfix", "-c", str(self.etc), "start")
        self._wait_for_ports()

    def _stop(self) -> None:
        pid_file = self.queue / "pid" / "master.pid"
        if not pid_file.exists():
            return
        pid = int(pid_file.read_text())
        comm = Path(f"/proc/{pid}/comm")
        deadline = time.monotonic() + PATIENCE
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            os.kill(pid, signal.SIGTERM)
            while comm.read_text() == "master\n":
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(GLANCE)

    def queued(self) -> list[str]:
        places = ("maildrop", "incoming", "active", "deferred")
        return [name for place in places for _, _, names in os.walk(self.queue / place) for name in names]

    def held(self) -> dict[str, str]:
        # The reason is in the log only, and from 3.10 on.
        return {name: "" for _, _, names in os.walk(self.queue / "hold") for name in names}

    async def release(self) -> None:
        await run(_find("postsuper"), "-c", str(self.etc), "-H", "ALL")
        await run(_find("postqueue"), "-c", str(self.etc), "-f")

    async def delete_all(self) -> None:
        await run(_find("postsuper"), "-c", str(self.etc), "-d", "ALL")

    async def submit(self, sender: str, recipient: str, content: bytes) -> None:
        """Hand in mail as a local program does, past the SMTP server."""
        await run(_find("sendmail"), "-C", str(self.etc), "-i", "-f", sender, "--", recipient, stdin=content)


def _find(name: str) -> str:
    return program(name) or name


def _output(program: str, *arguments: str) -> str:
    # The session of its own keeps a Ctrl-C away from a Postfix that starts: its master would be left, without a file that
    # names it.
    done = subprocess.run(
        [_find(program), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=-1,
        stderr=-2,
        text=True,
        check=False,
        start_new_session=True,
    )
    if done.returncode != 0:
        raise RigError(f"{program} {' '.join(arguments)}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


def _socket(socket: str) -> str:
    """Return ``inet:PORT@HOST`` as Postfix writes it; a path is the same for both."""
    kind, _, rest = socket.partition(":")
    port, at, host = rest.partition("@")
    return f"{kind}:{host}:{port}" if at else socket
