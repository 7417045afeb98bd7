"""Programs that others wrote for pymilter, unchanged: what ours has to run.

``python -m tests.compat.rigs.programs`` installs them, once, in a virtual environment without pymilter in
``$PROGRAMS_PREFIX`` (a directory in the user's cache unless set), and unpacks pymilter's source distribution beside, for the
samples and tests in it.
"""

import asyncio
import os
import shutil
import sys
import tarfile
from pathlib import Path

from tests.compat.rigs.pymilter import VERSION
from tests.interop.rigs.mta import run
from tests.interop.rigs.once import alone

PREFIX = Path(os.environ.get("PROGRAMS_PREFIX") or Path.home() / ".cache" / "aiomilter-tests" / "programs")
PYTHON = PREFIX / "bin/python"
SOURCES = PREFIX / f"pymilter-{VERSION}"
"""What pymilter's source distribution has."""

# The programs, then what they need; not pymilter, which all of them name.
PROGRAMS = ("dkimpy-milter==1.2.3", "spf-engine==3.1.0", "pyquarantine==2.0.4", "no-ppap-milter==0.2.5")
LIBRARIES = (
    *("attrs==26.1.0", "authres==1.2.0", "beautifulsoup4==4.15.0", "cffi==2.1.1", "dkimpy==1.1.8", "dnspython==2.9.2"),
    *("jsonschema==4.26.0", "jsonschema-specifications==2025.9.1", "lxml==6.1.3", "netaddr==1.3.0", "peewee==4.5.3"),
    *("py3dns==4.0.2", "pycparser==3.12", "PyNaCl==1.6.2", "pyspf==2.0.14", "referencing==0.37.0", "rpds-py==2026.9.1"),
    *("setuptools==65.5.0", "soupsieve==4.1.2", "typing_extensions==4.16.0"),
)
COMPLETE = PREFIX / "complete"
CONTENTS = "\n".join((VERSION, *PROGRAMS, *LIBRARIES))


def missing() -> str | None:
    """What this machine lacks to run the programs, and how to get it; None if nothing."""
    if COMPLETE.exists() and COMPLETE.read_text() == CONTENTS:
        return None
    return "the programs are not installed: python -m tests.compat.rigs.programs does it"


async def install() -> None:
    """Install the programs and unpack pymilter's sources."""
    if missing() is None:
        return
    shutil.rmtree(PREFIX, ignore_errors=True)
    await run(sys.executable, "-m", "venv", str(PREFIX))
    await run(str(PYTHON), "-m", "pip", "install", "-q", "--no-deps", *PROGRAMS, *LIBRARIES)
    source = ("--no-deps", "--no-binary", "pymilter", f"pymilter=={VERSION}")
    await run(str(PYTHON), "-m", "pip", "download", "-q", "-d", str(PREFIX / "download"), *source)
    with tarfile.open(PREFIX / "download" / f"pymilter-{VERSION}.tar.gz") as archive:
        archive.extractall(PREFIX, filter="data")
    COMPLETE.write_text(CONTENTS)


if __name__ == "__main__":
    with alone(PREFIX):
        asyncio.run(install())
