"""Two filters behind one connection of a real MTA: what a handler that is not a Milter has to do."""

import pytest

from tests.interop.client import MESSAGE, RECIPIENTS, accepted
from tests.interop.scene import Scene
from tests.test_two_filters import both

pytestmark = pytest.mark.interop


async def test_both_filters_have_their_say(scene: Scene) -> None:
    """Three messages on one connection: the sender refused, one recipient refused, the edits of both delivered."""
    first, _ = RECIPIENTS
    async with scene.filters(both), scene.connect() as client:
        assert not accepted((await client.send(sender="spam@a.example"))["MAIL"])
        replies = await client.send(sender="alice@a.example", recipients=(first, "nobody@example.test"))
        assert accepted(replies["."])
        assert "5.1.1" in replies["nobody@example.test"]
        assert accepted((await client.send())["."])
    delivered = await scene.deliveries()
    assert len(delivered) == 2  # an MTA delivers several messages in any order
    recipients = {each.sender: set(each.recipients) for each in delivered}
    assert recipients == {"alice@a.example": {first}, "alice@client.test": set(RECIPIENTS)}
    fields = MESSAGE.partition(b"\r\n\r\n")[0].count(b"\r\n") + 1
    for each in delivered:
        assert f"X-Fields: {fields}".encode() in each.head
        assert b"X-Judged: yes" in each.head
