"""A private Sendmail (8.17) beside an installed MTA: its Debian packages are unpacked, not installed.

``python -m tests.interop.rigs.sendmail`` unpacks them, once, into ``$SENDMAIL_PREFIX`` (a directory in the user's
cache unless set); that needs apt-get and dpkg.
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.interop.rigs.mta import HASTE, Rig, RigError, run
from tests.interop.rigs.once import alone
from tests.patience import PATIENCE

PREFIX = Path(os.environ.get("SENDMAIL_PREFIX") or Path.home() / ".cache" / "aiomilter-tests" / "sendmail")
PACKAGES = ("sendmail-bin", "sendmail-cf", "m4")
LIBRARIES = ("libdb5.3", "libldap-2.5-0", "liblockfile1", "libnsl2", "libsasl2-2", "libssl3", "libwrap0", "libtirpc3")
BINARY = PREFIX / "root/usr/libexec/sendmail/sendmail"
CF = PREFIX / "root/usr/share/sendmail/cf"

SENDMAIL_MC = """\
divert(0)dnl
OSTYPE(`linux')dnl
define(`confPID_FILE', `{directory}/sendmail.pid')dnl
define(`QUEUE_DIR', `{directory}/mqueue')dnl
define(`STATUS_FILE', `{directory}/statistics')dnl
define(`HELP_FILE', `')dnl
define(`ALIAS_FILE', `')dnl
define(`confCONTROL_SOCKET_NAME', `')dnl
define(`confSERVICE_SWITCH_FILE', `{directory}/service.switch')dnl
define(`confDOMAIN_NAME', `mx.example.test')dnl
define(`confDONT_BLAME_SENDMAIL', `TrustStickyBit,GroupWritableDirPathSafe')dnl
define(`confTRUSTED_USER', `root')dnl
define(`confDEF_USER_ID', `65534:65534')dnl
dnl everything is relayed to the sink, without DNS
define(`RELAY_MAILER_ARGS', `TCP $h {sink_port}')dnl
define(`SMART_HOST', `relay:[127.0.0.1]')dnl
define(`MAIL_HUB', `relay:[127.0.0.1]')dnl
define(`LOCAL_RELAY', `relay:[127.0.0.1]')dnl
FEATURE(`promiscuous_relay')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`accept_unqualified_senders')dnl
FEATURE(`nocanonify')dnl
define(`confAUTH_MECHANISMS', `')dnl
define(`confDONT_PROBE_INTERFACES', `True')dnl
define(`confTO_IDENT', `0s')dnl
define(`confDELIVERY_MODE', `background')dnl
dnl no limits or delays that get in the way of tests
define(`confQUEUE_LA', `1000')dnl
define(`confREFUSE_LA', `1000')dnl
define(`confDELAY_LA', `0')dnl
define(`confBAD_RCPT_THROTTLE', `0')dnl
define(`confMAX_MESSAGE_SIZE', `104857600')dnl
define(`confMIN_FREE_BLOCKS', `0')dnl
define(`confMIN_QUEUE_AGE', `0')dnl
define(`confPRIVACY_FLAGS', `')dnl
define(`confLOG_LEVEL', `14')dnl
define(`confMILTER_LOG_LEVEL', `14')dnl
FEATURE(`no_default_msa')dnl
"""

# Sendmail logs to /dev/log only, sleeps a minute where the host name has no dot, and asks DNS when the resolver is set
# up to.  So it runs in mount and UTS namespaces of its own, where all of that is as a test wants it.
NAMESPACE = """\
set -e
directory=$1
shift
echo '127.0.0.1 localhost mx.example.test' >"$directory/etc/hosts"
echo 'hosts: files' >"$directory/etc/nsswitch.conf"
: >"$directory/etc/resolv.conf"
for file in hosts nsswitch.conf resolv.conf; do
    [ ! -e "/etc/$file" ] || mount --bind "$directory/etc/$file" "$(readlink -f "/etc/$file")"
done
mkdir -p "$directory/dev"
mount -t tmpfs -o mode=755 tmpfs "$directory/dev"
for node in null zero random urandom tty; do
    touch "$directory/dev/$node"
    mount --bind "/dev/$node" "$directory/dev/$node"
done
ln -s /proc/self/fd "$directory/dev/fd"
ln -s "$directory/devlog" "$directory/dev/log"
mount --rbind "$directory/dev" /dev
echo mx.example.test >/proc/sys/kernel/hostname
exec "$@"
"""


class Sendmail(Rig):
    """See ``Rig``; before it starts, ``settings`` takes more lines of sendmail.mc."""

    name = "sendmail"

    def __init__(self) -> None:
        super().__init__()
        self.queue = self.directory / "mqueue"
        self.settings = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._command: list[str] = []

    @classmethod
    def missing(cls) -> str | None:
        if os.geteuid() != 0:
            return "Sendmail must be started as root"
        if not (PREFIX / "complete").exists():
            return "Sendmail is not unpacked: python -m tests.interop.rigs.sendmail does it (needs Debian's apt-get)"
        return None

    def _start(self, sink_port: int) -> None:
        self.queue.mkdir(mode=0o700)
        self.log.touch()
        (self.directory / "statistics").touch()
        (self.directory / "service.switch").write_text("hosts files\naliases files\npasswd files\n")
        (self.directory / "sendmail.cf").write_bytes(self._configuration(sink_port))
        self._command = [str(BINARY), "-C", str(self.directory / "sendmail.cf")]
        if subprocess.run(["unshare", "-m", "-u", "true"], stderr=-3, check=False).returncode == 0:
            inside = ["unshare", "-m", "-u", "bash", "-c", NAMESPACE, "namespace", str(self.directory)]
            self._command = [*inside, *self._command]
        version = subprocess.run(
            [*self._command, "-d0.1", "-bv", "root"], env=_environment(), stdout=-1, stderr=-3, check=False
        )
        self.version = tuple(map(int, re.findall(r"\d+", version.stdout.decode().partition("\n")[0])))
        # -bD stays in the foreground; the session of its own keeps a Ctrl-C at the tests away from it.
        with (self.directory / "start.log").open("wb") as output:
            self._process = subprocess.Popen(
                [*self._command, "-bD", "-q5s"],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_for_ports(self._process)

    def _configuration(self, sink_port: int) -> bytes:
        lines = [SENDMAIL_MC.format(directory=self.directory, sink_port=sink_port)]
        asked = dict.fromkeys(socket for sockets in self.filters.values() for socket in sockets)
        names = {socket: f"filter{number}" for number, socket in enumerate(asked, 1)}
        for socket, name in names.items():
            patience = f"C:10s;S:{HASTE}s;R:{HASTE}s;E:2m" if socket == self.hasty else "C:10s;S:30s;R:30s;E:2m"
            lines.append(f"MAIL_FILTER(`{name}', `S={socket}, F=T, T={patience}')dnl\n")
        # Mail from elsewhere asks the first, and so would a port that names none.
        usual = "filter1" if all(self.filters.values()) else ""
        lines.append(f"define(`confINPUT_MAIL_FILTERS', `{usual}')dnl\n")
        for port, number in self.ports.items():
            filters = ";".join(names[socket] for socket in self.filters[port])
            options = f"Name=port{number}, Family=inet, Addr=127.0.0.1, Port={number}"
            if filters:
                options += f", InputMailFilters={filters}"
            lines.append(f"DAEMON_OPTIONS(`{options}')dnl\n")
        lines.append(self.settings)
        lines.append("MAILER(`local')dnl\nMAILER(`smtp')dnl\n")
        source = self.directory / "sendmail.mc"
        source.write_text("".join(lines))
        m4 = shutil.which("m4") or str(PREFIX / "root/usr/bin/m4")
        done = subprocess.run(
            [m4, f"-D_CF_DIR_={CF}/", str(CF / "m4/cf.m4"), str(source)],
            env=_environment(),
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            raise RigError(f"m4: exit status {done.returncode}\n{done.stderr.decode()}")
        return done.stdout

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def queued(self) -> list[str]:
        # qf: a queue file; df without one is a message that has just gone, tf a queue file in the making.
        return [name for name in os.listdir(self.queue) if name.startswith(("qf", "tf"))]

    def held(self) -> dict[str, str]:
        held = {}
        for path in self.queue.glob("hf*"):
            reasons = [line[1:] for line in path.read_text("latin-1").splitlines() if line.startswith("q")]
            held[path.name[2:]] = reasons[0] if reasons else ""
        return held

    async def release(self) -> None:
        await self._run("-qQ", "-Q")
        await self._run("-q")

    async def delete_all(self) -> None:
        for path in self.queue.iterdir():
            path.unlink(missing_ok=True)

    async def _run(self, *arguments: str) -> str:
        return await run("env", f"LD_LIBRARY_PATH={_library_path()}", *self._command, *arguments)

    async def submission(self) -> asyncio.subprocess.Process:
        """Start Sendmail speaking SMTP on its standard input and output, as local mail programs do (``-bs``)."""
        return await asyncio.create_subprocess_exec(
            *self._command, "-bs", env=_environment(), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )


def _library_path() -> str:
    root = PREFIX / "root"
    return ":".join(map(str, [*root.glob("usr/lib/*-linux-gnu"), *root.glob("lib/*-linux-gnu")]))


def _environment() -> dict[str, str]:
    return {**os.environ, "LD_LIBRARY_PATH": _library_path()}


async def install() -> None:
    """Unpack Sendmail, and those of its libraries that the machine has not."""
    if (PREFIX / "complete").exists():
        return
    wanted = list(PACKAGES)
    for library in (*LIBRARIES, "libsigsegv2"):
        try:
            status = await run("dpkg-query", "-W", "-f=${Status}", library)
        except RigError:
            status = ""
        if "ok installed" not in status:
            wanted.append(library)
    with tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o755)
        await run("sh", "-c", 'cd "$0" && apt-get -q download "$@"', work, *wanted)
        shutil.rmtree(PREFIX / "root", ignore_errors=True)
        (PREFIX / "root").mkdir(parents=True)
        for package in sorted(Path(work).glob("*.deb")):
            await run("dpkg", "-x", str(package), str(PREFIX / "root"))
    BINARY.chmod(0o755)  # a set-group-id program ignores LD_LIBRARY_PATH
    (PREFIX / "complete").touch()


if __name__ == "__main__":
    with alone(PREFIX):
        asyncio.run(install())
