"""The compiled reader of the protocol under two sanitizers, of addresses and of undefined behaviour.

``python -m tests.faults.sanitized`` builds it anew and has it read what ``python -m tests.faults.twins`` reads.  Needs gcc
with both sanitizers, Python's headers and Cython (``pip install cython``).
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SOURCE: Final = ROOT / "aiomilter" / "wire" / "_reader.pyx"
SANITIZERS: Final = ("address", "undefined")
# A failed check ends the process; CPython does not free everything when it ends.
SETTINGS: Final = {
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "PYTHONMALLOC": "malloc",
}


def build(folder: Path) -> Path:
    """Return the library, built in a folder."""
    source, library = folder / "_reader.c", folder / "_reader.so"
    subprocess.run([sys.executable, "-m", "cython", "-3", str(SOURCE), "-o", str(source)], check=True)
    flags = ["-O1", "-g", "-shared", "-fPIC", f"-fsanitize={','.join(SANITIZERS)}", "-fno-sanitize-recover=all"]
    include = sysconfig.get_paths()["include"]
    subprocess.run(["gcc", *flags, f"-I{include}", str(source), "-o", str(library)], check=True)
    return library


def preloaded() -> str:
    """Return the run-time libraries of the sanitizers, which have to be there before Python is."""
    names = ["libasan.so", "libubsan.so"]
    found = [subprocess.check_output(["gcc", f"-print-file-name={name}"], text=True).strip() for name in names]
    return ":".join(found)


def main() -> int:
    """Build and run, and return the exit status of what ran."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.sanitized", description=__doc__)
    parser.add_argument("--conversations", default="20000")
    parser.add_argument("--seed", default="0")
    options = parser.parse_args()
    if shutil.which("gcc") is None or find_spec("Cython") is None:
        print("sanitized: expected gcc and Cython (pip install cython)", file=sys.stderr)
        return 2
    with TemporaryDirectory() as name:
        library = build(Path(name))
        command = [sys.executable, "-m", "tests.faults.twins", "--library", str(library)]
        command += ["--conversations", options.conversations, "--seed", options.seed]
        return subprocess.run(command, cwd=ROOT, env={**os.environ, **SETTINGS, "LD_PRELOAD": preloaded()}).returncode


if __name__ == "__main__":
    sys.exit(main())
