"""What the tests of all filters share."""

import pytest

from aiomilter.mta import Style


@pytest.fixture(params=["postfix", "sendmail"])
def mta(request: pytest.FixtureRequest) -> Style:
    """Play the test once with the manners of each MTA."""
    style: Style = request.param
    return style
