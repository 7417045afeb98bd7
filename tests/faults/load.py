"""Twenty SMTP clients at once, and the books: what was sent, and what has become of it."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.faults.faulty import number_of, struck
from tests.interop.client import accepted, connect
from tests.interop.rigs.mta import Rig
from tests.interop.rigs.sink import Delivery
from tests.listening import listening_ports
from tests.patience import PATIENCE

__all__ = ["SESSIONS", "Books", "Load"]

SESSIONS: Final = 20
"""SMTP sessions at once."""
_RECIPIENT: Final = "bob@example.test"


class Load:
    """Messages, each tried once, and the replies they got.

    Args:
        rig: The MTA.
        port: Where it is asked.
        per_connection: Messages of an SMTP connection.
        lines: The longest has fewer lines than this.
    """

    def __init__(self, rig: Rig, port: int, *, per_connection: int = 3, lines: int = 900) -> None:
        self.replies: dict[int, dict[str, str]] = {}
        self.messages = 0
        self._rig = rig
        self._port = port
        self._per_connection = per_connection
        self._lines = lines
        self._ended = asyncio.Event()

    async def run(self, numbers: Sequence[int], sessions: int = SESSIONS) -> None:
        """Send messages in sessions at once; return once each has its last reply."""
        self.messages = len(numbers)
        await asyncio.gather(*(self._session(numbers[start::sessions]) for start in range(sessions)))

    async def reached(self, part: float) -> None:
        """Wait until this part of the messages has its last reply."""
        while len(self.replies) < self.messages * part:
            self._ended.clear()
            await self._ended.wait()

    async def _session(self, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), self._per_connection):
            waiting = list(numbers[start : start + self._per_connection])
            while waiting:
                await self._connection(waiting)

    async def _connection(self, waiting: list[int]) -> None:
        """Send as many messages as the MTA stays for."""
        try:
            async with connect(self._port) as client:
                while waiting and client.greeting:
                    replies = {"greeting": client.greeting}
                    if accepted(client.greeting):
                        replies = await client.send(*_message(waiting[0], self._lines))
                    self.replies[waiting.pop(0)] = replies
                    self._ended.set()
                    if "" in replies.values():
                        return
                    if "." not in replies:
                        await client.say("RSET")
                if client.greeting:
                    return
        except OSError:
            pass
        # The MTA is away; a message that it has not heard of has not been tried.
        await self._rig.until(lambda: self._port in listening_ports(), PATIENCE, "MTA")


def _message(number: int, lines: int) -> tuple[bytes, str, list[str]]:
    """Return content, sender and recipients."""
    head = (
        f"From: n{number}@client.test\r\nTo: {_RECIPIENT}\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n"
        f"Message-ID: <{number}@client.test>\r\nSubject: message {number}\r\n\r\n"
    )
    return (
        head.encode() + b"line of %d\r\n" % number * (1 + number * 37 % lines),
        f"n{number}@client.test",
        [_RECIPIENT],
    )


@dataclass
class Books:
    """What has become of the messages of a load.

    Args:
        replies: The last reply to each; empty if the MTA went away before it gave one.
        delivered: How often each has arrived without a release.
        arrived: How often each has arrived after what was held had been released.
        held: How many were held.
        marks: What the filter wrote into each.
    """

    replies: dict[int, str]
    delivered: Counter[int] = field(default_factory=Counter)
    arrived: Counter[int] = field(default_factory=Counter)
    held: int = 0
    marks: dict[int, list[str]] = field(default_factory=dict)

    @classmethod
    async def close(cls, rig: Rig, load: Load, earlier: int) -> "Books":
        """Wait until the MTA has delivered all it is going to, then count.

        Args:
            rig: The MTA.
            load: What was sent.
            earlier: How many messages had arrived before.
        """
        await rig.settled()
        books = cls({number: list(replies.values())[-1] for number, replies in load.replies.items()})
        books.delivered = Counter(number_of(delivery.sender) for delivery in rig.deliveries[earlier:])
        books.held = len(rig.held())
        if books.held:
            await rig.release()
            await rig.until(lambda: not rig.held(), PATIENCE, "release")
            await rig.settled()
        arrived: Sequence[Delivery] = rig.deliveries[earlier:]
        books.arrived = Counter(number_of(delivery.sender) for delivery in arrived)
        books.marks = {number_of(delivery.sender): delivery.values("X-Filter") for delivery in arrived}
        return books

    def by(self, *digits: str) -> set[int]:
        """The messages whose last reply begins with one of these digits."""
        return {number for number, reply in self.replies.items() if reply[:1] in digits}

    @property
    def unanswered(self) -> set[int]:
        """The messages whose client does not know."""
        return self.by("")

    @property
    def struck(self) -> set[int]:
        """The messages to which the fault was to happen."""
        return {number for number in self.replies if struck(number)}

    def balance(self, copies: int = 1) -> None:
        """Fail unless each accepted message was delivered or held exactly once, and no other at all.

        One without an answer may have arrived or not: that its client has to send it again is SMTP's rule, RFC 5321
        section 4.1.1.4, and nobody's loss.

        Args:
            copies: How often one may arrive: an MTA that is killed after a delivery, and before it has noted that, delivers
                again when it is back (RFC 5321 section 6.1).
        """
        unknown = self.unanswered
        assert {number for number in self.arrived if number not in unknown} == self.by("2")
        assert all(1 <= count <= copies for count in self.arrived.values())
        assert sum(self.delivered.values()) + self.held == sum(self.arrived.values())
