"""Each test gets the port of an MTA that asks the filters it needs."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.interop.rigs.mta import Rig
from tests.interop.rigs.scanners import ClamdRig, RspamdRig, SpamdRig
from tests.interop.scene import Scene
from tests.programs import running


async def on_port(request: pytest.FixtureRequest, mta: str, port: str) -> AsyncIterator[Scene]:
    """Give a test one port of the MTA of this name."""
    rig: Rig = request.getfixturevalue(f"{mta}_rig")
    scene = Scene(rig, port)
    yield scene
    # What a test leaves behind is not for the next one.
    if rig.held():
        await rig.delete_all()
    await rig.settled()


@pytest.fixture(params=["postfix-tcp", "postfix-unix", "sendmail-tcp", "sendmail-unix"])
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """Each MTA with one filter, over each kind of socket."""
    mta, _, port = request.param.partition("-")
    async for scene in on_port(request, mta, port):
        yield scene


@pytest.fixture(params=["postfix", "sendmail"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """Each MTA with two filters in a row."""
    async for scene in on_port(request, request.param, "both"):
        yield scene


@pytest.fixture
async def hasty_postfix(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """Postfix with one filter and no patience."""
    async for scene in on_port(request, "postfix", "hasty"):
        yield scene


@pytest.fixture
async def hasty_sendmail(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """Sendmail with one filter and no patience."""
    async for scene in on_port(request, "sendmail", "hasty"):
        yield scene


@pytest.fixture
async def postfix(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """Postfix with one filter."""
    async for scene in on_port(request, "postfix", "tcp"):
        yield scene


@pytest.fixture
async def sendmail(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """Sendmail with one filter."""
    async for scene in on_port(request, "sendmail", "unix"):
        yield scene


@pytest.fixture(scope="session")
def clamd() -> Iterator[ClamdRig]:
    """clamd, for all tests."""
    yield from running(ClamdRig)


@pytest.fixture(scope="session")
def spamd() -> Iterator[SpamdRig]:
    """spamd, for all tests."""
    yield from running(SpamdRig)


@pytest.fixture(scope="session")
def rspamd() -> Iterator[RspamdRig]:
    """rspamd, for all tests."""
    yield from running(RspamdRig)
