"""The pytest plugin: a fixture ``milter_session`` that is :func:`aiomilter.testing.session`."""

from typing import Any

import pytest

__all__ = ["milter_session"]


@pytest.fixture
def milter_session() -> Any:
    """Give :func:`aiomilter.testing.session`: ``async with milter_session(MyFilter) as s: ...``."""
    # Imported when used: a plugin is loaded in every test run of every project that has aiomilter installed.
    from aiomilter.testing import session

    return session
