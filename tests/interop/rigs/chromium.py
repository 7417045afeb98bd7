"""A browser without a screen: Debian's chromium-headless-shell, unpacked, not installed; playwright drives it.

``python -m tests.interop.rigs.chromium`` unpacks it, once, into ``$CHROMIUM_PREFIX`` (a directory in the user's cache unless
set), with those of its libraries that the machine has not; that needs apt-get and dpkg.
"""

import importlib.util
import os
import subprocess
import tempfile
from pathlib import Path

from tests.interop.rigs.once import alone

PREFIX = Path(os.environ.get("CHROMIUM_PREFIX") or Path.home() / ".cache" / "aiomilter-tests" / "chromium")
ROOT = PREFIX / "root"
BROWSER = ROOT / "usr/lib/chromium/chromium-headless-shell"
PACKAGE = "chromium-headless-shell"


def missing() -> str | None:
    """What this machine lacks; None if nothing."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed: pip install 'aiomilter[test-browser]'"
    if os.environ.get("AIOMILTER_TESTS_BARE") or not (PREFIX / "complete").exists():
        return "Chromium is not unpacked: python -m tests.interop.rigs.chromium does it (needs Debian's apt-get)"
    return None


def environment() -> dict[str, str | float | bool]:
    """Return the variables that it runs with."""
    places = [
        *ROOT.glob("usr/lib/*-linux-gnu"),
        *ROOT.glob("usr/lib/*-linux-gnu/pulseaudio"),
        ROOT / "usr/lib/chromium",
    ]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, places))}


def unpack() -> None:
    """Fetch and unpack it."""
    with alone(PREFIX), tempfile.TemporaryDirectory() as name:
        if (PREFIX / "complete").exists():
            return
        told = subprocess.run(
            ["apt-get", "-s", "install", "--no-install-recommends", PACKAGE], check=True, capture_output=True, text=True
        )
        packages = [line.split()[1] for line in told.stdout.splitlines() if line.startswith("Inst ")] or [PACKAGE]
        os.chmod(name, 0o755)
        subprocess.run(["apt-get", "-qq", "-o", "Acquire::Retries=3", "download", *packages], check=True, cwd=name)
        ROOT.mkdir(parents=True, exist_ok=True)
        for package in Path(name).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), str(ROOT)], check=True)
        (PREFIX / "complete").touch()


if __name__ == "__main__":
    unpack()
