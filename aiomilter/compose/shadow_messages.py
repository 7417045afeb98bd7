"""One message on its way to shadows: what has happened, and what has become of it."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeAlias

from aiomilter.compose.edits import CheckEdits
from aiomilter.compose.plan import Seat
from aiomilter.context import Transaction
from aiomilter.message import Message
from aiomilter.observe import MOST_SHADOW_NAMES, MessageEnded, ShadowAnswer, ShadowOutcome
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Connect, Mail, Rcpt
from aiomilter.wire.macros import MacroStore

__all__ = ["COUNTED_AT", "EVENT_SIZE", "End", "Event", "Play", "ShadowMessage"]

Tell: TypeAlias = Callable[[Callable[[], MessageEnded | None]], object]
_ADDRESS_LENGTH: Final = 320
_ANSWER_LENGTH: Final = 512
EVENT_SIZE: Final = 128
"""Octets that an event takes besides its content."""
COUNTED_AT: Final = 16_384
"""Octets that may wait before they are counted, and again before they are counted once more."""


class End(NamedTuple):
    """The end of a message, as shadows see it.

    Args:
        actions: What the MTA offers.
        leading_space: Whether values include the space that follows the colon.
        limits: Of edits.
        checks: The edits of the checks whose answers are sent.
        models: Behind how many of the edits the message was what; without one, none has had it.
    """

    actions: int
    leading_space: bool
    limits: tuple[int, int, int]
    checks: Sequence[CheckEdits]
    models: Sequence[tuple[int, Message]]

    def model(self, edits_before: int) -> Message | None:
        """Return the message behind so many edits; None if none has had it."""
        found = [message for place, message in self.models if place <= edits_before]
        return found[-1] if found else None


class Event(NamedTuple):
    """What has happened, with all that a context shows of it.

    Args:
        stage: Where; None for the end of a message without an answer at its end.
        args: Of the callback.
        macros: That held then.
        results: What the filters whose answers are sent had found.
        recipients: How many recipients there were.
        number: Of the event, on its connection.
        size: Octets.
    """

    stage: Stage | None
    args: tuple[Any, ...]
    macros: MacroStore
    results: tuple[object, ...]
    recipients: int
    number: int
    size: int = EVENT_SIZE


class ShadowMessage:
    """One message, for all shadows.

    Args:
        transaction: Of the session, which has begun with it.
        details: Of the message, for records of shadows.
    """

    def __init__(self, transaction: Transaction, details: Any) -> None:
        self.details: Any = details
        self.client: Connect = transaction.client
        self.helo: str = transaction.helo
        self.sender: Mail | None = transaction.sender
        self.recipients: list[Rcpt] = transaction.recipients
        """Those that were accepted so far; the session adds to it."""
        self.found: list[Any] = []
        """The results of shadows."""
        self.plays: list[Play] = []
        self._models: Sequence[tuple[int, Message]] = ()
        self._report: tuple[MessageEnded, Tell] | None = None

    def keep(self, models: Sequence[tuple[int, Message]]) -> None:
        """Keep the octets of messages until all shadows are done."""
        if models and models[-1][1].body_changed and not self._is_done:
            self._models = models
            models[0][1]._spool.share()

    @property
    def _is_done(self) -> bool:
        return all(play.done for play in self.plays)

    def hold(self, event: MessageEnded, tell: Tell) -> MessageEnded | None:
        """Return the report of the message if all shadows are done; if not, it is told once they are."""
        if self._is_done:
            return self._reported(event)
        self._report = event, tell
        return None

    def settle(self) -> None:
        """Tell the report if the last shadow is done."""
        if not self._is_done:
            return
        models, self._models = self._models, ()
        if models:
            models[0][1]._spool.close()
        report, self._report = self._report, None
        if report is not None:
            event, tell = report
            tell(lambda: self._reported(event))

    def _reported(self, event: MessageEnded) -> MessageEnded:
        live = event.answer.verdict
        outcomes = [
            replace(play.outcome, live=live, duration=play.duration) for play in self.plays if play.outcome is not None
        ]
        return replace(event, shadow=tuple(outcomes)) if outcomes else event


class Play:
    """One message for one shadow: the events that it has not seen, and its answer.

    Args:
        message: The message.
        seat: The shadow.
    """

    __slots__ = (
        "began",
        "counted_at",
        "cut",
        "done",
        "duration",
        "edits",
        "events",
        "message",
        "outcome",
        "over",
        "position",
        "recipients",
        "refused",
        "seat",
        "size",
        "taken",
        "waiting",
        "wake",
    )

    def __init__(self, message: ShadowMessage, seat: Seat) -> None:
        self.message: ShadowMessage = message
        self.seat: Seat = seat
        self.events: deque[Event] = deque()
        self.size: int = 0
        """Octets of these."""
        self.counted_at: int = COUNTED_AT
        """With how many the memory limit hears of them."""
        self.wake: asyncio.Future[None] | None = None
        """Waits for the next one."""
        self.taken: bool | None = None
        """Whether the message is in the shadow's share of mail; None if that is not known yet."""
        self.began: bool = False
        """Whether the shadow has begun with it."""
        self.over: bool = False
        """No event follows."""
        self.cut: str = ""
        """Why the shadow is to stop before the end; "" if it is not."""
        self.done: bool = False
        self.position: int = 0
        """The number behind that of the last event that the shadow has seen."""
        self.waiting: list[asyncio.Future[None]] = []
        """Of other shadows, which wait for this one to get on."""
        self.recipients: list[Rcpt] = []
        """All that it was asked about."""
        self.refused: set[int] = set()
        """The places of those among them that it has refused."""
        self.edits: tuple[Sequence[str], int, str | None] = (), 0, None
        self.duration: float = 0.0
        self.outcome: ShadowOutcome | None = None

    def add(self, event: Event) -> None:
        """Add an event."""
        self.events.append(event)
        self.size += event.size
        if self.wake is not None and not self.wake.done():
            self.wake.set_result(None)

    def next(self) -> Event:
        """Return the next event."""
        event = self.events.popleft()
        self.size -= event.size
        return event

    def get_on(self) -> None:
        """Wake those that wait for the shadow to get on."""
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)

    def end(self) -> None:
        """Forget the events."""
        self.done = self.over = True
        self.events.clear()
        self.size = 0
        self.get_on()
        self.message.settle()

    def conclude(self, shadow: ShadowAnswer, callback: str = "", answer: str = "", reason: str = "") -> None:
        """Record what the shadow has answered, and what else would have been different."""
        kept = {id(each) for each in self.message.recipients}
        refused = [each for number, each in enumerate(self.recipients) if number in self.refused and id(each) in kept]
        accepted = [
            each for number, each in enumerate(self.recipients) if number not in self.refused and id(each) not in kept
        ]
        edits, edit_count, quarantine = self.edits
        self.outcome = ShadowOutcome(
            filter=self.seat.name,
            live="abort",
            shadow=shadow,
            callback=callback,
            answer=answer[:_ANSWER_LENGTH],
            reason=reason,
            refused=_addresses(refused),
            refused_count=len(refused),
            accepted=_addresses(accepted),
            accepted_count=len(accepted),
            edits=tuple(edits[:MOST_SHADOW_NAMES]),
            edit_count=edit_count,
            quarantine=quarantine,
        )


def _addresses(recipients: Sequence[Rcpt]) -> tuple[str, ...]:
    return tuple(each.address[:_ADDRESS_LENGTH] for each in recipients[:MOST_SHADOW_NAMES])
