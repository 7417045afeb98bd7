import asyncio

import pytest

from aiomilter import CONTINUE, Observer
from aiomilter.compose import MailShare
from aiomilter.observe import MessageEnded, ShadowOutcome
from aiomilter.testing import session
from tests.examples.test_examples import load
from tests.examples.test_messages import message

ENVELOPE = ("alice@example.org", ["bob@example.net"])
SHARE = MailShare(0.25)


class Outcomes(Observer):
    def __init__(self) -> None:
        self.found: asyncio.Queue[tuple[ShadowOutcome, ...]] = asyncio.Queue()

    def message_ended(self, event: MessageEnded) -> None:
        self.found.put_nowait(event.shadow)


@pytest.mark.parametrize("helo", ["[192.0.2.1]", "client.example"])
@pytest.mark.parametrize("chosen", [True, False])
async def test_a_part_of_the_mail_is_asked_about_and_all_of_it_passes(helo: str, chosen: bool) -> None:
    networks = [f"198.51.{number}" for number in range(256)]
    network = next(each for each in networks if SHARE.has("helo", f"{each}.0/24") is chosen)
    outcomes = Outcomes()
    async with session(load("canary").milter, observer=outcomes, client=f"{network}.7", helo=helo) as s:
        result = await s.send(message(), *ENVELOPE)
        found = await outcomes.found.get()

    assert result.answer is CONTINUE
    assert [(each.filter, each.shadow) for each in found] == (
        [("helo", "reject" if helo.startswith("[") else "continue")] if chosen else []
    )
