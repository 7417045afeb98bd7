"""Accepting from the same sockets in several processes: each has its turn when it has the fewest connections."""

import enum
import mmap
from collections.abc import Callable, Iterable
from typing import Final

from aiomilter._serving.binding import Bound

__all__ = ["PLACES", "AcceptBalancer", "Turn", "absent", "present", "shared_counts"]

PLACES: Final = 256
"""Most processes that accept from the same sockets."""
_PATIENCE: Final = 20
"""How many times in a row a process is waited for that accepts nothing: a busy machine gives it its turn within about as many
milliseconds."""
_ABSENT: Final = 2**64 - 1


def shared_counts() -> "memoryview[int]":
    """Return the number of connections of each process, in memory shared by all that are forked from here on."""
    counts = memoryview(mmap.mmap(-1, 8 * PLACES)).cast("Q")
    for place in range(PLACES):
        absent(counts, place)
    return counts


def present(counts: "memoryview[int]", place: int) -> None:
    """Mark a process that is about to accept, so that others leave connections to it."""
    counts[place] = 0


def absent(counts: "memoryview[int]", place: int) -> None:
    """Mark a process that accepts none, so that no other leaves connections to it."""
    counts[place] = _ABSENT


class AcceptBalancer:
    """The part of one process in sockets that several accept from: its turn comes when it has the fewest connections.

    A new connection wakes every process.  Those that have more connections than another leave it to that one for a millisecond,
    up to 20 times.  A process that has not accepted by then is held up.  Until it accepts something the others do not wait for
    it, and accept the connections themselves, one a millisecond.

    Args:
        bound: The sockets.
        counts: See :func:`shared_counts`.
        place: Ours in the counts.
    """

    def __init__(self, bound: Iterable[Bound], counts: "memoryview[int]", place: int) -> None:
        self.bound: list[Bound] = [Bound(one.socket) for one in bound]  # the paths are not ours to remove
        self._counts = counts
        self._place = place
        self._accepting = False
        self._connections = 0
        # By place of those that had fewer: how many, and how often they were waited for since.
        self._waited: dict[int, tuple[int, int]] = {}
        self._begin: Callable[[], None] | None = None
        self._ended: Callable[[], None] | None = None

    def when_told(self, begin: Callable[[], None]) -> None:
        """Set the function that begins to accept."""
        self._begin = begin

    def when_ended(self, ended: Callable[[], None]) -> None:
        """Set the function to call once this process accepts no more."""
        self._ended = ended

    def begin(self) -> None:
        """Accept from now on."""
        self._accepting = True
        self.count(self._connections)
        if self._begin is not None:
            self._begin()

    def end(self) -> None:
        """Accept no more, so that no other process leaves a connection to this one."""
        self._accepting = False
        absent(self._counts, self._place)
        if self._ended is not None:
            self._ended()

    def count(self, connections: int) -> None:
        """Note how many connections are open."""
        self._connections = connections
        if self._accepting:
            self._counts[self._place] = connections

    def turn(self) -> "Turn":
        """Return whose turn it is to accept."""
        ours = self._connections
        if ours <= min(self._counts):
            return Turn.OURS
        turn = Turn.ANYBODYS
        for place, count in enumerate(self._counts):
            if count < ours:
                before, times = self._waited.get(place, (count, 0))
                times = times + 1 if before == count else 1
                self._waited[place] = count, times
                if times <= _PATIENCE:
                    turn = Turn.THEIRS
        return turn


class Turn(enum.Enum):
    """Whose turn it is to accept, of several processes."""

    OURS = enum.auto()
    """No other has fewer connections."""
    THEIRS = enum.auto()
    """Others have fewer."""
    ANYBODYS = enum.auto()
    """Others have fewer, but accept none."""
