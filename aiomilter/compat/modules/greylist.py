"""A greylist in an SQLite file: ``Milter.greysql``, and ``Milter.greylist``, which was one in a Berkeley DB file.

The file is the one that pymilter's greysql keeps: either may open the other's.
"""

import csv
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

__all__ = ["Greylist"]

# Some clocks run a little fast: a client that waited for the time it was told is let in.
_LEEWAY: Final = 5

_TABLE: Final = """\
create table if not exists greylist(
    ip text, sender text, recipient text, firstseen timestamp, lastseen timestamp, cnt integer, umis text,
    primary key (ip, sender, recipient))
"""
_COLUMNS: Final = ("ip", "sender", "recipient", "firstseen", "lastseen", "cnt", "umis")
_SAME: Final = "ip = ? and sender = ? and recipient = ?"


class _Writable(Protocol):
    def write(self, text: str, /) -> Any: ...


class Greylist:
    """Counts the messages of each triple of client, sender and recipient, once a client has come back.

    Threads and processes may share the file; each method is one transaction.

    Args:
        dbname: Path of the file; it is made.
        grey_time: Minutes for which a new triple is put off.
        grey_expire: Hours within which it must come back, or it is new again.
        grey_retain: Days after its last message for which a triple is remembered.
    Raises:
        sqlite3.Error: The file cannot be opened.

    Source: observed of pymilter 1.0.5.
    """

    def __init__(self, dbname: str, grey_time: float = 10, grey_expire: float = 4, grey_retain: float = 36) -> None:
        self.ignoreLastByte = False
        self.greylist_time: float = grey_time * 60
        self.greylist_expire: float = grey_expire * 60 * 60
        self.greylist_retain: float = grey_retain * 24 * 60 * 60
        # Our own lock keeps the threads apart.
        self.conn: sqlite3.Connection = sqlite3.connect(dbname, isolation_level=None, check_same_thread=False)
        self._lock = threading.Lock()
        try:
            with self._transaction():
                self.conn.execute(_TABLE)
        except BaseException:
            self.conn.close()
            raise

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            # At once: a transaction that reads first and is overtaken would fail when it writes.
            self.conn.execute("begin immediate")
            try:
                yield
            except BaseException:
                self.conn.execute("rollback")
                raise
            self.conn.execute("commit")

    def check(self, ip: str, sender: str | None, recipient: str | None, timeinc: float = 0) -> int:
        """Count a message.

        Args:
            ip: Client address.
            sender: Envelope sender, as a key: letter case counts.
            recipient: Envelope recipient.
            timeinc: Seconds to add to the time, for tests.
        Returns:
            Messages of this triple that were let in, this one included; 0: put it off.
        """
        triple = (_text(ip), _text(sender), _text(recipient))
        now = time.time() + timeinc
        with self._transaction():
            row = self.conn.execute(f"select firstseen, lastseen, cnt from greylist where {_SAME}", triple).fetchone()
            if row is None:
                self.conn.execute("insert into greylist values(?, ?, ?, ?, ?, 0, null)", (*triple, now, now))
                return 0
            first, last, count = row
            new = last < now - self.greylist_retain or (count == 0 and first < now - self.greylist_expire)
            let_in = not new and first < now - self.greylist_time - _LEEWAY
            values = (now, now, 0) if new else (first, now, count + let_in)
            self.conn.execute(
                f"update greylist set firstseen = ?, lastseen = ?, cnt = ?, umis = null where {_SAME}",
                (*values, *triple),
            )
            return count + 1 if let_in else 0

    def clean(self, timeinc: float = 0) -> int:
        """Forget the triples that have not been seen for too long.

        Args:
            timeinc: Seconds to add to the time, for tests.
        Returns:
            How many were forgotten.
        """
        with self._transaction():
            oldest = time.time() + timeinc - self.greylist_retain
            return self.conn.execute("delete from greylist where lastseen < ?", (oldest,)).rowcount

    def export_csv(self, fp: _Writable, timeinc: float = 0) -> None:
        """Write the triples that are remembered as CSV, one a line, for :meth:`import_csv`.

        Args:
            fp: Text file.
            timeinc: Seconds to add to the time, for tests.
        """
        oldest = time.time() + timeinc - self.greylist_retain
        with self._transaction():
            rows = self.conn.execute(
                f"select {', '.join(_COLUMNS)} from greylist where lastseen >= ?", (oldest,)
            ).fetchall()
        csv.writer(fp, lineterminator="\n").writerows(rows)

    def import_csv(self, fp: Iterable[str]) -> None:
        """Remember triples that were written as CSV, all of them or, when one is wrong, none.

        Args:
            fp: Lines of client, sender, recipient, first and last time, count, comment (may be missing).
        Raises:
            ValueError: A line has another number of fields.
            sqlite3.IntegrityError: A triple is remembered already.
        """
        with self._transaction():
            for number, row in enumerate(csv.reader(fp), 1):
                if not row:
                    continue
                if len(row) not in (len(_COLUMNS) - 1, len(_COLUMNS)):
                    raise ValueError(f"line {number}: expected {len(_COLUMNS)} fields, found {len(row)}")
                values = (*row, None)[: len(_COLUMNS)]
                self.conn.execute(f"insert into greylist values({', '.join('?' * len(_COLUMNS))})", values)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self.conn.close()


def _text(value: str | None) -> str | None:
    """Return text for SQLite: octets that are not UTF-8 are escaped."""
    return None if value is None else value.encode("utf-8", "backslashreplace").decode()
