"""What goes wrong in a filter while ``check`` plays to it."""

import contextlib
import traceback
from collections.abc import Iterator
from types import FrameType

from aiomilter._cli.play import Failure, Play
from aiomilter._cli.target import own_traceback
from aiomilter._connection.stack import connection_of
from aiomilter._serving.stall import StallWatch, watch
from aiomilter.handler import STAGE_OF
from aiomilter.observe import (
    AnswerSent,
    CallbackFailed,
    CallbackTimedOut,
    InternalError,
    Limit,
    LimitReached,
    LoopStalled,
    Misuse,
    Observer,
    PeerError,
    TemporaryFailed,
    Where,
)

__all__ = ["Watch"]


class Watch(Observer):
    """Adds failures and notes to the message that is played.

    Args:
        play: Takes them.
    """

    def __init__(self, play: Play) -> None:
        self._play = play
        self._stall: Failure | None = None
        self._composed = False

    @property
    def debug(self) -> bool:
        """True: which filter answers is in the events of answers."""
        return True

    def answer_sent(self, event: AnswerSent) -> None:
        """Record which filter has answered; an answer of none in particular is that of a composition."""
        where = event.where
        self._composed = self._composed or not where.filter
        stage = STAGE_OF.get(where.callback)
        if self._composed and stage is not None and event.answer not in ("continue", "progress"):
            self._play.answered[stage] = where.filter

    def callback_failed(self, event: CallbackFailed) -> None:
        """Add a failure."""
        error = event.error
        shown = f"{type(error).__name__}: {error}" if error is not None else event.what
        self._add(event.where, shown, own_traceback(error) if error is not None else "", fatal=True)

    def internal_error(self, event: InternalError) -> None:
        """Add a failure; since it is ours, with all lines of the traceback."""
        error = event.error
        shown = f"{event.what}: {type(error).__name__}: {error}" if error is not None else event.what
        lines = "".join(traceback.format_exception(error)) if error is not None else ""
        self._add(event.where, shown, lines, fatal=True)

    def callback_timed_out(self, event: CallbackTimedOut) -> None:
        """Add a failure."""
        self._add(event.where, event.what, fatal=True)

    def limit_reached(self, event: LimitReached) -> None:
        """Add a note; too many edits fail the message."""
        self._add(event.where, event.what, fatal=event.limit is Limit.EDITS)

    def temporary_failed(self, event: TemporaryFailed) -> None:
        """Add a note."""
        self._add(event.where, event.what)

    def misuse(self, event: Misuse) -> None:
        """Add a note."""
        self._add(event.where, event.what)

    def peer_error(self, event: PeerError) -> None:
        """Add a note."""
        self._add(event.where, event.what)

    def loop_stalled(self, event: LoopStalled) -> None:
        """Add a note while the event loop is blocked, by a thread that looks at it; complete it once it is over."""
        what = f"blocked the event loop for {event.duration:.2f} s, and with it every other session"
        if not event.over:
            self._stall = Failure(event.where.callback, what, event.stack, fatal=False)
            self._play.add_failure(self._stall)
        elif self._stall is not None:
            self._stall.what, self._stall = what, None

    @contextlib.contextmanager
    def of_stalls(self, timeout: float | None) -> Iterator[None]:
        """Hear of stalls of the running event loop, of more than so many seconds; None for of none."""
        end = None if timeout is None else watch(StallWatch(timeout, _callback_of, self.loop_stalled))
        try:
            yield
        finally:
            if end is not None:
                end()

    def _add(self, where: Where, what: str, lines: str = "", *, fatal: bool = False) -> None:
        by = f"{where.filter}, " if self._composed and where.filter else ""
        self._play.add_failure(Failure(f"{by}{where.callback}" if where.callback else where.filter, what, lines, fatal))


def _callback_of(frame: FrameType) -> Where | None:
    """Return where a frame runs a callback, if it does."""
    connection = connection_of(frame)
    return connection.peek_where() if connection is not None else None
