"""What a Debian site has in place of a gateway: pyspf-milter, OpenDKIM and OpenDMARC, asked one after the other."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.compat.rigs import programs
from tests.interop.rigs.mta import GLANCE, Rig, RigError
from tests.interop.rigs.postfix import Postfix
from tests.listening import listens
from tests.patience import PATIENCE
from tests.programs import program

__all__ = ["missing", "serving"]

_OPENDKIM: Final = """\
Mode v
Socket {socket}
AuthservID {name}
RemoveARFrom {name}
AlwaysAddARHeader yes
InternalHosts 192.0.2.99
TestDNSData file:{folder}/keys
Syslog false
"""
_OPENDMARC: Final = """\
AuthservID {name}
Socket {socket}
RejectFailures true
HoldQuarantinedMessages true
IgnoreHosts /dev/null
PublicSuffixList {folder}/suffixes
TestDNSData {folder}/policies
Syslog false
"""
_PYSPF: Final = """\
debugLevel = 1
TestOnly = 1
HELO_reject = False
Mail_From_reject = False
PermError_reject = False
TempError_Defer = False
skip_addresses = 198.51.100.99/32
InternalHosts = 198.51.100.99
Socket = {socket}
PidFile = {folder}/pyspf.pid
UserID = root
Authserv_Id = {name}
"""
# It asks the nameserver of resolv.conf, on port 53, and a mount namespace has that to the test's mind.
_NAMESPACE: Final = 'mount --bind "$1" "$(readlink -f /etc/resolv.conf)" && shift && exec "$@"'


def missing() -> str | None:
    """What this machine lacks; None if nothing."""
    for name in ("opendkim", "opendmarc", "unshare"):
        if program(name) is None:
            return f"{name} is not installed"
    return Postfix.missing() or programs.missing()


@asynccontextmanager
async def serving(
    rig: Rig,
    sockets: tuple[str, str, str],
    name: str,
    nameserver: str,
    keys: Mapping[str, str],
    policies: Mapping[str, str],
) -> AsyncIterator[None]:
    """Start the three, and end them with the block.

    Args:
        rig: Behind which they stand.
        sockets: Where each listens.
        name: Theirs in Authentication-Results.
        nameserver: An address at whose port 53 SPF records are.
        keys: Records of DKIM.
        policies: Records of DMARC.
    """
    folder = Path(tempfile.mkdtemp(dir=rig.directory))
    folder.chmod(0o755)
    for file, records in (("keys", keys), ("policies", policies)):
        (folder / file).write_text("".join(f"{where} {text}\n" for where, text in records.items()))
    (folder / "suffixes").write_text("example\n")
    (folder / "resolv.conf").write_text(f"nameserver {nameserver}\noptions attempts:1\n")
    for file, text, socket in zip(
        ("pyspf", "opendkim", "opendmarc"), (_PYSPF, _OPENDKIM, _OPENDMARC), sockets, strict=True
    ):
        (folder / file).write_text(text.format(socket=socket, name=name, folder=folder))
    compat = [str(programs.PYTHON), "-m", "aiomilter", "compat", str(programs.PREFIX / "bin" / "pyspf-milter")]
    commands = (
        ["unshare", "-m", "sh", "-c", _NAMESPACE, "sh", str(folder / "resolv.conf"), *compat, str(folder / "pyspf")],
        [program("opendkim") or "", "-f", "-x", str(folder / "opendkim")],
        [program("opendmarc") or "", "-f", "-c", str(folder / "opendmarc")],
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    running: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "log").open("ab") as log:
            for command in commands:
                running.append(
                    subprocess.Popen(command, stdin=-3, stdout=log, stderr=log, env=environment, start_new_session=True)
                )
        async with asyncio.timeout(PATIENCE):
            for process, socket in zip(running, sockets, strict=True):
                while not listens(socket):
                    if process.poll() is not None:
                        raise RigError(f"{process.args!r} has ended\n{(folder / 'log').read_text()}")
                    await asyncio.sleep(GLANCE)
        yield
    finally:
        for process in running:
            # They take seconds to end by themselves, and keep nothing.
            process.kill()
            process.wait(PATIENCE)
        shutil.rmtree(folder)
