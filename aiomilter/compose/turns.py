"""Callbacks of several filters for one event: each is begun inline, and those that suspend wait together, each in a Task.

A callback needs a current Task from its beginning, which is the one that goes on with it: a ``timeout`` or a ``TaskGroup`` in
it cancels that.  So there is one in reserve.  A callback that does not suspend leaves it there, and costs no Task.
"""

import asyncio
import contextvars
from asyncio.tasks import _enter_task, _leave_task  # documented for those who extend asyncio
from collections.abc import Callable, Collection, Coroutine, Generator, Sequence
from time import monotonic
from types import CoroutineType
from typing import Any, Final, NamedTuple

from aiomilter.wire.replies import CONTINUE

__all__ = ["SAYS_NOTHING", "Outcome", "Runner", "Suspended", "Turn", "first_step"]


class Outcome(NamedTuple):
    """How a callback has ended.

    Args:
        value: What it returned.
        error: What it raised; None if it returned.
    """

    value: Any
    error: BaseException | None = None


class Suspended(NamedTuple):
    """A callback that waits.

    Args:
        coroutine: Its own.
        future: What it has yielded.
    """

    coroutine: Coroutine[Any, Any, Any]
    future: Any


SAYS_NOTHING: Final = Outcome(None)
"""The outcome of most callbacks, one object."""


def first_step(context: contextvars.Context, call: Callable[..., Any], *args: object) -> Outcome | Suspended:
    """Run a callback up to its end or its first suspension, in the current Task.

    Args:
        context: The filter's context variables.
        call: Returns the coroutine.
        args: For that.
    """
    try:
        coroutine = call(*args)
        # The exact type first: what an ABC makes of one costs as much as the callback of a header field.
        if type(coroutine) is not CoroutineType and not isinstance(coroutine, Coroutine):
            coroutine = _awaiting(coroutine)
        return Suspended(coroutine, context.run(coroutine.send, None))
    except StopIteration as ended:
        return SAYS_NOTHING if ended.value is None or ended.value is CONTINUE else Outcome(ended.value)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        return Outcome(None, error)


async def _awaiting(found: Any) -> Any:
    return await found


class _Rest:
    """The rest of a callback that ran up to its first suspension, awaited by a Task."""

    __slots__ = ("_cancelled", "_context", "_coroutine", "_future")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        future: Any,
        context: contextvars.Context,
        cancelled: asyncio.CancelledError | None,
    ) -> None:
        self._coroutine = coroutine
        self._future = future
        self._context = context
        self._cancelled = cancelled

    def __await__(self) -> Generator[Any, Any, Outcome]:
        coroutine, future, within = self._coroutine, self._future, self._context.run
        try:
            if self._cancelled is not None and (future is None or not future.cancel()):
                if future is not None:
                    future._asyncio_future_blocking = False
                future = within(coroutine.throw, self._cancelled)
            while True:
                try:
                    value = yield future  # the very one that the callback has yielded
                except BaseException as error:
                    future = within(coroutine.throw, error)
                else:
                    future = within(coroutine.send, value)
        except StopIteration as ended:
            return Outcome(ended.value)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            return Outcome(None, error)


class _Reserve:
    """A Task that waits for the rest of a callback."""

    __slots__ = ("_rest", "task", "wake")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.wake: asyncio.Future[None] = loop.create_future()
        """Done if it was cancelled while it waited, even if that was taken back."""
        self._rest: tuple[Coroutine[Any, Any, Any], Any, contextvars.Context] | None = None
        self.task: asyncio.Task[Outcome] = loop.create_task(self._run())

    def hand(self, coroutine: Coroutine[Any, Any, Any], future: Any, context: contextvars.Context) -> None:
        """Have it go on with a callback."""
        self._rest = coroutine, future, context
        if not self.wake.done():
            self.wake.set_result(None)

    async def _run(self) -> Outcome:
        cancelled = None
        try:
            await self.wake
        except asyncio.CancelledError as error:
            if self._rest is None:
                raise
            cancelled = error
        assert self._rest is not None
        return await _Rest(*self._rest, cancelled)


class Turn:
    """The callback of one filter for one event.

    Args:
        place: Of the filter in the list.
        begin: Returns the coroutine of the callback.
        context: The filter's context variables.
        after: Places of the filters whose turns have to end before this one begins.
        timeout: Seconds from its begin; None for what the event allows.
    """

    __slots__ = (
        "after",
        "began",
        "began_at",
        "begin",
        "cancelled",
        "context",
        "ends_at",
        "outcome",
        "place",
        "seconds",
        "suspended",
        "task",
        "timeout",
    )

    def __init__(
        self,
        place: int,
        begin: Callable[[], Coroutine[Any, Any, Any]],
        context: contextvars.Context,
        after: Collection[int] = (),
        timeout: float | None = None,
    ) -> None:
        self.place: int = place
        self.begin: Callable[[], Coroutine[Any, Any, Any]] = begin
        self.context: contextvars.Context = context
        self.after: Collection[int] = after
        self.timeout: float | None = timeout
        self.began: bool = False
        self.began_at: float = 0.0
        """By ``time.monotonic``; 0 for one that has ended without a turn of its own."""
        self.ends_at: float = 0.0
        self.seconds: float = 0.0
        """What it has from its begin to :attr:`ends_at`."""
        self.task: asyncio.Task[Outcome] | None = None
        """Goes on with it once it has suspended."""
        self.suspended: Suspended | None = None
        """The coroutine and its future, until the Task has them."""
        self.outcome: Outcome | None = None
        self.cancelled: bool = False
        """Whether we have cancelled it: how it ends does not matter then."""

    def start(self) -> None:
        """Run the callback up to its end or its first suspension, in the Task that goes on with it then."""
        self.began_at = monotonic()
        self.take(first_step(self.context, self.begin))

    def take(self, step: "Outcome | Suspended") -> None:
        """Record how far a callback has come."""
        self.began = True
        if isinstance(step, Outcome):
            self.outcome = step
        else:
            self.suspended = step

    @property
    def runs(self) -> bool:
        """Whether it has suspended, and not ended."""
        return self.task is not None and self.outcome is None and not self.cancelled

    def cancel(self) -> None:
        """Cancel it."""
        self.cancelled = True
        if self.task is not None:
            self.task.cancel()


_NEVER: Final = 1_000_000


class Runner:
    """Runs the callbacks of one connection's filters, of one event at a time."""

    __slots__ = ("_loop", "_reserve", "unfinished")

    def __init__(self) -> None:
        # The one that the connection lives on: to ask for it takes a system call each time (CPython 3.11).
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reserve: _Reserve | None = None
        self.unfinished: list[asyncio.Task[Outcome]] = []
        """Callbacks that were cancelled and have not ended."""

    async def run(
        self,
        turns: Sequence[Turn],
        refuses: Callable[[Turn], bool],
        expired: Callable[[Turn], bool],
        allowed: Callable[[], float],
    ) -> Turn | None:
        """Run turns until the first in the order of the list that refuses is known, and return that; None if none does.

        Args:
            turns: In the order in which they begin: each behind those that it waits for.
            refuses: Called with each turn that has ended: whether its answer decides.
            expired: Called with each whose time is up: the same; it is cancelled after that.
            allowed: Returns how many seconds turns have that set no time of their own; called once one has suspended.
        """
        loop = asyncio.get_running_loop()
        decided: Turn | None = None
        latest = 0.0
        new = [turn for turn in turns if turn.began]
        while True:
            for turn in turns:
                if not turn.began and self._is_due(turn, turns, decided):
                    turn.began = True
                    self.begin(turn)
                    new.append(turn)
                if not new:
                    continue
                for each in new:
                    if each.outcome is None:
                        now = loop.time()
                        each.began_at = each.began_at or monotonic()
                        latest = latest or now + allowed()
                        each.ends_at = latest if each.timeout is None else min(latest, now + each.timeout)
                        each.seconds = each.ends_at - now
                    elif refuses(each) and (decided is None or each.place < decided.place):
                        decided = each
                new.clear()
            limit = _NEVER if decided is None else decided.place
            running = [turn for turn in turns if turn.runs]
            if not running or not any(turn.place < limit for turn in turns if turn.runs or not turn.began):
                self._cancel(running)
                return decided
            await self._wait(running, loop)
            for turn in running:
                late = turn.outcome is None and loop.time() >= turn.ends_at
                if late:
                    refused = expired(turn)
                    self._cancel([turn])
                elif turn.outcome is not None:
                    refused = refuses(turn)
                else:
                    continue
                if refused and (decided is None or turn.place < decided.place):
                    decided = turn

    def _is_due(self, turn: Turn, turns: Sequence[Turn], decided: Turn | None) -> bool:
        """Return whether a turn can begin, and whether it still matters."""
        if any(other.place in turn.after and (other.runs or not other.began) for other in turns if other is not turn):
            return False
        return decided is None or turn.place < decided.place or self._is_needed(turn, turns, decided)

    def _is_needed(self, turn: Turn, turns: Sequence[Turn], decided: Turn) -> bool:
        """Return whether a filter that comes before the one that has decided waits for this one."""
        waiting = [each for each in turns if not each.began and each.place < decided.place]
        seen: list[int] = []
        while waiting:
            each = waiting.pop()
            if turn.place in each.after:
                return True
            found = [other for other in turns if other.place in each.after and other.place not in seen]
            seen += [other.place for other in found]
            waiting += found
        return False

    def enter(self) -> asyncio.Task[Any] | None:
        """Make the Task in reserve the current one, for callbacks that begin; return the one that was, for :meth:`leave`."""
        loop, reserve = self._loop, self._reserve
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        if reserve is None or reserve.wake.done() or reserve.task.cancelling():
            reserve = self._reserve = _Reserve(loop)
        current = asyncio.current_task(loop)
        if current is not None:
            _leave_task(loop, current)
        _enter_task(loop, reserve.task)
        return current

    def leave(self, current: asyncio.Task[Any] | None, turn: Turn | None = None) -> None:
        """Make a Task the current one again.

        Args:
            current: That which :meth:`enter` returned.
            turn: One that has suspended: the Task in reserve goes on with it.
        """
        loop, reserve = self._loop, self._reserve
        assert loop is not None
        assert reserve is not None
        _leave_task(loop, reserve.task)
        if current is not None:
            _enter_task(loop, current)
        if turn is not None and turn.suspended is not None:
            self._reserve = None
            turn.task = reserve.task
            reserve.hand(*turn.suspended, turn.context)
            turn.suspended = None

    def begin(self, turn: Turn) -> None:
        """Run the callback of a turn up to its end or its first suspension."""
        current = self.enter()
        try:
            turn.start()
        finally:
            self.leave(current, turn)

    async def _wait(self, running: Sequence[Turn], loop: asyncio.AbstractEventLoop) -> None:
        """Wait until one has ended, or its time is up."""
        tasks = [turn.task for turn in running if turn.task is not None]
        try:
            timeout = max(0.0, min(turn.ends_at for turn in running) - loop.time())
            await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._cancel(running)
            await self.finish()
            raise
        for turn in running:
            if turn.task is not None and turn.task.done():
                turn.outcome = _outcome(turn.task)

    def _cancel(self, turns: Sequence[Turn]) -> None:
        for turn in turns:
            turn.cancel()
            if turn.task is not None and not turn.task.done():
                self.unfinished.append(turn.task)

    async def finish(self) -> None:
        """Wait for the callbacks that were cancelled."""
        if self.unfinished:
            tasks = [*self.unfinished]
            await asyncio.wait(tasks)
            self.unfinished = [each for each in self.unfinished if each not in tasks]

    def end(self) -> None:
        """Drop the Task in reserve."""
        reserve, self._reserve = self._reserve, None
        if reserve is not None:
            reserve.task.cancel()


def _outcome(task: asyncio.Task[Outcome]) -> Outcome:
    """Return how a callback has ended; its Task was cancelled where it had not begun to go on."""
    return Outcome(None, asyncio.CancelledError()) if task.cancelled() else task.result()
