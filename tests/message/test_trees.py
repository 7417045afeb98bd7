"""Trees of parts are found again, with their types, names and contents; `email` finds the same."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.message import Message
from aiomilter.message.filenames import dangerous
from tests.message.judges import Parts, by_email
from tests.message.made import made
from tests.message.odd import ODD
from tests.message.test_smuggling import STRUCTURES
from tests.message.trees import tree


def found(message: Message) -> Parts:
    return [(part.content_type, part.filename) for part in message.parts()]


@given(seed=st.integers(0, 2**32))
async def test_a_tree_is_found_again(seed: int) -> None:
    built = tree(random.Random(seed))
    message = made(built.octets)
    assert found(message) == built.parts == by_email(built.octets)
    contents = [await part.read() for part in message.parts() if not part.is_multipart]
    assert contents == built.contents
    assert (message.ambiguous, message.complete) == (False, True)


@pytest.mark.slow
def test_no_program_that_email_finds_is_hidden_from_us() -> None:
    seen = 0
    for octets in (*ODD.values(), *STRUCTURES.values()):
        message = made(octets)
        attachments = [*message.attachments()]
        ours = any(map(dangerous, (name for each in attachments for name in each.filenames)))
        theirs = any(dangerous(name.strip().rstrip(". ")) for _, name in by_email(octets))
        seen += theirs
        assert ours or not theirs or (attachments and (message.ambiguous or not message.complete)), octets[:500]
    assert seen > 20
