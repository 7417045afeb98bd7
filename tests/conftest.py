"""What concerns all tests: one MTA of each kind, the part of the suite that runs, and how long each room took."""

import gc
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from tests.interop.rigs.postfix import Postfix
from tests.interop.rigs.sendmail import Sendmail
from tests.programs import LACKED, running
from tests.shards import NEED_PROGRAMS, SHARDS, has_module, may_need_programs, shard

COLLECTED: Final = pytest.StashKey[list[pytest.Item]]()
"""All tests, before any were left out."""


# A busy machine is no error; the rest is as Hypothesis has it at home or, without chance, in CI.
settings.register_profile("short", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("short"), max_examples=2000)


def pytest_configure(config: pytest.Config) -> None:
    """Have Hypothesis try more, where a test leaves that open, if ``-m long`` asks for it."""
    settings.load_profile("long" if "long" in config.option.markexpr else "short")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--shard``."""
    parser.addoption(
        "--shard",
        choices=SHARDS,
        action="append",
        dest="shards",
        help="run one part of the suite, or several: what waits for other programs, or the rest",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import the modules that are in another part of the suite: together they take ten seconds."""
    names = config.option.shards
    if names is None or not collection_path.match("test_*.py"):
        return None
    path = collection_path.relative_to(config.rootpath).as_posix()
    if not any(has_module(name, path) for name in names):
        return True
    return None if set(names).difference(NEED_PROGRAMS) or may_need_programs(collection_path) else True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the other part of the suite; and what takes minutes, unless ``-m long`` asks for it."""
    if "long" not in config.option.markexpr and (
        left_out := [item for item in items if item.get_closest_marker("long")]
    ):
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    every = config.stash[COLLECTED] = [*items]
    if config.option.shards is not None:
        items[:] = shard(every, *config.option.shards)
        config.hook.pytest_deselected(items=list(set(every).difference(items)))


def pytest_collection_finish() -> None:
    """Have the collector of cycles pass over the tests themselves: a collection took half a second, and some tests make two."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail if a test that needs a program of another project is not marked: where there is one, it would never be run."""
    unmarked = {item.nodeid for item in session.items if not item.get_closest_marker("interop")}.intersection(LACKED)
    if unmarked:
        print(f"\nexpected the mark 'interop', since a program was missing: {', '.join(sorted(unmarked))}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the seconds that each room took, and its tests."""
    seconds: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                path = report.nodeid.partition("::")[0].split("/")
                room = "/".join(path[:2]) if len(path) > 2 else path[0]
                seconds[room] += report.duration  # type: ignore[assignment]  # a Counter adds floats as well
                tests[room] += report.when == "call"
    if len(seconds) > 1:
        terminalreporter.section("seconds by room")
        for room, took in seconds.most_common():
            terminalreporter.write_line(f"{took:8.1f} s  {tests[room]:5} tests  {room}")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Take away the handlers that a command has set up: one that stays writes to a descriptor that others have by then."""
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    yield
    for handler in [each for each in root.handlers if each not in handlers]:
        root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(scope="session")
def postfix_rig() -> Iterator[Postfix]:
    """Postfix, for all tests."""
    yield from running(Postfix)


@pytest.fixture(scope="session")
def sendmail_rig() -> Iterator[Sendmail]:
    """Sendmail, for all tests."""
    yield from running(Sendmail)
