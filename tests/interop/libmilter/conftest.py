"""The C filter, compiled once, and how much was compared, said at the end of the run."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.interop.libmilter.playing import Played
from tests.interop.scene import need

SOURCE: Final = Path(__file__).parent / "filter.c"
HEADERS: Final = Path("/usr/include/libmilter/mfapi.h")


class Tally:
    """How much was compared."""

    def __init__(self) -> None:
        self.conversations = self.packets = self.callbacks = self.differences = 0

    def add(self, libmilter: Played, aiomilter: Played, differences: int) -> None:
        """Count a conversation."""
        self.conversations += 1
        self.packets += len(libmilter.steps) - 1
        self.callbacks += libmilter.callbacks + aiomilter.callbacks
        self.differences += differences


TALLY: Final = pytest.StashKey[Tally]()


@pytest.fixture(scope="session")
def tally(request: pytest.FixtureRequest) -> Tally:
    return request.config.stash.setdefault(TALLY, Tally())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    count = config.stash.get(TALLY, None)
    if count is not None:
        terminalreporter.write_line(
            f"libmilter: {count.conversations} conversations compared, {count.packets} packets, {count.callbacks} callbacks"
            f" on both sides; {count.differences} packets differ, as listed"
        )


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The filter on libmilter."""
    compiler = shutil.which("cc")
    if compiler is None or not HEADERS.exists():
        need("a C compiler with libmilter's headers (Debian: gcc libmilter-dev) is not installed")
    program = tmp_path_factory.mktemp("libmilter") / "filter"
    command = [str(compiler), "-Wall", "-Werror", "-o", str(program), str(SOURCE), "-lmilter", "-lpthread", "-ldl"]
    subprocess.run(command, check=True)
    return program
