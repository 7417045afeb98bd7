"""Records of ours in a program that has set logging up for itself: its handlers may wait, the event loop may not."""

import atexit
import logging
import os
import sys
import threading
from contextlib import suppress
from queue import SimpleQueue
from time import monotonic
from typing import Final

__all__ = ["Aside"]

_MOST: Final = 1000
"""Records that wait for the handlers."""
_END: Final = 2.0
"""Seconds that the end of the process waits for them."""


class Aside:
    """Has a thread call the handlers for the records of some loggers, in order; too many are dropped and counted.

    The thread begins with the first record, so that a program that forks before has none.

    Args:
        names: Of the loggers; those below them are not meant.
    """

    def __init__(self, *names: str) -> None:
        self.status: int = 1
        """Of the process, if it has to be ended."""
        self._restart()
        for name in names:
            logging.getLogger(name).addFilter(self._take)
        atexit.register(self.finish)
        os.register_at_fork(after_in_child=self._restart)

    def _restart(self) -> None:
        self._queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
        # Again by the same thread, if a finalizer has asyncio log something meanwhile.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._handled = threading.Condition(self._lock)
        self._waiting = 0
        self._dropped = 0

    def _take(self, record: logging.LogRecord) -> bool:
        """Take a record, and return whether its logger is to go on with it."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._work, name="aiomilter log", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return True  # Python ends, or there can be no more threads
                self._thread = thread
            if self._waiting >= (_MOST // 2 if self._dropped else _MOST):
                self._dropped += 1
                return False
            self._put_dropped()
            self._put(record)
        return False

    def _put(self, record: logging.LogRecord) -> None:
        self._waiting += 1
        self._queue.put(record)

    def _put_dropped(self) -> None:
        if self._dropped:
            what = "%d records were dropped: the handlers took too long"
            self._put(logging.LogRecord("aiomilter", logging.WARNING, __file__, 0, what, (self._dropped,), None))
            self._dropped = 0

    def _work(self) -> None:
        while True:
            record = self._queue.get()
            try:
                logging.getLogger(record.name).callHandlers(record)
            finally:
                with self._lock:
                    self._waiting -= 1
                    if not self._waiting:
                        self._put_dropped()
                    self._handled.notify_all()

    def finish(self) -> None:
        """Wait until the handlers have had all, two seconds at most; if they hang, end the process: Python could not."""
        until = monotonic() + _END
        with self._lock:
            while self._waiting and (left := until - monotonic()) > 0:
                self._handled.wait(left)
            if not self._waiting:
                return
        with suppress(AttributeError, OSError, ValueError):
            if not os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno()):
                sys.stdout.flush()
        os._exit(self.status)
