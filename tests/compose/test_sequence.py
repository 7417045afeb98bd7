"""A composition gives what its filters give one after the other: the same answers, the same octets."""

import random
import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter import ACCEPT, CONTINUE, DISCARD
from aiomilter.compose import compose
from aiomilter.mta import MessageResult, Session
from aiomilter.testing import session
from aiomilter.wire.modifications import AddRecipient, ChangeSender, DeleteRecipient, Quarantine
from tests.compose.scripted import Script, message, scripts

RECIPIENTS = ("<bob@example.test>", "<carol@example.test>", "<dave@example.test>")


@dataclass
class Fate:
    """What became of a message: answers to recipients, the answer that decided, the message as delivered."""

    refused: dict[str, Any] = field(default_factory=dict)
    answer: Any = CONTINUE
    octets: bytes = b""
    sender: str = "<alice@client.test>"
    recipients: list[str] = field(default_factory=list)
    held: bool = False


async def played(sessions: Sequence[Session], octets: bytes) -> Fate:
    """Play a message as Postfix does: the envelope stage by stage to all filters, then the content to one after the other."""
    fate = Fate()

    async def ask(stage: str, *args: str) -> Any:
        for each in sessions:
            answer = await getattr(each, stage)(*args)
            if answer not in (CONTINUE, ACCEPT):
                return answer
        return CONTINUE

    if (answer := await ask("mail", fate.sender)) is not CONTINUE:
        return Fate(answer=answer)
    for recipient in RECIPIENTS:
        answer = await ask("rcpt", recipient)
        if answer is DISCARD:
            return Fate(fate.refused, answer)
        if answer is CONTINUE:
            fate.recipients.append(recipient)
        else:
            fate.refused[recipient] = answer
    if (answer := await ask("data")) is not CONTINUE:
        return Fate(fate.refused, answer)
    for each in sessions:
        result = await each.message(octets)
        if result.answer not in (CONTINUE, ACCEPT):
            return Fate(fate.refused, result.answer)
        assert result.delivered is not None
        octets = result.delivered.octets
        take_envelope(fate, result)
    fate.octets = re.sub(rb"=_[0-9a-f]{32}", b"BOUNDARY", octets)
    fate.recipients.sort()
    return fate


def take_envelope(fate: Fate, result: MessageResult) -> None:
    for edit in result.edits:
        match edit:
            case ChangeSender(address=address):
                fate.sender = address
            case AddRecipient(address=address):
                fate.recipients.append(address)
            case DeleteRecipient(address=address):
                fate.recipients = [each for each in fate.recipients if each != address]
            case Quarantine():
                fate.held = True


async def in_a_row(filters: Sequence[Script], octets: bytes) -> Fate:
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(session(each.make(), failures="answer")) for each in filters]
        return await played(sessions, octets)


async def composed(filters: Sequence[Script], octets: bytes) -> Fate:
    async with session(compose(*(each.member() for each in filters)), failures="answer") as s:
        return await played([s], octets)


@pytest.mark.slow
@given(st.integers(0, 2**32))
async def test_a_composition_does_what_its_filters_do_in_a_row(seed: int) -> None:
    chance = random.Random(seed)
    filters = scripts(chance, chance.randint(1, 4))
    octets = message(chance)
    assert await composed(filters, octets) == await in_a_row(filters, octets)
