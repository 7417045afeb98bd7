"""A message while it arrives: its fields are the octets that came, however they came."""

import pytest

from aiomilter import Context
from aiomilter.compose import compose
from aiomilter.message import Message, MessageMilter
from aiomilter.message.envelope import Envelope
from aiomilter.message.incoming import Incoming
from aiomilter.testing import session
from aiomilter.wire.events import Header

ODD = [
    Header("Subject", "hello"),
    Header("X-None", "", ""),
    Header("X-Blank", "", " "),
    Header("X-Tab", "\tvalue", ""),
    Header("X-Folded", "one\n two\n\tthree"),
    Header("X-Line-End", "one\ntwo"),
    Header("X-Ends", "one\n"),
    Header("X-CR", "one\rtwo\r"),
    Header("X-8", "caf\u00e9 \udce9\udc80"),
    Header("X-Name\udcff", "v"),
    Header(" ", ""),
]


def incoming() -> Incoming:
    return Incoming(10_000, 10_000, None, keeps=True)


@pytest.mark.parametrize("header", ODD, ids=lambda header: repr(header.name))
def test_a_field_has_the_octets_that_came(header: Header) -> None:
    found = incoming()
    found.keep_field(header)

    assert [field.raw for field in found.headers] == [header.raw]


def test_fields_that_come_together_are_those_that_come_one_by_one() -> None:
    together, one_by_one = incoming(), incoming()
    together.keep_fields(ODD)
    for header in ODD:
        one_by_one.add_field(header.raw)

    assert [*together.headers] == [*one_by_one.headers]
    assert together.size == one_by_one.size == 2 + sum(len(header.raw) for header in ODD)


def test_fields_count_for_the_size_before_they_are_used() -> None:
    found = Incoming(100, 100, None, keeps=True)
    found.keep_field(Header("X", "a" * 200))

    assert found.too_large


async def test_a_message_that_has_ended_is_not_read_on() -> None:
    found = Incoming(10**6, 10**6, None, keeps=True)
    found.keep_fields(ODD)
    for _ in range(3):
        await found.take(b"a" * 20_000)
    octets = found.message(Envelope(None, ())).octets()
    assert (await anext(octets)).startswith(b"Subject: hello\r\n")
    assert await anext(octets) == b"a" * 20_000
    found.close()

    with pytest.raises(ValueError, match="expected a message that has not ended"):
        await anext(octets)


class Reads(MessageMilter):
    def __init__(self) -> None:
        self.seen: list[bytes] = []

    async def message(self, ctx: Context, message: Message) -> None:
        self.seen += [octets async for octets in message.octets()]
        message.headers.append("X-Seen", "1")


async def test_a_whole_message_is_the_same_alone_and_composed() -> None:
    octets = b"From: a@x.example\r\nX-Folded: one\r\n two\r\nX-None:\r\nX-8: \xe9\r\n\r\nHello\r\n"
    for name in ("alone", "composed"):
        milter = Reads()
        async with session((lambda made=milter: made) if name == "alone" else compose(lambda made=milter: made)) as s:
            result = await s.send(octets, "alice@example.org", ["bob@example.net"])

        assert b"".join(milter.seen) == octets
        assert result.octets == octets.replace(b"\r\n\r\n", b"\r\nX-Seen: 1\r\n\r\n")
