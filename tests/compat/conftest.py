"""pymilter itself, and how much was compared with it, said at the end of the run."""

from collections.abc import Iterator
from typing import Final

import pytest

from aiomilter.compat import classic as Milter
from tests.compat.forking import Forker
from tests.compat.playing import Side, ours
from tests.compat.rigs.pymilter import PYTHON, missing
from tests.programs import need


class Tally:
    """How much was compared."""

    def __init__(self) -> None:
        self.programs = self.conversations = self.callbacks = self.expressions = self.differences = 0


TALLY: Final = pytest.StashKey[Tally]()


@pytest.fixture(scope="session")
def tally(request: pytest.FixtureRequest) -> Tally:
    return request.config.stash.setdefault(TALLY, Tally())


@pytest.fixture(scope="session")
def oracle() -> Iterator[Side]:
    """What runs a program on pymilter."""
    need(missing())
    with Forker([str(PYTHON)], "Milter") as forker:
        yield Side("pymilter", (str(PYTHON),), gentle=False, forker=forker)


@pytest.fixture(scope="session")
def mine() -> Iterator[Side]:
    """What runs it on ours."""
    with Forker(ours().command, "Milter") as forker:
        yield ours()._replace(forker=forker)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    count = config.stash.get(TALLY, None)
    if count is not None:
        terminalreporter.write_line(
            f"pymilter: {count.programs} programs compared, {count.conversations} conversations, {count.callbacks} callbacks,"
            f" {count.expressions} expressions; {count.differences} differ, as listed"
        )


@pytest.fixture(autouse=True)
def masks() -> Iterator[None]:
    """A class keeps what it has once asked for, and lends it to all that are derived from it; here to no later test's."""
    yield
    for cls in (Milter.Base, Milter.Milter):
        if "_protocol_mask" in vars(cls):
            del cls._protocol_mask
