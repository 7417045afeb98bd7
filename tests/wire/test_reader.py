"""Reading many events at once brings what reading one by one does, to whoever handles them."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.exceptions import RemoteProtocolError
from aiomilter.wire.connection import Connection, Item, TooMany
from aiomilter.wire.constants import Command, Stage
from aiomilter.wire.events import BodyChunk, Data, EndOfHeaders, EndOfMessage, Header, Mail, Rcpt
from aiomilter.wire.negotiation import Wants
from aiomilter.wire.reader import LARGE, MOST
from aiomilter.wire.replies import CONTINUE, Reply, Verdict
from aiomilter.wire.state import LIBMILTER, NATIVE, Rules
from tests.wire.driver import Listener, Sent, cut
from tests.wire.readers import read
from tests.wire.strategies import CONVERSATIONS, RESPONSES, WANTS

pytestmark = pytest.mark.usefixtures("each_reader")
SILENT = Wants(frozenset(Stage), no_reply=frozenset(Stage) - {Stage.EOM, Stage.UNKNOWN})
"""Wants every stage, and answers the end alone."""
Step = tuple[Item, tuple[Any, ...], int]
"""An event, the macros that hold at it, and the octets that wait behind it."""


class OneByOne(Listener):
    """Handles events as a session does: a stage without an answer decides nothing."""

    def __init__(self, wants: Wants, answers: list[Verdict | Reply], connection: Connection) -> None:
        super().__init__(wants, itertools.cycle(answers) if answers else itertools.repeat(CONTINUE))
        self.connection = connection
        self.steps: list[Step] = []

    def handle(self, event: Item) -> None:
        """Keep what holds at an event, then say what became of it."""
        connection = self.connection
        if isinstance(event, TooMany):
            self.steps.append((event, (), connection.waiting))
            return
        macros = tuple(connection.macros.value(name) for name in ("i", "v", "{a}", "_", "j", "{auth_authen}"))
        self.steps.append((event, macros, connection.waiting))
        super().handle(event)

    def answer(self, stage: Stage) -> None:
        """Answer a stage that takes an answer; the end of a message ends it in any case."""
        if stage is Stage.EOM or stage is Stage.UNKNOWN or int(stage.command) in self.connection.answered:
            super().answer(stage)


class InBatches(OneByOne):
    """The same, for what :func:`read` brings."""

    most = MOST

    def take(self) -> Iterator[Item]:
        """Yield what there is to tell."""
        wire = self.connection
        while not self.quit and (batch := read(wire, self.most)):
            assert (
                sum(len(item) if isinstance(item, list) else not isinstance(item, bytes) for item in batch) <= self.most
            )
            wire.events = iter(batch)
            for item in wire.events:
                if isinstance(item, bytes):
                    wire.macros.keep(item)
                    continue
                wire.fields = iter(item) if isinstance(item, list) else iter([item])
                for event in wire.fields:
                    self.seen.append(event)
                    yield event
                    self.handle(event)
                    if wire.last_of_body:
                        batch.append(wire.end_of_message())


def told(
    kind: type[OneByOne], pieces: list[bytes], connection: Connection, wants: Wants, answers: list[Verdict | Reply]
) -> tuple[list[Step], Any]:
    """Return what each event brought, and what was wrong with the octets."""
    listener = kind(wants, answers, connection)
    try:
        for piece in pieces:
            listener.feed(piece)
    except RemoteProtocolError as error:
        return listener.steps, str(error)
    return listener.steps, listener.connection.waiting


@pytest.mark.parametrize("rules", [NATIVE, LIBMILTER], ids=["native", "libmilter"])
@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    octets=CONVERSATIONS,
    places=st.sets(st.integers(1, 400), max_size=8),
    wants=WANTS | st.just(SILENT),
    answers=st.lists(RESPONSES, max_size=5),
    most=st.sampled_from([1, 2, 3, 5, MOST]),
    limits=st.sampled_from([(1 << 30, 1 << 30), (2, 1 << 30), (3, 30), (0, 1 << 30)]),
)
def test_a_batch_is_what_single_events_are(
    rules: Rules,
    octets: bytes,
    places: set[int],
    wants: Wants,
    answers: list[Verdict | Reply],
    most: int,
    limits: tuple[int, int],
) -> None:
    """Events, the macros that hold at each, what waits behind each, and the error, for any conversation."""

    class Batches(InBatches):
        pass

    Batches.most = most
    pieces = cut(octets, places)
    single = told(OneByOne, pieces, Connection(1 << 20, rules, *limits), wants, answers)
    assert told(Batches, pieces, Connection(1 << 20, rules, *limits), wants, answers) == single


def silent(*limits: int) -> InBatches:
    """Return what has negotiated that nothing but the end of a message is answered."""
    listener = InBatches(SILENT, [], Connection(1 << 20, NATIVE, *limits))
    listener.feed(Sent.OFFER + Sent.CONNECT + Sent.HELO)
    return listener


def framed(code: Command, payload: bytes = b"") -> bytes:
    """Return a packet."""
    return (len(payload) + 1).to_bytes(4, "big") + bytes([code]) + payload


def batches(listener: InBatches, octets: bytes) -> list[list[Any]]:
    """Return the batches that octets bring."""
    listener.connection.receive_data(octets)
    return list(iter(lambda: read(listener.connection), []))


ID, EOH_ID = framed(Command.MACRO, b"Li\0x\0"), framed(Command.MACRO, b"Ni\0x\0")
FIELD = framed(Command.HEADER, b"a\0b\0")


def test_a_message_comes_in_few_batches() -> None:
    """All that needs no answer, with the same macros before each field, is one."""
    sent = Sent.MAIL + Sent.RCPT + Sent.DATA + (ID + FIELD) * 3 + EOH_ID + Sent.EOH + Sent.BODY + Sent.EOM
    assert batches(silent(), sent) == [
        [Mail("<a@x.y>")],
        [Rcpt("<r@x.y>")],
        [Data(), ID, [Header("a", "b")] * 3, EOH_ID, EndOfHeaders(), BodyChunk(b"body\r\n")],
        [EndOfMessage()],
    ]


def test_other_macros_before_a_field_stand_before_it() -> None:
    """A callback sees those of its own field, none that come later."""
    other = framed(Command.MACRO, b"Li\0y\0")
    found = batches(silent(), Sent.MAIL + Sent.RCPT + Sent.DATA + ID + FIELD + other + FIELD + FIELD)
    assert found[2:] == [[Data(), ID, [Header("a", "b")], other, [Header("a", "b")], [Header("a", "b")]]]


def test_a_batch_is_bounded() -> None:
    """What is read ahead stays small, whatever comes in one read."""
    found = batches(silent(), Sent.MAIL + Sent.RCPT + FIELD * 200)
    assert [len(fields) for batch in found[2:] for fields in batch] == [64, 64, 64, 8]


def test_macros_among_events_count_in_the_bound() -> None:
    """Each is small, but a peer can send thousands in one read."""
    other = framed(Command.MACRO, b"Li\0y\0")
    found = batches(silent(), Sent.MAIL + Sent.RCPT + FIELD + (ID + other) * 1000)
    assert [len(batch) for batch in found[2:]] == [MOST - 1]


def test_a_field_above_the_limits_is_told_once_it_is_its_turn() -> None:
    """The fields before it come first; each above the limit is told of."""
    found = batches(silent(2, 1 << 20), Sent.MAIL + Sent.RCPT + (ID + FIELD) * 4)
    assert found[2:] == [[[Header("a", "b")] * 2], [TooMany(Command.HEADER)], [TooMany(Command.HEADER)]]
    found = batches(silent(100, 2 * (len(FIELD) - 4)), Sent.MAIL + Sent.RCPT + (ID + FIELD) * 3)
    assert found[2:] == [[[Header("a", "b")], [Header("a", "b")]], [TooMany(Command.HEADER)]]


def test_what_comes_before_a_broken_packet_is_told_first() -> None:
    """The error is raised when it is the packet's turn."""
    listener = silent()
    listener.connection.receive_data(Sent.MAIL + Sent.RCPT + FIELD + FIELD + framed(Command.HEADER, b"no end"))
    assert [read(listener.connection) for _ in range(3)][2] == [[Header("a", "b")] * 2]
    with pytest.raises(RemoteProtocolError, match="HEADER packet"):
        read(listener.connection)


@pytest.mark.parametrize(
    ("packet", "large"),
    [
        (framed(Command.MACRO, b"Mi\0" + b"x" * LARGE + b"\0"), True),
        (framed(Command.HELO, b"x" * LARGE + b"\0"), True),
        (framed(Command.HELO, b"x\0"), False),
        (Sent.MAIL + Sent.RCPT + framed(Command.HEADER, b"a\0" + b"x" * LARGE + b"\0"), False),
        (Sent.MAIL + Sent.RCPT + Sent.EOH + framed(Command.BODY, b"x" * LARGE), False),
    ],
    ids=["macros", "helo", "small", "header", "body"],
)
def test_large_packets_that_are_not_content_are_noticed(packet: bytes, large: bool) -> None:
    """What is kept of them has to be counted from there on."""
    listener = silent()
    listener.feed(packet)
    assert listener.connection.large is large


def test_macros_behind_the_last_event_of_a_batch_wait() -> None:
    """They are octets that nobody has handled, also where they change nothing."""
    listener = silent()
    listener.connection.receive_data(Sent.MAIL + Sent.RCPT + ID + FIELD + ID)
    assert [read(listener.connection) for _ in range(3)][2] == [[Header("a", "b")]]
    assert listener.connection.waiting == len(ID)
    assert read(listener.connection) == []
    assert listener.connection.waiting == 0
