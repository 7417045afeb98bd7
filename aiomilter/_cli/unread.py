"""A stream for records that never waits for its reader: unread records are kept up to a limit, then dropped and counted."""

import io
import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, NamedTuple, TypeAlias

__all__ = ["Unread"]

_MOST: Final = 1 << 20
"""Octets kept for a reader that is slow: some five thousand lines."""
_RETRY: Final = 0.05
"""Seconds after which one that waits for the reader looks up."""
_END: Final = 2.0
"""Seconds that the end of the process waits for the reader."""

_Write: TypeAlias = Callable[[memoryview], int]
"""Writes what can be written now.  Raises BlockingIOError: nothing; OSError: it will not be different later."""


class _Piece(NamedTuple):
    octets: memoryview
    records: int
    """How many records are lost with it: 0 for a part of a line."""


class Unread(io.RawIOBase):
    """Writes to a descriptor, in order, and never waits.

    The descriptor stays as it is: O_NONBLOCK belongs to the open file, which other processes may have, too.

    Args:
        fd: What to write to; it is not closed.
        notice: Makes a line of how many records were dropped.
    """

    def __init__(self, fd: int, notice: Callable[[int], str]) -> None:
        self._fd = fd
        # The same pipe or terminal opened once more, where nothing waits.
        self._again: int | None = None
        self._write_now: _Write
        self._open()
        self._notice = notice
        # Again by the same thread, if a signal or a finalizer prints meanwhile: that is kept for now.
        self._lock = threading.RLock()
        self._sending = False
        self._kept: deque[_Piece] = deque()
        self._size = 0
        self._dropped = 0
        # Whether a line was begun, and whether the rest of one has to be dropped.
        self._in_line = False
        self._cut = False
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._finished = False

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor, for other programs and for reports of a crash; they wait."""
        return self._fd

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._fd)

    def write(self, octets: Any, /) -> int:
        """Write a record, or keep it, or drop it."""
        record = bytes(octets)
        with self._lock:
            # Nearly always nothing is kept, and all of it is written at once.
            if self._kept or self._dropped or self._cut or self._sending or not self._begin_record(record):
                self._send()
                self._keep(record)
            if self._kept:
                self._send()
            if self._kept and self._thread is None and not self._finished:
                self._begin_thread()
        return len(record)

    def finish(self) -> None:
        """Wait until all is written, two seconds at most; no thread is left behind, nor begun any more."""
        self._finished = True
        self._end_thread()
        until = monotonic() + _END
        while True:
            with self._lock:
                self._send()
                if not self._kept:
                    return
            if (left := until - monotonic()) <= 0:
                return
            self._wait_for_reader(min(left, _RETRY))

    def close(self) -> None:
        """Write what can be written, and take no more."""
        if not self.closed:
            self.finish()
            self._let_go()
        super().close()

    def _begin_record(self, record: bytes) -> bool:
        """Write a record while nothing is kept, and keep what is left of it; return False if nothing could be written now."""
        if len(record) > _MOST:
            return False
        self._sending = True
        try:
            written = self._write_now(memoryview(record))
        except OSError:
            return False  # what is done about that is the same for all
        finally:
            self._sending = False
        whole = record.endswith(b"\n")
        if not self._kept:
            self._in_line = not whole
        if written < len(record):
            # Before what came meanwhile.
            self._kept.appendleft(_Piece(memoryview(record)[written:], int(whole)))
            self._size += len(record) - written
        return True

    def _keep(self, record: bytes) -> None:
        """Keep a record if there is room; once there was none, not before half of it is free, or each would have its notice."""
        whole = record.endswith(b"\n")
        if self._cut or self._size + len(record) > (_MOST // 2 if self._dropped else _MOST):
            self._dropped += whole
            self._cut = not whole
            return
        self._tell_dropped()
        self._append(record, int(whole))

    def _append(self, record: bytes, records: int) -> None:
        self._kept.append(_Piece(memoryview(record), records))
        self._size += len(record)
        self._in_line = not record.endswith(b"\n")

    def _tell_dropped(self) -> None:
        if self._dropped:
            notice = self._notice(self._dropped).encode("utf-8", "backslashreplace")
            self._append((b"\n" if self._in_line else b"") + notice + b"\n", self._dropped)
            self._dropped = 0

    def _send(self) -> None:
        """Write what can be written now."""
        if self._sending:
            return
        self._sending = True
        try:
            self._tell_dropped_if_empty()
            while self._kept:
                self._send_piece()
                self._tell_dropped_if_empty()
        except BlockingIOError:
            pass
        except OSError:
            # Nobody is there, or the disk is full.
            self._dropped += sum(piece.records for piece in tuple(self._kept))
            self._kept.clear()
            self._size = 0
            self._in_line = False
        finally:
            self._sending = False

    def _tell_dropped_if_empty(self) -> None:
        if not self._kept:
            self._tell_dropped()

    def _open(self) -> None:
        """Find out how to write without waiting."""
        mode = os.fstat(self._fd).st_mode
        if stat.S_ISREG(mode):
            self._write_now = lambda octets: os.write(self._fd, octets)
            return
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            try:
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                self._again = again = os.open(f"/proc/self/fd/{self._fd}", flags)
            except OSError:
                pass  # no Linux, or it belongs to another user
            else:
                self._write_now = lambda octets: os.write(again, octets)
                return
        self._write_now = lambda octets: _write_if_ready(self._fd, octets)

    def _open_and_write(self, octets: memoryview) -> int:
        self._open()
        return self._write_now(octets)

    def _let_go(self) -> None:
        """Hold nothing but the descriptor that was given, until something is written."""
        again, self._again, self._write_now = self._again, None, self._open_and_write
        if again is not None:
            os.close(again)

    def _send_piece(self) -> None:
        octets, records = self._kept[0]
        written = self._write_now(octets)
        self._size -= written
        if written < len(octets):
            self._kept[0] = _Piece(octets[written:], records)
        else:
            self._kept.popleft()

    # ------------------------------------------------------------------------------------------ while a reader is slow

    def _begin_thread(self) -> None:
        self._stop.clear()
        thread = threading.Thread(target=self._retry, name="aiomilter stderr", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return  # there can be no more threads; the next record tries again
        self._thread = thread

    def _retry(self) -> None:
        while not self._stop.is_set():
            self._wait_for_reader(_RETRY)
            with self._lock:
                self._send()
                if not self._kept:
                    self._thread = None
                    return

    def _wait_for_reader(self, seconds: float) -> None:
        """Wait until something can be written, or it is time to look whether it still makes sense."""
        select.select((), (self._fd,), (), seconds)

    def follow_forks(self) -> None:
        """Have each process write its own records once, without a thread at the fork; for a stream that lasts."""
        os.register_at_fork(
            before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._after_fork_in_child
        )

    def _end_thread(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stop.set()
            thread.join()  # it writes only what can be written at once

    def _before_fork(self) -> None:
        self._end_thread()
        self._lock.acquire()

    def _after_fork(self) -> None:
        if self._kept and not self._finished:
            self._begin_thread()
        self._lock.release()

    def _after_fork_in_child(self) -> None:
        # A child that closes its stderr is to hold nothing of it.
        self._let_go()
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread = None
        self._sending = False
        self._kept.clear()
        self._size = self._dropped = 0
        self._in_line = self._cut = False


def _write_if_ready(fd: int, octets: memoryview) -> int:
    """Write as much as a pipe or socket that is ready is sure to take.

    Another process that writes to the same pipe between the two steps may fill it; then this one waits.

    Source: POSIX.1-2017, write(), on PIPE_BUF.
    """
    _, ready, _ = select.select((), (fd,), (), 0)
    if not ready:
        raise BlockingIOError
    return os.write(fd, octets[: select.PIPE_BUF])
