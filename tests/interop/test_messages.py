"""Edits of whole messages on real MTAs: what is delivered is what the filter made, octet for octet."""

import random
from collections.abc import AsyncIterator, Iterator
from itertools import zip_longest

import pytest

from aiomilter import Context
from aiomilter.message import Message, MessageMilter
from tests.interop.rigs.sendmail import Sendmail
from tests.interop.scene import Scene
from tests.message.random_edits import edited, header_section
from tests.programs import need

pytestmark = pytest.mark.interop

MESSAGES = 150
OWN_FIELD = b"X-Site"


class SendmailWithMoreFields(Sendmail):
    """One whose configuration has more ``H`` lines: they change what a position means."""

    def _configuration(self, sink_port: int) -> bytes:
        return super()._configuration(sink_port) + b"\nH" + OWN_FIELD + b": $j\nH?x?X-Never: $j\n"


@pytest.fixture(scope="module")
def other_sendmail_rig() -> Iterator[Sendmail]:
    need(Sendmail.missing())
    rig = SendmailWithMoreFields()
    try:
        rig.start()
        yield rig
    finally:
        rig.stop()


@pytest.fixture(params=["postfix", "sendmail", "other_sendmail"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    rig = request.getfixturevalue(f"{request.param}_rig")
    yield Scene(rig, "tcp")
    await rig.settled()


def fields(octets: bytes) -> list[bytes]:
    """Return the header fields of a message, those of the MTA itself left out."""
    lines: list[bytes] = []
    for line in octets.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        if line[:1] in (b" ", b"\t"):
            lines[-1] += b"\r\n" + line
        else:
            lines.append(line)
    return [line for line in lines if not line.startswith((b"Received:", OWN_FIELD + b":"))]


async def test_header_edits_are_delivered_as_they_were_made(site: Scene) -> None:
    """In the middle too, with any blanks, folds and octets, whatever the configuration of Sendmail has."""
    wanted: list[bytes] = []

    class Editing(MessageMilter):
        async def message(self, ctx: Context, message: Message) -> None:
            chance = random.Random(len(wanted))
            edited(chance, message.headers)
            message.headers.append("X-Number", str(len(wanted)))
            wanted.append(message.headers.octets())

    chance = random.Random(1)
    async with site.filters(Editing), site.connect() as client:
        for _ in range(MESSAGES):
            await client.send(b"".join(header_section(chance)) + b"\r\nHello\r\n")
    delivered = {}
    for delivery in await site.deliveries():
        found = fields(delivery.content)
        delivered[int(next(line for line in found if line.startswith(b"X-Number:"))[9:])] = found

    assert len(delivered) == len(wanted) == MESSAGES
    differences = [
        (number, line, line_wanted)
        for number, found in sorted(delivered.items())
        for line, line_wanted in zip_longest(found, fields(wanted[number] + b"\r\n"))
        if line != line_wanted
    ]
    assert differences[:5] == []
