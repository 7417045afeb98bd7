"""A private Valkey (8.0): Debian 12 has it in its backports alone, from where it is unpacked, not installed.

``python -m tests.interop.rigs.valkey`` unpacks it, once, into ``$VALKEY_PREFIX`` (a directory in the user's cache unless set);
that needs apt-get and dpkg.  Where the mirror has no backports it says so, and tests do without.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.interop.rigs.once import alone

PREFIX = Path(os.environ.get("VALKEY_PREFIX") or Path.home() / ".cache" / "aiomilter-tests" / "valkey")
SERVER = PREFIX / "root/usr/bin/valkey-server"
_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"


def missing() -> str | None:
    """What this machine lacks; None if nothing."""
    if os.environ.get("AIOMILTER_TESTS_BARE") or not SERVER.exists():
        return "Valkey is not unpacked: python -m tests.interop.rigs.valkey does it, where Debian's backports are to be had"
    return None


def unpack() -> None:
    """Fetch and unpack it; the machine's own lists of packages stay as they are."""
    with alone(PREFIX), tempfile.TemporaryDirectory() as name:
        if SERVER.exists():
            return
        directory = Path(name)
        (directory / "sources").write_text(f"deb [signed-by={_KEYS}] {_mirror()} bookworm-backports main\n")
        for folder in ("lists/partial", "cache/archives/partial"):
            (directory / folder).mkdir(parents=True)
        options = [
            f"Dir::Etc::sourcelist={directory}/sources",
            "Dir::Etc::sourceparts=/dev/null",
            f"Dir::State::lists={directory}/lists",
            f"Dir::Cache={directory}/cache",
            "APT::Sandbox::User=root",
        ]
        apt = ["apt-get", "-qq", *(part for option in options for part in ("-o", option))]
        subprocess.run([*apt, "update"], check=True, cwd=directory)
        subprocess.run([*apt, "download", "valkey-server", "valkey-tools"], check=True, cwd=directory)
        PREFIX.mkdir(parents=True, exist_ok=True)
        for package in directory.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), str(PREFIX / "root")], check=True)


def _mirror() -> str:
    """Return the one that this machine has its packages from."""
    for path in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))):
        if path.exists() and (found := re.search(r"https?://\S+/debian/?(?=\s)", path.read_text())):
            return found[0]
    raise OSError("no mirror of Debian in /etc/apt")


if __name__ == "__main__":
    try:
        unpack()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"tests do without Valkey: {error}", file=sys.stderr)
