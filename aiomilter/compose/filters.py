"""One filter of a composition on one connection: what it sees, and how far it is with the message."""

import contextvars
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar, cast

from aiomilter.compose.plan import Seat
from aiomilter.context import Context, FilterSource, Source, Transaction
from aiomilter.handler import CALLBACKS, Milter
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Connect, Mail
from aiomilter.wire.replies import ACCEPT, Response

__all__ = ["ComposedFilter"]

_AnyContext = TypeVar("_AnyContext", bound=Context)


class ComposedFilter:
    """One filter.

    Args:
        seat: Its place, and what was written about it.
    """

    __slots__ = (
        "accepted",
        "accepted_client",
        "answer",
        "callbacks",
        "context",
        "failing",
        "finished",
        "held",
        "included",
        "milter",
        "out",
        "ready",
        "seat",
        "seconds",
        "skipped",
        "transaction",
    )

    def __init__(self, seat: Seat) -> None:
        self.seat: Seat = seat
        self.milter: Milter = seat.make()
        self.callbacks: dict[Stage, Callable[..., Any]] = {
            stage: getattr(self.milter, CALLBACKS[stage]) for stage in seat.stages
        }
        self.context: contextvars.Context = contextvars.copy_context()
        """The context variables that its callbacks set."""
        self.transaction: Transaction | None = None
        """What its contexts show."""
        self.accepted_client: bool = False
        """It has nothing more to say about this SMTP client."""
        self.held: Response | None = None
        """What it answered at connect or helo, until it is known whether it is left out."""
        self._begin()

    def _begin(self) -> None:
        self.included: bool | None = True if self.seat.known_at is None else None
        """Whether it is asked about this message; None before its conditions are known."""
        self.seconds: float = 0.0
        """What callbacks of the message took that had a turn."""
        self.accepted: bool = False
        """It has nothing more to say about this message."""
        self.out: bool = False
        """It has failed, and is not asked about this message any more."""
        self.skipped: bool = False
        """It wants no more of the body."""
        self.finished: bool = False
        """It has seen the end of the message, or has decided on it."""
        self.answer: Any = None
        """To the event at hand, where that is not CONTINUE."""
        self.ready: bool = (
            self.included is True
            and not self.accepted_client
            and self.held is None
            and self.seat.member.timeout is None
        )
        """Whether its callback can be called without a further look."""
        self.failing: bool = False
        """Its callback for the event at hand has failed."""

    @property
    def name(self) -> str:
        """Its own."""
        return self.seat.name

    @property
    def source(self) -> FilterSource:
        """Where failures are reported."""
        assert self.transaction is not None
        return cast(FilterSource, self.transaction.source)

    @property
    def is_open(self) -> bool:
        """Whether it may have something to say about this message."""
        return not (self.accepted or self.accepted_client or self.out or self.included is False)

    def connected(self, source: Source, transaction: Transaction) -> None:
        """Take the SMTP client, as it is known so far."""
        if self.transaction is None:
            self.transaction = Transaction(source.for_filter(self.name))
            self.transaction.shadow = transaction.shadow
        self.transaction.client, self.transaction.helo = transaction.client, transaction.helo

    def begin(self, transaction: Transaction) -> None:
        """Begin a message: the recipients are those of all filters, and so are the functions for its end."""
        assert self.transaction is not None
        own = self.transaction
        own.begin(transaction.sender)
        own.client, own.helo = transaction.client, transaction.helo
        own.recipients, own.endings = transaction.recipients, transaction.endings
        self._begin()

    def begin_alone(self, client: Connect, helo: str, sender: Mail | None) -> None:
        """Begin a message that no other filter has a part in."""
        assert self.transaction is not None
        own = self.transaction
        own.begin(sender)
        own.client, own.helo = client, helo
        self._begin()

    def end(self) -> None:
        """Forget the message."""
        if self.transaction is not None:
            self.transaction.end()

    def add_time(self, began: float) -> None:
        """Count the time of a callback that has ended; 0 for one that was not measured."""
        if began:
            seconds = monotonic() - began
            self.seconds += seconds
            if self.transaction is not None:
                self.source.report_time(seconds)

    def ends_in_silence(self, began: float) -> bool:
        """Record that the callback for the end of message has said nothing; return whether that is all: no edit too many.

        Args:
            began: When it did.
        """
        assert self.transaction is not None
        edits = self.transaction.edits
        if edits is not None and edits.overflow:
            return False
        self.finished = True
        self.add_time(began)
        return True

    def new_context(self, kind: type[_AnyContext]) -> _AnyContext:
        """Return a context for one callback."""
        context: _AnyContext = kind.__new__(kind)
        context._transaction = self.transaction
        return context

    def is_left_out(self, context: Context) -> bool:
        """Ask the conditions, if they were not asked for this message, and return whether the filter is left out."""
        if self.included is None:
            member = self.seat.member
            # A condition is asked as few times as possible: it is the user's code.
            self.included = (not member.when or any(each.holds(context) for each in member.when)) and not any(
                each.holds(context) for each in member.unless or ()
            )
            self.ready = self.included and self.held is None and self.seat.member.timeout is None
        return not self.included

    def accepts(self, stage: Stage) -> None:
        """Record ACCEPT."""
        self.ready = False
        if stage in (Stage.CONNECT, Stage.HELO):
            self.accepted_client = True
        else:
            self.accepted = self.finished = True

    def leaves(self) -> None:
        """Record that it has failed, and is not asked about this message any more."""
        self.out, self.ready = True, False

    def holds(self, stage: Stage, response: Response) -> bool:
        """Return whether an answer at connect or helo is held until the conditions are known, and hold it."""
        if not self.seat.holds or stage not in (Stage.CONNECT, Stage.HELO):
            return False
        if self.held in (None, ACCEPT):
            self.held = response
        return True
