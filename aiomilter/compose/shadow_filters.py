"""A shadow: a filter that sees all of a connection in a Task of its own, and whose answers are noted, never sent."""

import asyncio
from collections import deque
from contextvars import copy_context
from typing import Any, Final

from aiomilter._shadow import IN_SHADOW
from aiomilter.compose.plan import Seat
from aiomilter.compose.shadow_asking import DroppedError, ShadowAsking, ShadowSource, StoppedError
from aiomilter.compose.shadow_messages import COUNTED_AT, Event, Play

__all__ = ["ShadowFilter", "ShadowPool"]

_LIMIT: Final = 30.0
"""Seconds that a callback may take, unless its member says how many."""
_LIMIT_AT_END: Final = 1.0
"""Seconds that ``abort`` and ``close`` may take where the server ends."""
_GRACE: Final = 3.0
"""Seconds that all of them may take then."""
_MOST: Final = 1_000
"""Messages that shadows have not done, on all connections of a process."""
_MOST_PLAYS: Final = 2
"""Messages at once: the one that the shadow is at, and the next."""
_MOST_BEHIND: Final = 1_048_576
"""Octets that may wait for the shadow."""
_MOST_OF_CONNECTION: Final = 10
"""Events before a message that are kept for it: an SMTP client may send HELO for ever."""
_CLEANED_UP: Final = frozenset({"none", "dropped", "failed", "timeout"})
"""After these, the filter hears ``abort``."""


class ShadowPool:
    """The shadows of all connections, until each is done."""

    def __init__(self) -> None:
        self.filters: set[ShadowFilter] = set()
        """Those that have a message, or a filter."""
        self.pending: int = 0
        """Messages that they have not done."""

    @property
    def full(self) -> bool:
        """Whether there are too many messages to take another."""
        return self.pending >= _MOST

    async def close(self) -> None:
        """End all, before the factories are left."""
        filters = [*self.filters]
        for each in filters:
            each.stop()
        tasks = [each.task for each in filters if each.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=_GRACE)


class ShadowFilter:
    """One shadow of one connection.

    Args:
        seat: Its place, and what was written about it.
        source: For its contexts.
        found: The results of shadows that hold for the connection.
        pool: Those of all connections.
    """

    def __init__(self, seat: Seat, source: ShadowSource, found: list[Any], pool: ShadowPool) -> None:
        self.seat: Seat = seat
        self.plays: deque[Play] = deque()
        self.task: asyncio.Task[None] | None = None
        self.source: ShadowSource = source
        self._pool = pool
        self._asking = ShadowAsking(seat, source, found)
        self._of_connection: list[Event] = []
        self._limit = _LIMIT if seat.member.timeout is None else seat.member.timeout
        self._timer: asyncio.TimerHandle | None = None
        self._interrupted = ""
        self._counted = 0
        self._closing = False
        self._context = copy_context()
        self._context.run(IN_SHADOW.set, True)

    # ----------------------------------------------------------------------------------------------- from the session

    def remember(self, event: Event) -> None:
        """Keep an event of the connection for the next message."""
        if len(self._of_connection) >= _MOST_OF_CONNECTION:
            del self._of_connection[1]  # the first one is CONNECT
        self._of_connection.append(event)

    def take(self, play: Play) -> None:
        """Take another message; its first events are those of the connection that have not been shown yet."""
        if len(self.plays) >= _MOST_PLAYS:
            play.conclude("dropped", answer="more than one message behind")
            play.end()
            return
        events, self._of_connection = self._of_connection, []
        for event in reversed(events):
            play.events.appendleft(event)
            play.size += event.size
        self.plays.append(play)
        self._pool.pending += 1
        self._pool.filters.add(self)

    def go_on(self) -> None:
        """Have the Task run, if there is something to do."""
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self._run(), context=self._context)

    def count(self, play: Play) -> None:
        """Count what waits, and drop the message if that is too much."""
        octets = sum(each.size for each in self.plays)
        memory = self.source.memory
        if octets > _MOST_BEHIND:
            self.cut(play, "too far behind")
            return
        play.counted_at = play.size + COUNTED_AT
        if octets > self._counted:
            memory.expendable.add(self)
            change, self._counted = octets - self._counted, octets
            memory.change(change)

    def drop(self) -> None:
        """Forget all messages: memory is short."""
        for play in [*self.plays]:
            self.cut(play, "memory is short")

    def cut(self, play: Play, why: str) -> None:
        """Stop with a message before its end."""
        if play.done or play.cut or play.outcome is not None:
            return
        play.cut, play.over = why, True
        play.events.clear()
        play.size = 0
        if play.began:
            self._interrupt("cut")
        elif play in self.plays:
            self._conclude_cut(play)
            self._forget(play)
        self._uncount()

    def close(self) -> None:
        """End as soon as the messages are done that have ended."""
        self._closing = True
        if self._asking.filter is not None or self.plays:
            self.go_on()
        else:
            self._pool.filters.discard(self)

    def stop(self) -> None:
        """End at once."""
        self._closing, self._limit = True, min(self._limit, _LIMIT_AT_END)
        if self.task is not None:
            self._disarm()
            self._arm()
        for play in [*self.plays]:
            self.cut(play, "the server ends")

    # ------------------------------------------------------------------------------------------------------- its Task

    def _interrupt(self, why: str) -> None:
        if self.task is not None and not self._interrupted:
            self._interrupted = why
            self.task.cancel()

    async def _run(self) -> None:
        try:
            while self.plays:
                play = self.plays[0]
                await self._play(play)
                self._forget(play)
                self._uncount()
            if self._closing and self._asking.filter is not None:
                await self._last("close")
        finally:
            self.task = None
            self._disarm()
            for play in [*self.plays]:
                self._forget(play)
            self._uncount()
            if self._closing:
                self._pool.filters.discard(self)

    def _forget(self, play: Play) -> None:
        self.plays.remove(play)
        self._pool.pending -= 1
        play.end()

    async def _play(self, play: Play) -> None:
        """Show a message to the filter, and note what it answers."""
        play.began = True
        try:
            try:
                await self._follow(play)
            except StoppedError:
                pass
            except DroppedError:
                play.conclude("dropped", answer="memory is short")
            except asyncio.CancelledError:
                if not self._caught(play):
                    raise
            self._taken_back()
            if play.outcome is not None and play.outcome.shadow in _CLEANED_UP and self._asking.filter is not None:
                await self._last("abort")
        finally:
            self._asking.forget_message()
            play.end()

    def _taken_back(self) -> str:
        """Take back a cancellation of ours, and return why it was; "" if there was none."""
        why, self._interrupted = self._interrupted, ""
        if why and self.task is not None:
            self.task.uncancel()
        return why

    def _caught(self, play: Play) -> bool:
        """Return whether a cancellation was ours, and note it."""
        why = self._taken_back()
        if not why:
            return False
        if why == "timeout":
            what = f"the callback did not end within {self._limit:.3g} s; a shadow's"
            self.source.report_timeout(what)
            play.conclude("timeout", self.source.callback, f"no answer within {self._limit:.3g} s")
        else:
            self._conclude_cut(play)
        return True

    def _conclude_cut(self, play: Play) -> None:
        if play.cut == "abort":
            play.conclude("none", answer="the message ended without an answer")
        else:
            play.conclude("dropped", answer=play.cut)

    async def _follow(self, play: Play) -> None:
        self._asking.make(play)
        self._arm()
        loop = asyncio.get_running_loop()
        show, after = self._asking.show, self.seat.after
        while True:
            began = loop.time()
            try:
                while play.events:
                    event = play.next()
                    if after:
                        await self._wait_for_others(play, event.number)
                    await show(play, event)
                    play.position = event.number + 1
                    if play.waiting:
                        play.get_on()
                    if play.outcome is not None:
                        return
            finally:
                play.duration += loop.time() - began
            self._uncount()
            if play.cut:
                self._conclude_cut(play)
                return
            if play.over:
                play.conclude("none", answer="the message ended before")
                return
            play.wake = loop.create_future()
            await play.wake
            play.wake = None
            self._arm()

    async def _last(self, name: str) -> None:
        """Call ``abort`` or ``close``, in its time."""
        self._arm()
        try:
            await self._asking.last(name)
        except asyncio.CancelledError:
            if not self._taken_back():
                raise
            self.source.report_timeout(f"{name} did not end within {self._limit:.3g} s; a shadow's")

    # ---------------------------------------------------------------------------------------------------- time and memory

    async def _wait_for_others(self, play: Play, number: int) -> None:
        """Wait until the shadows that this one waits for have seen the event at hand."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for other in play.message.plays:
            if other.seat.place in self.seat.after:
                while not other.done and other.position <= number:
                    future = loop.create_future()
                    other.waiting.append(future)
                    await future
        play.duration -= loop.time() - began
        self._arm()

    def _arm(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._limit, self._expire)

    def _disarm(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _expire(self) -> None:
        """Cancel a callback whose time is up; look again when it may be."""
        self._timer = None
        if not self._asking.began:
            return
        loop = asyncio.get_running_loop()
        left = self._asking.began + self._limit - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._expire)
            return
        self._timer = loop.call_later(self._limit, self._expire)
        if not self._interrupted:
            self._interrupt("timeout")
        elif self.plays and not self.plays[0].done:
            # It goes on although it was cancelled: the report of the message waits no longer.
            play = self.plays[0]
            if play.outcome is None and play.cut:
                self._conclude_cut(play)
            elif play.outcome is None:
                play.conclude("timeout", self.source.callback, "the callback goes on although it was cancelled")
            play.end()

    def _uncount(self) -> None:
        octets = sum(each.size for each in self.plays)
        if octets < self._counted:
            change, self._counted = octets - self._counted, octets
            memory = self.source.memory
            if not octets:
                memory.expendable.discard(self)
            memory.change(change)
