"""The octets of a body: in memory while they are few, in an unlinked file of the operating system's above that."""

import asyncio
import os
import tempfile
from bisect import bisect_right
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from typing import IO, Final

__all__ = ["BUDGET", "Budget", "Spool"]

_SMALL: Final = 16_384
"""Smaller pieces are joined: each object costs memory of its own."""
_PIECE: Final = 65_536
_BLOCK: Final = 1_048_576
"""Octets that are read at once: each time costs a way to a thread and back."""
_SMALL_BLOCK: Final = 262_144
"""The same where much is in memory already."""


class Budget:
    """Counts the octets that all messages of this process keep in memory.

    Args:
        most: Above so many, bodies go to their files at once.
    """

    __slots__ = ("most", "used")

    def __init__(self, most: int) -> None:
        self.most: int = most
        self.used: int = 0


BUDGET: Final = Budget(67_108_864)
"""Of all messages of this process: 64 MiB."""


class Spool:
    """The octets of one body, added at the end and read anywhere.

    Args:
        memory_size: Octets that are kept in memory at most, but for one piece.
        directory: Where the file is made; None for the system's place for temporary files.
        budget: What all spools may keep in memory.
    """

    def __init__(self, memory_size: int, directory: str | None = None, budget: Budget = BUDGET) -> None:
        self.size: int = 0
        """Octets in all."""
        self._memory_size = memory_size
        self._directory = directory
        self._budget = budget
        self._file: IO[bytes] | None = None
        self._stored = 0
        # What is not in the file: pieces, where each begins, and what is not yet one.
        self._pieces: list[bytes] = []
        self._starts: list[int] = []
        self._tail = bytearray()
        self._kept = 0
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        # How many read it besides the one that has made it.
        self._readers = 0

    @property
    def in_file(self) -> int:
        """Octets that were written to a file."""
        return self._stored

    def add(self, octets: bytes) -> bool:
        """Add octets at the end, and return whether :meth:`store` is due."""
        self.size += len(octets)
        self._kept += len(octets)
        self._budget.used += len(octets)
        if len(octets) < _SMALL:
            self._tail += octets
            if len(self._tail) >= _PIECE:
                self._end_tail()
        else:
            self._end_tail()
            self._keep(octets)
        return self._kept > self._memory_size or (self._budget.used > self._budget.most and self._kept >= _PIECE)

    def in_memory(self) -> list[bytes]:
        """Return the octets that are in memory, in pieces, all of the body before anything was stored."""
        self._end_tail()
        return [*self._pieces]

    def kept(self) -> Iterator[bytes]:
        """Yield the octets that are in memory, in pieces; what is read after the spool was closed raises."""
        self._end_tail()
        pieces = self._pieces
        for piece in pieces:
            self._check_open()
            yield piece

    def _end_tail(self) -> None:
        if self._tail:
            self._keep(bytes(self._tail))
            self._tail.clear()

    def _keep(self, octets: bytes) -> None:
        last = self._starts[-1] + len(self._pieces[-1]) if self._pieces else self._stored
        self._starts.append(last)
        self._pieces.append(octets)

    async def store(self) -> None:
        """Write what is in memory to the file, in a thread.

        Raises:
            OSError: It cannot be written; the spool is of no use any more.
        """
        self._end_tail()
        pieces, kept = self._pieces, self._kept
        # A write goes on where its callback is cancelled: whichever comes last closes the file.
        self._task = asyncio.create_task(asyncio.to_thread(self._write, pieces))
        self._task.add_done_callback(self._written)
        await asyncio.shield(self._task)
        self._pieces, self._starts = [], []
        self._stored += kept
        self._forget(kept)

    def _write(self, pieces: list[bytes]) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115  # it lives as long as we
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(self._file.fileno(), view) :]

    def _written(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            task.exception()  # whoever waited for it has it
        if self._closed:
            self._close_file()

    def _forget(self, octets: int) -> None:
        self._kept -= octets
        self._budget.used -= octets

    async def read(self, start: int, stop: int) -> AsyncGenerator[bytes]:
        """Yield the octets between two places, in pieces."""
        stop = min(stop, self.size)
        while start < min(stop, self._stored):
            budget = self._budget
            block = _BLOCK if budget.used + _BLOCK <= budget.most // 2 else _SMALL_BLOCK
            octets = await self._read_file(start, min(stop, self._stored, start + block))
            start += len(octets)
            budget.used += len(octets)
            try:
                yield octets
            finally:
                budget.used -= len(octets)
        self._end_tail()
        while start < stop:
            self._check_open()
            at = bisect_right(self._starts, start) - 1
            begin = start - self._starts[at]
            octets = self._pieces[at][begin : begin + stop - start]
            start += len(octets)
            yield octets

    async def _read_file(self, start: int, stop: int) -> bytes:
        self._check_open()
        file = self._file
        assert file is not None
        descriptor = [os.dup(file.fileno())]
        try:
            octets = await asyncio.to_thread(_pread, descriptor, stop - start, start)
        finally:
            with suppress(IndexError):  # no thread has taken it: cancelled before one was free
                os.close(descriptor.pop())
        if not octets:
            raise OSError("expected the octets that were written, found the end of the file")
        return octets

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("expected a message that has not ended, found one that has")

    def share(self) -> None:
        """Have one more reader, which calls :meth:`close` as well: the octets are there until the last one does."""
        self._readers += 1

    def close(self) -> None:
        """Forget all octets, and close the file, whatever a thread does with it."""
        if self._readers:
            self._readers -= 1
            return
        self._closed = True
        self._pieces, self._starts = [], []
        self._tail.clear()
        self._forget(self._kept)
        if self._task is None:
            self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _pread(owned: list[int], size: int, start: int) -> bytes:
    """Read from a descriptor of its own, which outlives a file that is closed in between; who takes it closes it."""
    try:
        descriptor = owned.pop()
    except IndexError:
        return b""
    try:
        return os.pread(descriptor, size, start)
    finally:
        os.close(descriptor)
