"""A store in an sqlite file, for the workers of one machine.

One thread in each process does the steps: all that wait are one transaction, so that the file is written once for them.

Source: aiomilter/help/stores.rst.
"""

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, NamedTuple, TypeVar

from aiomilter.exceptions import StoreError
from aiomilter.policy.stores.clock import Clock
from aiomilter.policy.stores.moving import Row
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
_Found = TypeVar("_Found")


class _Job(NamedTuple):
    """A step, and who waits for it."""

    op: Op
    keys: Sequence[bytes]
    args: Sequence[int]
    loop: asyncio.AbstractEventLoop
    done: "asyncio.Future[Result | StoreError]"


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
        self._jobs: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        self._due: list[_Job] = []
        self._waiting = 0
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
        if self._waiting >= _WAITING:
            raise StoreError(f"{self._path}: {_WAITING} steps wait already")
        loop = asyncio.get_running_loop()
        job = _Job(op, keys, args, loop, loop.create_future())
        if not self._due:
            # Those of one turn of the loop go together: a thread that is woken for each takes its turns with the loop.
            loop.call_soon(self._hand_over)
        self._due.append(job)
        self._waiting += 1
        try:
            result = await job.done
        finally:
            self._waiting -= 1
        if isinstance(result, StoreError):
            raise StoreError(str(result))
        return result

    def _hand_over(self) -> None:
        due, self._due = self._due, []
        self._jobs.put(due)

    async def ready(self) -> str | None:
        """Return what keeps it from working; None if nothing does."""
        try:
            await self.step(Op.PAIR, (), (1, 0, 0))
        except StoreError as error:
            return str(error)
        return None

    async def fetch(self, keys: Sequence[bytes]) -> list[State | None]:
        """Return the states of some keys."""

        def read(connection: sqlite3.Connection) -> list[State | None]:
            table, now = _Table(connection), self._clock()
            found = [table.get(key) for key in keys]
            return [state if state is not None and state.expiry > now else None for state in found]

        return await self._apart(read)

    async def rows(self) -> AsyncIterator[list[Row]]:
        """Yield all that is kept, some at a time."""
        last = b""
        while True:

            def read(connection: sqlite3.Connection, last: bytes = last) -> list[Row]:
                query = "select * from state where key > ? and expiry > ? order by key limit ?"
                return [
                    Row(key, State(*more)) for key, *more in connection.execute(query, (last, self._clock(), _SWEPT))
                ]

            found = await self._apart(read)
            if not found:
                return
            yield found
            last = found[-1].key

    async def load(self, rows: Sequence[Row]) -> int:
        """Write rows, unless what is there has a later expiry, and return how many were written."""

        def write(connection: sqlite3.Connection) -> int:
            columns = ", ".join(f"{name} = excluded.{name}" for name in State._fields)
            later = f"on conflict(key) do update set {columns} where excluded.expiry > state.expiry"
            query = f"insert into state values (?, ?, ?, ?, ?) {later}"
            given = [(row.key, *row.state) for row in rows]
            return connection.executemany(query, given).rowcount

        return await self._apart(write)

    async def _apart(self, work: "Callable[[sqlite3.Connection], _Found]") -> "_Found":
        """Do what a step cannot, in a thread and transaction of its own."""

        def do() -> _Found:
            connection = self._opened()
            try:
                connection.execute("begin immediate")
                found = work(connection)
                connection.execute("commit")
            finally:
                connection.close()
            return found

        try:
            return await asyncio.to_thread(do)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self._path}: {error}") from None

    async def aclose(self) -> None:
        """Close the file, once the steps that wait are done."""
        self._closed = True
        if self._thread is not None:
            if self._due:
                self._hand_over()
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        """Do what comes, until None does."""
        ends = False
        while not ends:
            given = [self._jobs.get()]
            while not self._jobs.empty():
                given.append(self._jobs.get())
            ends = None in given
            jobs = [job for some in given if some is not None for job in some]
            for start in range(0, len(jobs), _TOGETHER):
                self._do(jobs[start : start + _TOGETHER])
        if self._connection is not None:
            self._connection.close()

    def _do(self, jobs: list[_Job]) -> None:
        wanted = [job for job in jobs if not job.done.cancelled()]
        try:
            results: list[Result | StoreError] = list(self._together(wanted))
        except Exception as error:  # noqa: BLE001  # whatever is in the file, the thread goes on for all others
            results = [StoreError(f"{self._path}: {error}")] * len(wanted)
        by_loop: dict[
            asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Result | StoreError], Result | StoreError]]
        ] = {}
        for job, result in zip(wanted, results, strict=True):
            by_loop.setdefault(job.loop, []).append((job.done, result))
        for loop, found in by_loop.items():
            with contextlib.suppress(RuntimeError):  # it is closed: nobody waits
                # Once for all: each call wakes the loop by a system call.
                loop.call_soon_threadsafe(_resolve, found)

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
            except sqlite3.DatabaseError:
                self._connection = self._renewed()
        return self._connection

    def _renewed(self) -> sqlite3.Connection:
        """Move a broken file aside, and begin with an empty one; of several processes only one does."""
        directory = os.open(os.path.dirname(self._path) or ".", os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            try:
                return self._opened()  # another process has been here meanwhile
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                aside = f"{self._path}.{time.time_ns()}.broken"
                os.replace(self._path, aside)
                for log in ("-wal", "-shm"):
                    if os.path.exists(self._path + log):
                        os.replace(self._path + log, aside + log)
                self._notify(f"{self._path} cannot be used ({error}): moved to {aside}, beginning with an empty one")
                return self._opened()
        finally:
            os.close(directory)

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


def _resolve(found: "list[tuple[asyncio.Future[Result | StoreError], Result | StoreError]]") -> None:
    """Let steps go on; an error is a result, since one that is not read would be logged."""
    for done, result in found:
        if not done.done():
            done.set_result(result)
