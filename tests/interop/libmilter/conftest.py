"""The C filter, compiled once, and how much was compared, said at the end of the run."""

from pathlib import Path
from typing import Final

import pytest

from tests.interop.libmilter.playing import Played
from tests.programs import compiled

SOURCE: Final = Path(__file__).parent / "filter.c"


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
    return compiled(SOURCE, tmp_path_factory.mktemp("libmilter"))
