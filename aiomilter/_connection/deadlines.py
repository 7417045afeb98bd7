"""The deadlines of suspended callbacks, and the PROGRESS packets that extend the wait of the MTA.

A connection has one timer, armed only while a callback waits, and re-armed lazily: it fires at the earliest moment at which
something may be due, looks, and is armed again if anything still waits.  A callback that does not suspend costs nothing here,
and one that does rarely needs a new timer.
"""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from aiomilter._serving.timers import EARLY, LONGEST_DELAY
from aiomilter.options import Options
from aiomilter.wire.constants import STAGE_OF_COMMAND, Command, Stage
from aiomilter.wire.framing import Lookahead

__all__ = ["Clock", "DeadlineActions", "Deadlines"]

_EOM_TIMEOUT: Final = 240.0
_PATIENT_TIMEOUT: Final = 60.0
_TIMEOUT: Final = 8.0
"""Seconds until an answer is sent unless an option sets another time: at end of message, at stages where PROGRESS extends the
wait of the MTA, and at others.  Sendmail waits 10 s for any answer, and 5 min for the one at end of message
(aiomilter/help/protocol.rst, "How long the MTA waits")."""
_GRAIN: Final = 0.05
"""Octets that come within so many seconds count as one arrival: a peer that sends them one by one fills no memory."""


class Clock(Protocol):
    """The time of an event loop."""

    def time(self) -> float:
        """Return the time now, in seconds."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Have a function called after a time."""
        ...


class DeadlineActions(Protocol):
    """The session whose callback waits."""

    def takes_progress(self, stage: Stage) -> bool:
        """Return whether the MTA, which waits for the answer of a stage, takes PROGRESS now."""
        ...

    def send_progress(self) -> None:
        """Send PROGRESS."""
        ...

    def expire(self, limit: str, unanswered: bool) -> None:
        """Answer for the callback and cancel it.

        Args:
            limit: The deadline that was missed, a sentence.
            unanswered: Whether the MTA still waits for the answer of its packet.
        """
        ...

    def stuck(self) -> None:
        """Record that the callback was cancelled and has not ended."""
        ...


class _Awaited(NamedTuple):
    """The answer that the MTA waits for: its stage, and when its packet arrived."""

    stage: Stage
    since: float


class Deadlines:
    """The deadlines of one connection's callbacks; made when the first of them suspends.

    Places in what the MTA has sent are counted in octets, from anywhere but the same until :meth:`caught_up`.

    Args:
        waiting: The session.
        options: Its time-outs.
        clock: The event loop's.
    """

    __slots__ = (
        "_armed_for",
        "_arrivals",
        "_awaited",
        "_behind",
        "_callback",
        "_clock",
        "_ends_at",
        "_limit",
        "_lookahead",
        "_options",
        "_place",
        "_spent",
        "_timer",
        "_told",
        "_total",
        "_turn",
        "_waiting",
        "_waits",
        "_walked_from",
    )

    def __init__(self, waiting: DeadlineActions, options: Options, clock: Clock) -> None:
        self._waiting = waiting
        self._options = options
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0.0
        # Up to which place octets had come by when, oldest first; and the place behind the last of them.
        self._arrivals: list[tuple[int, float]] = []
        self._total = 0
        # The callback that waits or waited last: its name, the place behind its packet, when its time is up and why.
        self._waits = False
        self._callback = ""
        self._place = -1
        self._ends_at = 0.0
        self._limit = ""
        # It was cancelled, and has to end by then.
        self._spent = False
        # No callback waits: the session does, for other connections or for a slow MTA.
        self._turn = False
        # The MTA waits for the answer of the packet at hand, or else of the first behind it that has one.
        self._awaited: _Awaited | None = None
        self._behind: _Awaited | None = None
        # Walks over the packets behind, from a place on that may be before this callback's.
        self._lookahead: Lookahead | None = None
        self._walked_from = 0
        self._told = float("-inf")

    # ------------------------------------------------------------------------------------------------ from the session

    def walker(self, abort: bool, until: frozenset[int], left: int) -> Lookahead | None:
        """Return the lookahead of the callback before, if it looks for the same codes and its find is still ahead.

        Without it, many small packets that wait would all be walked over again for every callback that suspends.
        """
        walk = self._lookahead
        if walk is None or walk.until != until or (Command.ABORT in walk.codes) is not abort:
            return None
        behind = walk.found is not None and self._walked_from + walk.walked <= self._total - left
        return None if behind else walk

    def suspended(
        self, callback: str, seconds: float | None, awaited: Stage | None, lookahead: Lookahead, left: int
    ) -> int | None:
        """Record that a callback waits, and return the code behind it that ends it, if one is there.

        Args:
            callback: Its name.
            seconds: The time it may take; None for a turn of others, which has nothing to answer and cannot be late.
            awaited: The stage whose answer the MTA waits for; None at a no-reply stage.
            lookahead: Walks over the packets behind it.
            left: How many octets are there.
        """
        now = self._clock.time()
        if not self._arrivals:
            self._total = left
            self._arrivals.append((left, now))
        place = self._total - left
        while self._arrivals[0][0] < place:
            del self._arrivals[0]
        self._turn = seconds is None
        if seconds is None:
            self._ends_at, self._limit = float("inf"), ""
        elif (callback, place) != (self._callback, self._place):
            self._ends_at = now + seconds
            self._limit = f"the callback did not end within {seconds:g} s (callback_timeout)"
        elif self._spent:
            # The same callback still, whose time was up: the source of its body closes.
            self._ends_at = now + self._options.cancel_timeout
            self._limit = f"the callback did not end within {self._ends_at - now:g} s (cancel_timeout)"
            awaited = None
        self._callback, self._place = callback, place
        self._waits, self._spent = True, False
        self._awaited = None if awaited is None else _Awaited(awaited, self._arrivals[0][1])
        self._behind = None
        if self._lookahead is not lookahead:
            self._lookahead, self._walked_from = lookahead, place
        found = self._look(b"")
        self._arm_early(now)
        return found

    def arrived(self, data: bytes) -> int | None:
        """Record octets that come while a callback waits; return the code among them that ends the callback, if any."""
        now = self._clock.time()
        self._total += len(data)
        if self._arrivals and now - self._arrivals[-1][1] < _GRAIN:
            now = self._arrivals.pop()[1]
        self._arrivals.append((self._total, now))
        found = self._look(data)
        if self._behind is not None:
            self._arm_early(now)
        return found

    def resumed(self) -> None:
        """Record that the callback has ended; the timer finds out by itself."""
        self._waits = False

    def cancelled(self) -> None:
        """Record that the callback was cancelled."""
        now = self._clock.time()
        self._spent = True
        self._ends_at = now + self._options.cancel_timeout
        self._arm(now, self._ends_at)

    def hurry(self) -> None:
        """Limit the callback that waits to ``cancel_timeout``."""
        now = self._clock.time()
        by = now + self._options.cancel_timeout
        if self._waits and not self._spent and by < self._ends_at:
            self._ends_at = by
            what = f"the callback did not end within {self._options.cancel_timeout:g} s (cancel_timeout)"
            self._limit = f"at the end of the server {what}"
            self._arm(now, by)

    def caught_up(self) -> None:
        """Record that all received octets are handled."""
        self._arrivals.clear()
        self._callback, self._place = "", -1
        self._lookahead = None

    def end(self) -> None:
        """Disarm the timer: the connection is over."""
        self._waits = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ------------------------------------------------------------------------------------------------------- the timer

    def _look(self, data: bytes) -> int | None:
        """Walk on over received packets, and record the first that has an answer."""
        walk = self._lookahead
        if walk is None or self._behind is not None:
            return None
        found = walk.feed(data)
        if found is None and walk.found is not None:
            place = self._walked_from + walk.walked
            since = next(when for end, when in self._arrivals if place <= end)
            self._behind = _Awaited(STAGE_OF_COMMAND[walk.found], since)
        return found

    def _arm(self, now: float, due: float) -> None:
        """Have the timer fire by a moment, unless it does so anyway."""
        if self._timer is not None:
            if self._armed_for <= due:
                return
            self._timer.cancel()
        self._armed_for = due
        self._timer = self._clock.call_later(min(max(0.0, due - now), LONGEST_DELAY), self._fired)

    def _arm_early(self, now: float) -> None:
        """Arm the timer for the earliest moment that could matter, without looking up which MTA it is."""
        due = self._ends_at
        awaited = self._awaited or self._behind
        if awaited is not None:
            limit = self._answer_option(awaited.stage) or _TIMEOUT
            due = min(due, awaited.since + min(limit, self._options.progress_interval or limit))
        self._arm(now, due)

    def _answer_option(self, stage: Stage) -> float | None:
        return (self._options.answer_timeouts or {}).get(stage) or self._options.answer_timeout

    def answer_limit(self, stage: Stage, patient: bool) -> float:
        """Return the seconds from the arrival of a packet in which it is answered.

        Args:
            stage: The packet's.
            patient: Whether PROGRESS extends the wait of the MTA there.
        """
        patient = patient and self._options.progress_interval is not None
        default = _EOM_TIMEOUT if stage is Stage.EOM else _PATIENT_TIMEOUT if patient else _TIMEOUT
        return self._answer_option(stage) or default

    def _fired(self) -> None:
        self._timer = None
        if not self._waits:
            return
        waiting, options = self._waiting, self._options
        now = self._clock.time()
        late = now + EARLY
        awaited = self._awaited or self._behind
        patient = (
            awaited is not None and options.progress_interval is not None and waiting.takes_progress(awaited.stage)
        )
        answer_by, limit = float("inf"), 0.0
        if awaited is not None:
            limit = self.answer_limit(awaited.stage, patient)
            answer_by = float("inf") if self._turn else awaited.since + limit
        if late >= self._ends_at and self._spent:
            self._waits = False
            waiting.stuck()
            return
        if late >= min(self._ends_at, answer_by) and not self._spent:
            unanswered, self._awaited = self._awaited is not None, None
            why = self._limit if late >= self._ends_at else f"the answer was due after {limit:g} s (answer_timeout)"
            waiting.expire(why, unanswered)
            return
        due = self._ends_at if self._spent else min(self._ends_at, answer_by)
        if awaited is not None and patient and options.progress_interval is not None:
            if late >= max(awaited.since, self._told) + options.progress_interval:
                waiting.send_progress()
                self._told = now
            due = min(due, max(awaited.since, self._told) + options.progress_interval)
        self._arm(now, due)
