"""What is found in a body does not depend on when it was looked at; a small one is looked at when somebody asks."""

import random
from typing import Any

import pytest

from aiomilter.message import Message, MessageMilter, Part
from aiomilter.message import found as module
from aiomilter.message.found import SMALL, Found
from aiomilter.message.headers import Field
from aiomilter.message.structure import Structure
from aiomilter.testing import session

FIELDS = [
    Field(b"Subject: x\r\n"),
    Field(b"Content-Type: multipart/mixed; boundary=b\r\n"),
    Field(b"Content- type\r\n"),
]
PGP = b"-----BEGIN PGP MESSAGE-----\r\n"
BODY = b"--b\r\n\r\n" + PGP + b"--b\r\nContent-Type: text/html\r\n\r\n<p>" + b"x" * 300 + b"\r\n" + PGP + b"--b--\r\n"
TEXT = b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"


def cut(octets: bytes, chance: random.Random) -> list[bytes]:
    edges = sorted(chance.randrange(len(octets)) for _ in range(chance.randrange(6)))
    return [octets[start:stop] for start, stop in zip([0, *edges], [*edges, len(octets)], strict=True)]


def shown(found: Found) -> tuple[list[tuple[str, int, int]], list[int]]:
    return [(node.type.main, node.body, node.stop) for node in found.structure.root.walk()], found.pgp


@pytest.mark.parametrize("seed", range(20))
def test_it_does_not_matter_when_a_body_is_looked_at(seed: int) -> None:
    pieces = cut(BODY, random.Random(seed))
    later, now = Found(FIELDS), Found(FIELDS)
    later.keep(pieces)
    for piece in pieces:
        now.take((piece,))
    places = [BODY.find(PGP), BODY.rfind(PGP)]
    assert (later.pgp, now.pgp) == (places, places)  # asked for before the parts
    assert shown(later) == shown(now)
    assert [kind for kind, _, _ in shown(now)[0]] == ["multipart/mixed", "text/plain", "text/html"]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Structure]:
    """The structures that were made."""
    found: list[Structure] = []

    class Kept(Structure):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            found.append(self)

    monkeypatch.setattr(module, "Structure", Kept)
    return found


class Reader(MessageMilter):
    """Reads all octets, and keeps the message for longer than it may be read."""

    kept: list[Message]

    async def message(self, ctx: Any, message: Message) -> None:
        assert b"".join([octets async for octets in message.octets()]).endswith(b"--b--\r\n")
        message.headers.prepend("X-Size", str(message.size))
        self.kept = [message]


@pytest.mark.parametrize(("more", "structures"), [(0, 0), (SMALL, 1)], ids=["small", "large"])
async def test_a_small_body_is_not_looked_at_unless_somebody_asks(
    more: int, structures: int, made: list[Structure]
) -> None:
    milter = Reader()
    async with session(lambda: milter) as s:
        result = await s.send(TEXT + b"p" * more + b"\r\n" + BODY, "<alice@client.test>", ["<bob@example.test>"])
    assert len(result.edits) == 1
    assert len(made) == structures


async def test_the_parts_are_known_after_the_message_has_ended() -> None:
    milter = Reader()
    async with session(lambda: milter) as s:
        await s.send(TEXT + BODY, "<alice@client.test>", ["<bob@example.test>"])
    (message,) = milter.kept
    assert [part.content_type for part in message.parts()] == ["multipart/mixed", "text/plain", "text/html"]
    html: Part = [*message.parts()][2]
    with pytest.raises(ValueError, match="found one that has"):
        await html.read()


async def test_a_body_that_goes_to_a_file_is_looked_at_before() -> None:
    milter = Reader()
    milter.memory_size = 10
    async with session(lambda: milter) as s:
        await s.send(TEXT + BODY, "<alice@client.test>", ["<bob@example.test>"])
    assert len([*milter.kept[0].parts()]) == 3
