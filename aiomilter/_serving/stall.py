"""Detecting a blocked event loop: which callback blocks it, and where.

A callback that blocks delays every SMTP session of the process, and no timer can report it, since timers fire in the loop that
is blocked.  So a thread looks at the clock: the loop regularly notes that it is alive, and when it has not done so for too long
the thread reads from the stack of the loop's own thread where that is stuck.  Callbacks pay nothing for it.

Code that holds the GIL, such as a regular expression that explodes, also stops this thread.  It is reported once it releases
the GIL, which is before the callback goes on.
"""

import asyncio
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import dropwhile
from time import monotonic
from types import CodeType, FrameType
from typing import Final, NamedTuple

from aiomilter._serving.timers import LONGEST_DELAY
from aiomilter.observe import SERVER, LoopStalled, Where

__all__ = ["StallWatch", "watch"]

_LOOKS: Final = 4
"""How often within the timeout the loop notes that it is alive, and the thread checks that."""
_OURS: Final = os.path.dirname(os.path.dirname(__file__)) + os.sep
_DEPTH: Final = 40
"""How many frames of a stack are shown: the innermost."""


class StallWatch(NamedTuple):
    """How the event loop is watched for one server.

    Args:
        timeout: Seconds that the loop may be blocked.
        claim: Returns where a frame runs a callback, if it is one of this server.  Called in another thread.
        report: Hears of a stall: in another thread while it lasts, in the loop when it is over.
        server: Where a stall is reported that no callback has caused.
    """

    timeout: float
    claim: Callable[[FrameType], Where | None]
    report: Callable[[LoopStalled], None]
    server: Where = SERVER


def watch(watch: StallWatch) -> Callable[[], None]:
    """Watch the running event loop for a server, and return a function that ends that.

    All servers of a loop share one thread, which ends with the last of them.
    """
    loop = asyncio.get_running_loop()
    with _LOCK:
        guard = _GUARDS.get(loop)
        if guard is None:
            guard = _GUARDS[loop] = _Guard(loop)
    return guard.add(watch)


class _Guard:
    """Watches one event loop; made in its thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread_id = threading.get_ident()
        self._watches: list[StallWatch] = []
        self._interval = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        # When the loop has to note next that it is alive, and the code that calls it then.
        self._due = 0.0
        self._base: CodeType | None = None
        # The stall in progress: its report, the watch that got that, and when the loop was due.
        self._stalled: tuple[LoopStalled, StallWatch, float] | None = None

    def add(self, watch: StallWatch) -> Callable[[], None]:
        """Watch for another server."""
        self._watches.append(watch)
        self._restart()

        def remove() -> None:
            self._watches.remove(watch)
            self._restart()

        return remove

    def _restart(self) -> None:
        """Set the interval by the shortest timeout; end with the last watch."""
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
        self._report_end()
        if not self._watches:
            with _LOCK:
                _GUARDS.pop(self._loop, None)
            return
        self._interval = min(LONGEST_DELAY, *(each.timeout for each in self._watches)) / _LOOKS
        self._stop = threading.Event()
        self._due = monotonic() + self._interval
        self._timer = self._loop.call_later(0, self._alive)
        self._thread = threading.Thread(target=self._guard, args=(self._stop,), name="milter-stall-guard", daemon=True)
        self._thread.start()

    # -------------------------------------------------------------------------------------------------- in the loop

    def _alive(self) -> None:
        """Note that the loop is alive."""
        self._report_end()
        self._base = sys._getframe(1).f_code
        self._due = monotonic() + self._interval
        self._timer = self._loop.call_later(self._interval, self._alive)

    def _report_end(self) -> None:
        if self._stalled is not None:
            (stall, watch, since), self._stalled = self._stalled, None
            watch.report(replace(stall, duration=monotonic() - since, over=True))

    # ------------------------------------------------------------------------------------------------ in the thread

    def _guard(self, stop: threading.Event) -> None:
        while not stop.wait(self._interval):
            if self._loop.is_closed():  # and its servers never were
                with _LOCK:
                    _GUARDS.pop(self._loop, None)
                return
            late = monotonic() - self._due
            if self._stalled is None and late > self._interval and self._loop.is_running():
                self._look(late)

    def _look(self, late: float) -> None:
        """Report where the loop is stuck, if that takes longer than the timeout of the server."""
        frame = sys._current_frames().get(self._thread_id)
        if frame is None or frame.f_code is self._base or frame.f_code.co_filename.endswith("selectors.py"):
            return  # it has nothing to do: the whole process was stopped for a while
        inside: list[FrameType] = []
        for each in _outwards(frame, self._base):
            for watch in self._watches:
                where = watch.claim(each)
                if where is not None:
                    self._found(watch, where, inside, late)
                    return
            inside.append(each)
        self._found(self._watches[0], self._watches[0].server, inside, late)

    def _found(self, watch: StallWatch, where: Where, inside: list[FrameType], late: float) -> None:
        if late <= watch.timeout:
            return
        since = monotonic() - late
        # From the callback inwards: our own frames that have called it are shown only if there are no others.
        shown = (
            list(dropwhile(lambda each: each.f_code.co_filename.startswith(_OURS), reversed(inside))) or inside[::-1]
        )
        lines = [(each, each.f_lineno or 0) for each in shown[-_DEPTH:]]
        stack = "".join(traceback.StackSummary.extract(iter(lines)).format()).rstrip("\n")
        stall = LoopStalled(where, stack, late, False)
        self._stalled = stall, watch, since
        watch.report(stall)


def _outwards(frame: FrameType | None, base: CodeType | None) -> Iterator[FrameType]:
    """Yield frames from the innermost to the one that the loop has called."""
    while frame is not None and frame.f_code is not base:
        yield frame
        frame = frame.f_back


_GUARDS: Final[dict[asyncio.AbstractEventLoop, _Guard]] = {}
_LOCK: Final = threading.Lock()
