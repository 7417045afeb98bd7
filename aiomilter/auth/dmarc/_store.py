"""Where records wait until a report is due: a directory with a file for each day, one line of JSON for each message.

Files are opened for append, and a line is one write, so several processes may share a directory.  A line that was only written
in part, or is not one of ours, is passed over.

Source: RFC 9990 section 3.1; RFC 8259.
"""

import contextlib
import json
import os
import re
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, BinaryIO, Final, get_args

from aiomilter.auth.dmarc._evaluation import Override, OverrideType
from aiomilter.auth.dmarc._record import Alignment, Disposition, Psd, Record
from aiomilter.auth.dmarc._report import DispositionDone, DmarcRecord, SignatureResult
from aiomilter.auth.spf import Result as SpfWord
from aiomilter.dns import question_name

__all__ = ["DayRecords", "ReportStore", "decoded", "encoded"]

_DAY: Final = 86_400
_SETTLED: Final = 60
"""Seconds after a day's end in which a process may still write to its file."""
_MAX_LINE: Final = 65_536
_MAX_TEXT: Final = 2_048
_MAX_COUNT: Final = 10**9
_MAX_LIST: Final = 100
# What the name of a report's file may hold.
_HOST: Final = re.compile(r"[a-z0-9_.-]+", re.ASCII)
_NAME: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})\.jsonl", re.ASCII)


class ReportStore:
    """Keeps the records of messages in a directory until ``aiomilter dmarc report`` makes reports of them.

    Args:
        directory: Where; made at the first record if it is missing, for its owner alone.
        max_size: Octets of one day's records at most; more records are dropped.
        keep: Days; older files are removed when a new day begins, reported or not.
        clock: Gives the time in seconds since 1970.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        max_size: int = 200_000_000,
        keep: int = 7,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if max_size < _MAX_LINE:
            raise ValueError(f"max_size: expected {_MAX_LINE} octets or more, found {max_size}")
        if keep < 1:
            raise ValueError(f"keep: expected 1 day or more, found {keep}")
        self.directory: Final = Path(directory)
        self.dropped: int = 0
        """Records that could not be kept."""
        self._max_size = max_size
        self._keep = keep
        self._clock = clock
        self._day = ""
        self._file = -1
        self._torn = False

    def add(self, record: DmarcRecord | None) -> str:
        """Keep the record of a message: one short write, some microseconds on a local disk.

        Args:
            record: What :meth:`Authentication.dmarc_record` returned; None, for a message without a policy, is passed over.
        Returns:
            Why it could not be kept; "" if it was.  Never raises, so that no message suffers from a full disk.
        """
        if record is None:
            return ""
        now = self._clock()
        try:
            self._open(_day(now))
            line = encoded(record)
            if os.fstat(self._file).st_size + len(line) > self._max_size:
                self.dropped += 1
                return f"{self.directory}: {self._max_size} octets of records today, no more are kept"
            if self._torn:
                line = b"\n" + line
            self._torn = os.write(self._file, line) != len(line)
        except OSError as error:
            self.dropped += 1
            return f"{self.directory}: {error.strerror}"
        if self._torn:
            self.dropped += 1
            return f"{self.directory}: the record was only written in part"
        return ""

    def close(self) -> None:
        """Close the file of the day; another record opens it again."""
        if self._file >= 0:
            os.close(self._file)
        self._file, self._day = -1, ""

    def due(self) -> "list[DayRecords]":
        """Return the days that are over and have records, oldest first.

        Raises:
            OSError: The directory cannot be read.
        """
        until = _day(self._clock() - _SETTLED)
        return [DayRecords(path) for day, path in self._files() if day < until]

    def _open(self, day: str) -> None:
        # Not one that was removed meanwhile.
        if self._day == day and os.fstat(self._file).st_nlink:
            return
        self.close()
        self.directory.mkdir(mode=0o700, exist_ok=True)
        path = self.directory / f"{day}.jsonl"
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        # Whoever wrote the last line may have been killed, or the disk may have been full.
        size = os.fstat(self._file).st_size
        self._torn = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"
        self._day = day
        self._remove_old()

    def _remove_old(self) -> None:
        oldest = _day(self._clock() - self._keep * _DAY)
        for day, path in self._files():
            if day < oldest:
                with contextlib.suppress(OSError):
                    DayRecords(path).remove()

    def _files(self) -> list[tuple[str, Path]]:
        names = sorted(os.listdir(self.directory))
        return [
            (found[1], self.directory / name)
            for name in names
            if (found := _NAME.fullmatch(name)) and _is_day(found[1])
        ]


class DayRecords:
    """The records of one day, and which domains have had their report.

    Args:
        path: The file.

    Attributes:
        name: The day, as in ``2026-11-30``.
        begin: Seconds since 1970 when the day began.
        end: When it ended.
        unread: Lines that are no record, once :meth:`domains` was called.
    """

    def __init__(self, path: Path) -> None:
        self.name: Final = path.stem
        start = datetime.strptime(path.stem, "%Y-%m-%d").replace(tzinfo=UTC)
        self.begin: Final = int(start.timestamp())
        self.end: Final = int((start + timedelta(days=1)).timestamp())
        self.unread: int = 0
        self._path = path
        self._reported = path.with_suffix(".reported")
        self._places: dict[str, array[int]] = {}

    def domains(self) -> list[str]:
        """Return the domains that are still to be reported to, in order.

        Only the places of their records are kept in memory.

        Raises:
            OSError: The file cannot be read.
        """
        self._places = {}
        self.unread = 0
        with open(self._path, "rb") as file:
            for at, line in _lines(file):
                record = decoded(line)
                if record is None:
                    self.unread += 1
                else:
                    self._places.setdefault(record.domain, array("Q")).append(at)
        with contextlib.suppress(FileNotFoundError):
            for domain in self._reported.read_text("utf-8", "replace").splitlines():
                self._places.pop(domain, None)
        return sorted(self._places)

    def records(self, domain: str) -> Iterator[DmarcRecord]:
        """Yield the records of a domain, in the order of the messages.

        Raises:
            OSError: The file cannot be read.
        """
        with open(self._path, "rb") as file:
            for at in self._places.get(domain, ()):
                file.seek(at)
                record = decoded(file.readline(_MAX_LINE))
                if record is not None:
                    yield record

    def mark(self, domain: str) -> None:
        """Note that a domain has had its report, or gets none.

        Raises:
            OSError: It cannot be written.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(self._reported, flags, 0o600)
        try:
            os.write(file, domain.encode() + b"\n")
        finally:
            os.close(file)
        self._places.pop(domain, None)

    def remove(self) -> None:
        """Remove the day.

        Raises:
            OSError: It cannot be removed.
        """
        self._path.unlink(missing_ok=True)
        self._reported.unlink(missing_ok=True)


def encoded(record: DmarcRecord) -> bytes:
    """Return a record as a line; a line that would be too long lacks the last signatures.

    Texts longer than any in honest mail are cut or, where they are addresses, left out.
    """
    policy = asdict(record.policy)
    for name in ("rua", "ruf"):
        policy[name] = [uri for uri in policy[name] if len(uri) <= _MAX_TEXT]
    while True:
        said = {
            "ip": str(record.source_ip),
            "header_from": record.header_from,
            "envelope_from": record.envelope_from,
            "domain": record.domain,
            "policy": policy,
            "published": record.published,
            "disposition": record.disposition,
            "dkim": record.dkim,
            "spf": record.spf,
            "signatures": [[text[:_MAX_TEXT] for text in each] for each in record.signatures],
            "spf_domain": record.spf_domain,
            "spf_result": record.spf_result,
            "reasons": [[each.type, each.comment[:_MAX_TEXT]] for each in record.reasons],
            "discovery_method": record.discovery_method,
            "count": record.count,
        }
        line = json.dumps(said, separators=(",", ":")).encode() + b"\n"
        if len(line) <= _MAX_LINE or not record.signatures:
            return line
        record = replace(record, signatures=record.signatures[: len(record.signatures) // 2])


def decoded(line: bytes) -> DmarcRecord | None:
    """Return the record that a line holds; None if it holds none."""
    try:
        said = json.loads(line)
        domain = _text(said["domain"])
        if not _HOST.fullmatch(domain) or question_name(domain) != domain:
            return None
        return DmarcRecord(
            source_ip=ip_address(_text(said["ip"])),
            header_from=_text(said["header_from"]),
            envelope_from=None if said["envelope_from"] is None else _text(said["envelope_from"]),
            domain=domain,
            policy=_policy(said["policy"]),
            published=_word(said["published"], Disposition),
            disposition=_word(said["disposition"], DispositionDone),
            dkim="pass" if said["dkim"] == "pass" else "fail",
            spf="pass" if said["spf"] == "pass" else "fail",
            signatures=tuple(SignatureResult(*map(_text, each)) for each in said["signatures"][:_MAX_LIST]),
            spf_domain=_text(said["spf_domain"]),
            spf_result=_word(said["spf_result"], SpfWord),
            reasons=tuple(
                Override(_word(kind, OverrideType), _text(comment)) for kind, comment in said["reasons"][:_MAX_LIST]
            ),
            discovery_method="psl" if said["discovery_method"] == "psl" else "treewalk",
            count=_count(said["count"]),
        )
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def _policy(said: Any) -> Record:
    return Record(
        p=_word(said["p"], Disposition),
        sp=None if said["sp"] is None else _word(said["sp"], Disposition),
        np=None if said["np"] is None else _word(said["np"], Disposition),
        adkim=_word(said["adkim"], Alignment),
        aspf=_word(said["aspf"], Alignment),
        psd=_word(said["psd"], Psd),
        testing=said["testing"] is True,
        fo=_text(said["fo"]),
        rua=tuple(map(_text, said["rua"][:_MAX_LIST])),
        ruf=tuple(map(_text, said["ruf"][:_MAX_LIST])),
        problem=_text(said["problem"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise ValueError("expected a text")
    return value


def _word(value: Any, words: Any) -> Any:
    if value not in get_args(words):
        raise ValueError("expected one of the words")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= _MAX_COUNT:
        raise ValueError("expected a count")
    return value


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield lines with their places; what is longer than a record is cut, and so is none."""
    at = 0
    while line := file.readline(_MAX_LINE):
        if line != b"\n":
            yield at, line
        at += len(line)
        while not line.endswith(b"\n") and (line := file.readline(_MAX_LINE)):
            at += len(line)


def _is_day(name: str) -> bool:
    try:
        date.fromisoformat(name)
    except ValueError:
        return False
    return True


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
