"""A store in an sqlite file, for the workers of one machine.

One thread in each process does the steps: all that wait are one transaction, so that the file is written once for them.

Source: aiomilter/help/stores.rst.
"""

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from aiomilter.exceptions import StoreError
from aiomilter.policy.stores.clock import Clock
from aiomilter.policy.stores.operations import SECOND, Op, State, apply

__all__ = ["SqliteStore"]

_VERSION: Final = 1
_SCHEMA: Final = """\
create table state(key blob primary key, expiry integer not null, a integer not null, b integer not null, c integer not null)
without rowid
"""
_BUSY: Final = 0.3
"""Seconds to wait for another process, less than the deadline of a step."""
_SWEEP: Final = 60 * SECOND
_SWEPT: Final = 1000
_WAITING: Final = 10_000
"""Steps that wait for the thread; more fail at once."""
_TOGETHER: Final = 500

Result = tuple[int, ...]


class _Job(NamedTuple):
    """A step, and who waits for it."""

    op: Op
    keys: Sequence[bytes]
    args: Sequence[int]
    loop: asyncio.AbstractEventLoop
    done: "asyncio.Future[Result]"


class SqliteStore:
    """Keeps states in a file, which several processes may share.

    Args:
        path: The file; it is made, for its user alone.
        clock: Returns microseconds since 1970.
        notify: Told in a sentence what has become of a file that could not be used; called in the thread.
    """

    def __init__(
        self, path: str, *, clock: Callable[[], int] | None = None, notify: Callable[[str], object] = lambda what: None
    ) -> None:
        self._path = path
        self._notify = notify
        self._clock = clock or Clock(jumped=lambda by: notify(f"the clock was set back by {by:.0f} s; time goes on"))
        self._jobs: queue.Queue[_Job | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._swept = 0
        self._closed = False

    async def step(self, op: Op, keys: Sequence[bytes], args: Sequence[int]) -> Sequence[int]:
        """Do one step.

        Raises:
            StoreError: The file cannot be read or written, or too many steps wait.
        """
        if self._closed:
            raise StoreError(f"{self._path}: closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="aiomilter-sqlite", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        job = _Job(op, keys, args, loop, loop.create_future())
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise StoreError(f"{self._path}: {_WAITING} steps wait already") from None
        return await job.done

    async def ready(self) -> str | None:
        """Return what keeps it from working; None if nothing does."""
        try:
            await self.step(Op.PAIR, (), (1, 0, 0))
        except StoreError as error:
            return str(error)
        return None

    async def aclose(self) -> None:
        """Close the file, once the steps that wait are done."""
        self._closed = True
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        """Do what comes, until None does."""
        ends = False
        while not ends:
            jobs = [self._jobs.get()]
            while len(jobs) < _TOGETHER and not self._jobs.empty():
                jobs.append(self._jobs.get())
            ends = None in jobs
            self._do([job for job in jobs if job is not None])
        if self._connection is not None:
            self._connection.close()

    def _do(self, jobs: list[_Job]) -> None:
        wanted = [job for job in jobs if not job.done.cancelled()]
        try:
            results: list[Result | StoreError] = list(self._together(wanted))
        except (sqlite3.Error, OSError) as error:
            results = [StoreError(f"{self._path}: {error}")] * len(wanted)
        for job, result in zip(wanted, results, strict=True):
            with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits
                job.loop.call_soon_threadsafe(_resolve, job.done, result)

    def _together(self, jobs: list[_Job]) -> list[Result]:
        """Do steps in one transaction, and return their answers."""
        if not jobs:
            return []
        connection = self._open()
        connection.execute("begin immediate")
        try:
            table, now = _Table(connection), self._clock()
            answers = [apply(job.op, table, now, job.keys, job.args) for job in jobs]
            if now >= self._swept + _SWEEP:
                old = "select key from state where expiry <= ? limit ?"
                gone = connection.execute(f"delete from state where key in ({old})", (now, _SWEPT)).rowcount
                # Where there may be more the next transaction goes on, so that they go as fast as they come.
                self._swept = now if gone < _SWEPT else self._swept
            connection.execute("commit")
        except BaseException:
            if connection.in_transaction:
                connection.execute("rollback")
            raise
        return answers

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._connection = self._opened()
            except sqlite3.OperationalError:
                raise  # locked, or cannot be opened: it may be good
            except sqlite3.DatabaseError as error:
                aside = f"{self._path}.{time.time_ns()}.broken"
                os.replace(self._path, aside)
                for log in ("-wal", "-shm"):
                    if os.path.exists(self._path + log):
                        os.replace(self._path + log, aside + log)
                self._notify(f"{self._path} cannot be used ({error}): moved to {aside}, beginning with an empty one")
                self._connection = self._opened()
        return self._connection

    def _opened(self) -> sqlite3.Connection:
        # Ours alone from the beginning: sqlite would make it as the umask says.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(self._path, timeout=_BUSY, isolation_level=None)
        try:
            connection.execute("pragma journal_mode=wal")
            connection.execute("pragma synchronous=normal")
            connection.execute("begin immediate")
            ((version,),) = connection.execute("pragma user_version")
            if version == 0:
                connection.execute(_SCHEMA)
                connection.execute("create index expiry on state(expiry)")
                connection.execute(f"pragma user_version={_VERSION}")
            connection.execute("commit")
            if version not in (0, _VERSION):
                raise OSError(f"expected a file of version {_VERSION}, found {version}")
        except BaseException:
            connection.close()
            raise
        return connection


class _Table:
    """The rows of the file, inside a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def get(self, key: bytes) -> State | None:
        row = self._execute("select expiry, a, b, c from state where key = ?", (key,)).fetchone()
        return None if row is None else State(*row)

    def put(self, key: bytes, state: State) -> None:
        self._execute("insert or replace into state values (?, ?, ?, ?, ?)", (key, *state))

    def remove(self, key: bytes) -> None:
        self._execute("delete from state where key = ?", (key,))


def _resolve(done: "asyncio.Future[Result]", result: Result | StoreError) -> None:
    if done.done():
        return
    if isinstance(result, StoreError):
        done.set_exception(result)
    else:
        done.set_result(result)
