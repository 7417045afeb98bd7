"""A filter's side that keeps to the rules of :class:`aiomilter.wire.connection.Connection`, for tests."""

from collections.abc import Iterable, Iterator
from itertools import pairwise, repeat
from typing import Final, TypeAlias

from aiomilter.wire.connection import Connection, Item, OutOfOrder, Repeated
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import (
    Abort,
    BodyChunk,
    Connect,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Header,
    Helo,
    Mail,
    Negotiate,
    Quit,
    QuitNewConnection,
    Rcpt,
    Unknown,
)
from aiomilter.wire.negotiation import Agreement, Wants, agree
from aiomilter.wire.replies import CONTINUE, Reply, Verdict
from aiomilter.wire.state import ends_message, is_legal

Seen: TypeAlias = Item

EVERYTHING: Final = Wants(frozenset(Stage), ends=True)
STAGES: Final = {
    Connect: Stage.CONNECT,
    Helo: Stage.HELO,
    Mail: Stage.MAIL,
    Rcpt: Stage.RCPT,
    Data: Stage.DATA,
    Header: Stage.HEADER,
    EndOfHeaders: Stage.EOH,
    BodyChunk: Stage.BODY,
    EndOfMessage: Stage.EOM,
    Unknown: Stage.UNKNOWN,
}


class Listener:
    """Feeds a connection, does what it asks of its caller, and keeps what it told.

    Args:
        wants: What the filter wants.
        answers: What it answers, one for each event that takes one; where the answer is not legal, CONTINUE.
        agreement: In force from the start, as if it had been negotiated.
    """

    def __init__(
        self,
        wants: Wants = EVERYTHING,
        answers: Iterable[Verdict | Reply] = repeat(CONTINUE),
        agreement: Agreement | None = None,
    ) -> None:
        self.connection = Connection()
        self.wants = wants
        self.answers = iter(answers)
        self.agreement = agreement
        self.seen: list[Seen] = []
        self.decided: list[int] = []  # places in ``seen`` whose answer ended the message
        self.quit = False
        if agreement is not None:
            self.connection.buffer.feed(Sent.OFFER)
            self.connection.next_event()
            self.connection.agreed(agreement)

    def feed(self, data: bytes) -> list[Seen]:
        """Feed octets and return what they told."""
        self.connection.receive_data(data)
        return list(self.take())

    def take(self) -> Iterator[Seen]:
        """Yield what there is to tell."""
        while not self.quit:
            event = self.connection.next_event()
            if event is None:
                return
            self.seen.append(event)
            yield event
            self.handle(event)

    def handle(self, event: Seen) -> None:
        """Say to the connection what became of an event."""
        connection = self.connection
        match event:
            case Negotiate():
                self.agreement = agree(event, self.wants)
                connection.agreed(self.agreement)
            case Abort():
                connection.end_message()
            case QuitNewConnection():
                connection.end_connection()
            case Quit():
                self.quit = True
            case OutOfOrder() | Repeated():
                pass
            case _:
                self.answer(STAGES[type(event)])

    def answer(self, stage: Stage) -> None:
        """Answer the event of a stage."""
        response = next(self.answers, CONTINUE)
        if not is_legal(stage, response):
            response = CONTINUE
        if stage is Stage.UNKNOWN:
            self.connection.macros.forget_unknown()
        elif stage is Stage.EOM:
            self.connection.end_message()
        elif ends_message(stage, response):
            self.connection.decide()
            self.decided.append(len(self.seen) - 1)


def cut(octets: bytes, places: set[int]) -> list[bytes]:
    """Return octets cut at some places."""
    ends = [0, *sorted(place for place in places if place < len(octets)), len(octets)]
    return [octets[start:stop] for start, stop in pairwise(ends)]


class Sent:
    """Packets as the tests send them, made without the code under test."""

    OFFER: Final = bytes.fromhex("0000000d 4f 00000006 000001ff 001fffff")
    CONNECT: Final = bytes.fromhex("0000001b 43 686f73742e6578616d706c6500 34 1267 3139322e302e322e3100")
    HELO: Final = b"\0\0\0\x07Hfirst\0"
    HELO2: Final = b"\0\0\0\x08Hsecond\0"
    MAIL: Final = b"\0\0\0\x09M<a@x.y>\0"
    MAIL2: Final = b"\0\0\0\x09M<b@x.y>\0"
    RCPT: Final = b"\0\0\0\x09R<r@x.y>\0"
    DATA: Final = b"\0\0\0\x01T"
    HEADER: Final = b"\0\0\0\x0cLSubject\0hi\0"
    EOH: Final = b"\0\0\0\x01N"
    BODY: Final = b"\0\0\0\x07Bbody\r\n"
    EOM: Final = b"\0\0\0\x01E"
    UNKNOWN: Final = b"\0\0\0\x05UFOO\0"
    ABORT: Final = b"\0\0\0\x01A"
    QUIT: Final = b"\0\0\0\x01Q"
    QUIT_NC: Final = b"\0\0\0\x01K"

    @staticmethod
    def macro(stage: bytes, *texts: str) -> bytes:
        """Return a MACRO packet."""
        payload = b"D" + stage + b"".join(text.encode() + b"\0" for text in texts)
        return len(payload).to_bytes(4, "big") + payload
