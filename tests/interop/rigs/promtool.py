"""promtool, of Debian's package ``prometheus``, unpacked, not installed: it judges metrics and alert rules.

``python -m tests.interop.rigs.promtool`` unpacks it, once, into ``$PROMTOOL_PREFIX`` (a directory in the user's cache unless
set); that needs apt-get and dpkg.
"""

import os
import subprocess
import tempfile
from pathlib import Path

from tests.interop.rigs.once import alone

PREFIX = Path(os.environ.get("PROMTOOL_PREFIX") or Path.home() / ".cache" / "aiomilter-tests" / "promtool")
PROMTOOL = PREFIX / "usr/bin/promtool"


def missing() -> str | None:
    """What this machine lacks; None if nothing."""
    if os.environ.get("AIOMILTER_TESTS_BARE") or not PROMTOOL.exists():
        return "promtool is not unpacked: python -m tests.interop.rigs.promtool does it (needs Debian's apt-get)"
    return None


def unpack() -> None:
    """Fetch the package, and unpack this one program of it."""
    with alone(PREFIX), tempfile.TemporaryDirectory() as name:
        if PROMTOOL.exists():
            return
        os.chmod(name, 0o755)
        subprocess.run(["apt-get", "-qq", "-o", "Acquire::Retries=3", "download", "prometheus"], check=True, cwd=name)
        (package,) = Path(name).glob("*.deb")
        PREFIX.mkdir(parents=True, exist_ok=True)
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as unpacking:
            command = ["tar", "-x", "-C", str(PREFIX), "./usr/bin/promtool"]
            subprocess.run(command, stdin=unpacking.stdout, check=True)


if __name__ == "__main__":
    unpack()
