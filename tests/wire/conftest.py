"""Both readers of the protocol, for the tests that read."""

from collections.abc import Iterator

import pytest

from tests.wire.readers import READERS, choose, read


@pytest.fixture(scope="module", params=READERS)
def each_reader(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the tests of a module with each reader: those of connections, and those that use :func:`tests.wire.readers.read`."""
    choose(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aiomilter.wire.connection.read", read)
        yield
    choose("python")
