"""MTAs for the faults, the filter as a process, and the table at the end."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.faults.report import REPORT, Report
from tests.interop.conftest import on_port
from tests.interop.scene import Scene

_PORTS: Final = {"postfix": "tcp", "sendmail": "unix"}
"""How each is connected with the filter, as is usual."""


@pytest.fixture
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """The MTA of this name, with one filter."""
    async for scene in on_port(request, request.param, _PORTS[request.param]):
        yield scene


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Report:
    """Where tests enter what they counted."""
    return request.config.stash.setdefault(REPORT, Report())


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory for sockets, whose paths are short, and logs."""
    with tempfile.TemporaryDirectory(prefix="faults-", dir="/tmp") as path:
        yield Path(path)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table."""
    report = config.stash.get(REPORT, None)
    if report is not None:
        terminalreporter.section("faults")
        for line in report.table():
            terminalreporter.write_line(line)
