"""The compiled reader of the protocol and the one in Python: whatever comes, there is no difference."""

import os
import sys
from typing import Any

import pytest

from aiomilter.wire import reader
from tests.faults.twins import conversation, difference, played
from tests.wire.readers import compiled

LONG = 10_000_000
"""Conversations, over an hour."""


@pytest.mark.slow
@pytest.mark.parametrize("conversations", [4000, pytest.param(LONG, marks=pytest.mark.long)])
def test_both_readers_bring_the_same_and_leave_the_same(conversations: int) -> None:
    """Events, errors and their texts, and the state after each batch; ``SEED`` begins elsewhere."""
    assert difference(reader.read, compiled(), conversations, int(os.environ.get("SEED", "0"))) is None


def test_a_difference_is_found() -> None:
    """A reader that leaves out what only its state shows is told from one that does not."""

    def careless(wire: Any, most: int) -> list[Any]:
        batch = reader.read(wire, most)
        wire.large = False
        return batch

    assert difference(reader.read, careless, 1000) is not None


def test_a_seed_is_a_conversation() -> None:
    assert played(reader.read, conversation(7)) == played(reader.read, conversation(7))


@pytest.mark.parametrize("name", ["buffer", "macros", "answered", "row"])
def test_the_compiled_reader_refuses_objects_that_it_cannot_read(name: str) -> None:
    """It looks at slots: an object of another class has none there."""
    read = compiled()

    class Other:
        __slots__ = ("buffer", "macros")

    with pytest.raises((AttributeError, TypeError)):
        read(Other())

    wire = conversation_of_one()
    setattr(wire, name, object())
    with pytest.raises(TypeError):
        read(wire)
    delattr(wire, name)
    with pytest.raises(AttributeError):
        read(wire)


def conversation_of_one() -> Any:
    """Return a connection with a packet to read."""
    from aiomilter.wire.connection import Connection

    wire = Connection()
    wire.receive_data(b"\0\0\0\1A")
    return wire


def test_reading_for_ever_takes_no_memory() -> None:
    """Each object that it makes is let go: counts of references are written by hand there."""
    read = compiled()
    for seed in range(300):
        played(read, conversation(seed))
    before = sys.getallocatedblocks()
    for _ in range(3):
        for seed in range(300):
            played(read, conversation(seed))
    assert sys.getallocatedblocks() - before < 300


@pytest.mark.parametrize(("pos", "end"), [(-1, 5), (0, 6), (6, 5), (0, 1 << 70)])
def test_the_compiled_reader_stays_inside_its_octets(pos: int, end: int) -> None:
    """A place that is outside is refused, not read."""
    wire = conversation_of_one()
    wire.buffer.pos, wire.buffer.end = pos, end
    with pytest.raises((IndexError, OverflowError)):
        compiled()(wire)
