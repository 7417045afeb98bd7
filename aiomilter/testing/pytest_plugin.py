"""The pytest plugin: fixtures that are the functions of :mod:`aiomilter.testing`, and a mark that names recorded sessions.

``@pytest.mark.milter_sessions("corpus/*.jsonl.gz")`` runs a test once for each file, which ``milter_replay`` plays.
"""

from pathlib import Path
from typing import Any, Final

import pytest

__all__ = ["milter_replay", "milter_session", "pytest_configure", "pytest_generate_tests"]

_MARK: Final = "milter_sessions"


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark."""
    what = "milter_sessions(pattern, ...): run once for each recorded session; patterns are relative to the test's file"
    config.addinivalue_line("markers", what)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each of its recorded sessions."""
    patterns = [pattern for mark in metafunc.definition.iter_markers(_MARK) for pattern in mark.args]
    if not patterns:
        return
    if "milter_replay" not in metafunc.fixturenames:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: {_MARK} needs the fixture milter_replay as an argument")
    here = metafunc.definition.path.parent
    files: list[Path] = []
    for pattern in patterns:
        found = sorted(Path("/").glob(pattern[1:]) if pattern.startswith("/") else here.glob(pattern))
        if not found:
            raise pytest.UsageError(f"{metafunc.definition.nodeid}: {here / pattern}: no such recorded session")
        files += found
    metafunc.parametrize("milter_replay", files, indirect=True, ids=[file.name for file in files])


@pytest.fixture
def milter_session() -> Any:
    """Give :func:`aiomilter.testing.session`: ``async with milter_session(MyFilter) as s: ...``."""
    # Imported when used: a plugin is loaded in every test run of every project that has aiomilter installed.
    from aiomilter.testing import session

    return session


@pytest.fixture
def milter_replay(request: pytest.FixtureRequest) -> Any:
    """Give a function that replays the session of this test: ``await milter_replay(MyFilter)`` fails if anything differs.

    It takes the options of :func:`aiomilter.testing.replay`, and returns its result.
    """
    from aiomilter.testing import replay

    if not hasattr(request, "param"):
        raise pytest.UsageError(f"milter_replay needs a mark that names recorded sessions: @pytest.mark.{_MARK}(...)")

    async def replayed(factory: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        result = await replay(request.param, factory, **options)
        if not result.equal:
            pytest.fail(str(result), pytrace=False)
        return result

    return replayed
