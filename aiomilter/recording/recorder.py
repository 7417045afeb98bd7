"""Recording sessions as they run: octets wait in memory, and become a file once the session has ended.

On the event loop a session only collects the octets of each read and write.  A thread makes packets of them, redacts,
compresses and writes.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from time import monotonic, time
from typing import Final

from aiomilter._serving.memory import MemoryLimit
from aiomilter.recording.capture import Piece
from aiomilter.recording.directory import RecordDirectory
from aiomilter.recording.encoding import Encoder
from aiomilter.recording.format import MTA, ContentKind, Head
from aiomilter.recording.redaction import Redaction

__all__ = ["RecordSettings", "Recorder", "SessionRecord"]

SLOW: Final = 5.0
"""Seconds; an answer that took as long is slow."""
SHAPE_SIZE: Final = 1 << 20
"""Octets of a session from which on it waits for its end as its shape only."""
_PIECE_COST: Final = 160
"""Octets that a piece takes beside its own."""


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """What is recorded.

    Args:
        filter: What the head of a file calls the filter.
        content: Whether files hold what was sent, or only its shape.
        when: What a session has to be for its file to be written: "failed", "refused", "slow"; none for every session.
        redaction: Makes the shape, and the tokens of secrets.
    """

    filter: str
    content: ContentKind
    when: frozenset[str]
    redaction: Redaction


class Recorder:
    """Records sessions into a directory.

    Args:
        settings: What is recorded.
        directory: Where.
        memory: Counts the octets that wait; where it is short of memory all of them are dropped.
        report: Hears why sessions were not written.
    """

    def __init__(
        self, settings: RecordSettings, directory: RecordDirectory, memory: MemoryLimit, report: Callable[[str], object]
    ) -> None:
        self.settings: Final = settings
        self.memory: Final = memory
        self.directory: Final = directory
        self._report = report
        self._sessions: set[SessionRecord] = set()
        self._jobs: asyncio.Queue[tuple[Callable[[], None], Callable[[], None]] | None] = asyncio.Queue()
        self._writer: asyncio.Task[None] | None = None

    def begin(self, listener: str) -> "SessionRecord":
        """Begin to record a session."""
        record = SessionRecord(self, listener)
        self._sessions.add(record)
        return record

    def drop(self) -> None:
        """Drop all that waits: what is served needs the memory."""
        dropped = [record for record in self._sessions if record.size]
        # At once: as long as the limit is reached, each change would call this again.
        self.memory.change(-sum(record.drop() for record in dropped))
        if dropped:
            self._report(f"memory is short (--max-memory): sessions that are not recorded: {len(dropped)}")

    def later(self, job: Callable[[], None], done: Callable[[], None]) -> None:
        """Have a thread run a job after those before it.

        Args:
            job: Runs in the thread.
            done: Called afterwards on the event loop, whatever the job has raised.
        """
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._work())
        self._jobs.put_nowait((job, done))

    async def _work(self) -> None:
        while (work := await self._jobs.get()) is not None:
            job, done = work
            try:
                await asyncio.to_thread(job)
            except OSError as error:
                self._report(f"a session cannot be recorded: {error.strerror or error}")
            except Exception as error:  # noqa: BLE001  # a bug of ours; the next session is recorded all the same
                self._report(f"a session cannot be recorded: {type(error).__name__}: {error}")
            finally:
                done()
            del work, job, done  # the next one may be far, and they hold a session

    def ended(self, record: "SessionRecord") -> None:
        """Forget a session."""
        self._sessions.discard(record)

    async def close(self) -> None:
        """Write what has ended; sessions that have not are not recorded."""
        for record in [one for one in self._sessions if not one.over]:
            self.memory.change(-record.drop())
        if self._writer is not None:
            self._jobs.put_nowait(None)
            await self._writer
            self._writer = None


class SessionRecord:
    """One session while it is recorded.

    Args:
        recorder: Whose session it is.
        listener: The socket that the MTA has connected to.
    """

    def __init__(self, recorder: Recorder, listener: str) -> None:
        self.size: int = 0
        """Octets that wait in memory."""
        self.over: bool = False
        """Whether the session has ended, or is not recorded any more."""
        self._recorder = recorder
        self._listener = listener
        self._began = time()
        self._start = monotonic()
        self._pieces: list[Piece] = []
        # Octets that these count.
        self._waiting = 0
        self._encoder: Encoder | None = None
        # Octets that it has made, as they are counted.
        self._made = 0
        self._waits_since: float | None = None
        self._reasons: set[str] = set()
        self._closed = False
        # Read by the thread, too.
        self._dropped = False

    def add(self, sender: str, octets: bytes) -> None:
        """Take octets that one side has sent.

        Args:
            sender: :data:`aiomilter.recording.MTA` or :data:`aiomilter.recording.FILTER`.
            octets: At least one.
        """
        if self.over:
            return
        now = monotonic()
        if sender == MTA:
            self._waits_since = now if self._waits_since is None else self._waits_since
        elif self._waits_since is not None:
            if now - self._waits_since >= SLOW:
                self._reasons.add("slow")
            self._waits_since = None
        self._keep(Piece(now - self._start, sender, bytes(octets)))

    def closed(self, sender: str) -> None:
        """Record which side has closed the connection, the first time."""
        if not self._closed and not self.over:
            self._closed = True
            self._keep(Piece(monotonic() - self._start, sender, b""))

    def mark(self, reason: str) -> None:
        """Record what the session is: "failed"."""
        self._reasons.add(reason)

    def end(self) -> None:
        """Write the session, if it is one to be kept, and forget it."""
        if self.over:
            return
        self.over = True
        self._hand_over(self._write, self._forget)

    def drop(self) -> int:
        """Forget the session; return how many octets that waited are to be counted off."""
        self.over = self._dropped = True
        self._pieces.clear()
        self._encoder = None
        self._recorder.ended(self)
        size, self.size = self.size, 0
        return size

    def _keep(self, piece: Piece) -> None:
        cost = len(piece.octets) + _PIECE_COST
        self._pieces.append(piece)
        self._waiting += cost
        self._count(cost)
        if self._waiting >= SHAPE_SIZE and not self.over:
            self._hand_over(self._encode, self._encoded)

    def _count(self, octets: int) -> None:
        self.size += octets
        if octets > 0:
            self._recorder.memory.expendable.add(self._recorder)
        self._recorder.memory.change(octets)

    def _forget(self, _: int = 0) -> None:
        self._count(-self.size)
        self._recorder.ended(self)

    def _hand_over(self, job: Callable[[Encoder, list[Piece]], None], done: Callable[[int], None]) -> None:
        settings = self._recorder.settings
        if self._encoder is None:
            # Long sessions that wait for their end do so as their shape.
            content: ContentKind = "shape" if settings.when and not self.over else settings.content
            when = datetime.fromtimestamp(self._began, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            head = Head(time=when, listener=self._listener, filter=settings.filter, content=content)
            self._encoder = Encoder(head, settings.redaction)
        pieces, self._pieces = self._pieces, []
        waiting, self._waiting = self._waiting, 0
        self._recorder.later(partial(job, self._encoder, pieces), partial(done, waiting))

    def _encode(self, encoder: Encoder, pieces: list[Piece]) -> None:
        """Encode some of the session, in the thread."""
        if not self._dropped:
            encoder.add(pieces)

    def _encoded(self, waiting: int) -> None:
        """Count what is left of octets that were encoded."""
        if not self._dropped and self._encoder is not None:
            made, self._made = self._made, self._encoder.size
            self._count(self._made - made - waiting)
            if self._encoder.size > self._recorder.directory.max_size:
                self._recorder.memory.change(-self.drop())

    def _write(self, encoder: Encoder, pieces: list[Piece]) -> None:
        """Encode the rest and write the file, in the thread."""
        if self._dropped:
            return
        encoder.add(pieces)
        reasons = self._reasons | ({"refused"} if encoder.refused else set())
        wanted = self._recorder.settings.when
        if encoder.whole and (not wanted or wanted & reasons):
            self._recorder.directory.write(encoder.finish(), self._began)
