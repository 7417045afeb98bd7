"""The Task that a connection's batches of packets run as, and go on in once a callback has suspended.

A batch begins inline, where its octets came, which is cheaper than to wake a Task for it (``benchmarks gates``).  But a
callback needs a current Task from its beginning: the one that continues it after a suspension.  So each connection has a
Task in reserve.
"""

import asyncio
import contextvars
import sys
from collections.abc import Generator
from typing import Any, Final, Protocol, TypeAlias

from aiomilter._connection.driver import MORE

__all__ = ["ConnectionTask", "Continuation", "Run", "TaskOwner"]

Run: TypeAlias = Generator[Any, Any, None]
_TAKES_BACK: Final = sys.version_info >= (3, 13)
"""Whether ``uncancel()`` takes back a cancellation that was not yet raised."""


class TaskOwner(Protocol):
    """The connection that a Task belongs to."""

    context: contextvars.Context
    """Its callbacks run in it."""

    def suspended(self) -> None:
        """Record a suspension, before it."""

    def done(self) -> None:
        """Record that a batch that had suspended has ended."""

    def failed(self, error: BaseException) -> None:
        """Record that a batch has ended by a bug of ours, or by an exception that must not be caught."""


class Continuation:
    """The rest of a batch that ran inline up to its first suspension on ``future``, awaited by a Task.

    Args:
        connection: Notified before each suspension; the batch runs in its context.
        run: The coroutine.
        future: The future that it has yielded.
        cancelled: The cancellation that came before the Task could take over, if one did.
    """

    __slots__ = ("_cancelled", "_future", "_run", "connection")

    def __init__(self, connection: TaskOwner, run: Run, future: Any, cancelled: asyncio.CancelledError | None) -> None:
        self.connection = connection
        self._run = run
        self._future = future
        self._cancelled = cancelled

    def __await__(self) -> Generator[Any, Any, None]:
        run, future, within = self._run, self._future, self.connection.context.run
        try:
            if self._cancelled is not None and (future is None or not future.cancel()):
                # There is nothing to wait for, a bare yield as of asyncio.sleep(0) or a future that is done: raise it
                # in the coroutine now.
                if future is not None:
                    future._asyncio_future_blocking = False
                future = within(run.throw, self._cancelled)
                if future is MORE:
                    return
                self.connection.suspended()
            while True:
                try:
                    # The very future that the coroutine has yielded, its blocking mark still set.
                    value = yield future
                except BaseException as error:
                    future = within(run.throw, error)
                else:
                    future = within(run.send, value)
                if future is MORE:
                    return
                self.connection.suspended()
        except StopIteration:
            return


class ConnectionTask:
    """A Task that waits for something to go on with, and another when it was cancelled.

    Args:
        loop: The event loop.
        owner: The connection.
    """

    __slots__ = ("_handed", "_loop", "_owner", "task", "wake")

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: TaskOwner) -> None:
        self._loop = loop
        self._owner = owner
        # The batch to go on with.
        self._handed: tuple[Run, Any] | None = None
        self.wake: asyncio.Future[None] | None = None
        """Wakes the Task; done if the Task was cancelled while it waited, even if that was taken back."""
        self.task: asyncio.Task[None] | None = None
        self.begin()

    def begin(self, cancelled: asyncio.CancelledError | None = None) -> "asyncio.Task[None]":
        """Make a new Task: the first one, or another after a cancellation from outside."""
        self.wake = self._loop.create_future()
        self.task = task = self._loop.create_task(self._keep(cancelled))
        task.add_done_callback(self._task_ended)
        return task

    def hand(self, run: Run, future: Any) -> None:
        """Have the Task go on with a batch."""
        self._handed = (run, future)
        if self.wake is not None and not self.wake.done():
            self.wake.set_result(None)

    def end(self) -> None:
        """Have the Task end: there is nothing more to come."""
        task, self.task = self.task, None
        wake, self.wake = self.wake, None
        if wake is not None and not wake.done():
            wake.set_result(None)
        elif task is not None:
            task.cancel()

    def _task_ended(self, task: "asyncio.Task[None]") -> None:
        """Have another Task go on with a batch that this one was given but, cancelled before it first ran, never saw."""
        if self.task is task:
            self.task = None
            if self._handed is not None:
                self.begin(asyncio.CancelledError())

    async def _keep(self, cancelled: asyncio.CancelledError | None) -> None:
        """Go on with batches that have suspended, for as long as the connection lives.

        Code that is not ours may cancel this Task: a callback that cancels itself, or the end of the event loop.  Then the
        batch at hand is finished, the Task ends, and the next batch gets another Task.
        """
        task = asyncio.current_task()
        assert task is not None
        while self.wake is not None and not task.cancelling():
            try:
                if self._handed is None:
                    await self.wake
            except asyncio.CancelledError as error:
                if self.task is not task:
                    break
                cancelled = None if _TAKES_BACK and not task.cancelling() else error
            if self._handed is None:
                break
            (run, future), self._handed = self._handed, None
            self.wake = self._loop.create_future()
            try:
                await Continuation(self._owner, run, future, cancelled)
            except Exception as error:
                self._owner.failed(error)
            except BaseException as error:
                self._owner.failed(error)
                raise
            else:
                self._owner.done()
            cancelled = None
        if self.task is task:
            self.task = None
