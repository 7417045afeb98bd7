"""The real pymilter, on the real libmilter: what ours is compared with.

``python -m tests.compat.rigs.pymilter`` builds it, once, in a virtual environment in ``$PYMILTER_PREFIX`` (a directory in
the user's cache unless set); that needs a C compiler, Python's headers and Debian's libmilter-dev.
"""

import asyncio
import os
import shutil
import sys
from pathlib import Path

from tests.interop.rigs.mta import run
from tests.interop.rigs.once import alone

VERSION = "1.0.5"
PREFIX = Path(os.environ.get("PYMILTER_PREFIX") or Path.home() / ".cache" / "aiomilter-tests" / "pymilter")
PYTHON = PREFIX / "bin/python"
"""The interpreter that imports pymilter, and nothing else that does not come with Python."""
COMPLETE = PREFIX / f"complete-{VERSION}"


def missing() -> str | None:
    """What this machine lacks to run pymilter, and how to get it; None if nothing."""
    if COMPLETE.exists():
        return None
    return "pymilter is not built: python -m tests.compat.rigs.pymilter does it (needs gcc and libmilter-dev)"


async def install() -> None:
    """Build pymilter from its source distribution."""
    if COMPLETE.exists():
        return
    shutil.rmtree(PREFIX, ignore_errors=True)
    await run(sys.executable, "-m", "venv", str(PREFIX))
    # Its build asks for nothing but setuptools, and Python 3.12 on brings none.
    await run(str(PYTHON), "-m", "pip", "install", "-q", "setuptools>=65", "wheel")
    await run(str(PYTHON), "-m", "pip", "install", "-q", "--no-build-isolation", f"pymilter=={VERSION}")
    await run(str(PYTHON), "-c", "import milter, mime")
    COMPLETE.touch()


if __name__ == "__main__":
    with alone(PREFIX):
        asyncio.run(install())
