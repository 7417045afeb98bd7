"""The directory of recorded sessions: files that only their owner may read, at most so many octets of them."""

import contextlib
import os
import time
from pathlib import Path
from typing import Final

__all__ = ["SUFFIX", "RecordDirectory"]

SUFFIX: Final = ".jsonl.gz"
"""How the names of recorded sessions end."""
_UNFINISHED: Final = ".part"
_MODE: Final = 0o600
_DIRECTORY_MODE: Final = 0o700


class RecordDirectory:
    """Writes files into a directory that other processes write into, too.

    Args:
        path: Of the directory; made, for its owner alone, if it is not there.
        max_size: Most octets of all recorded sessions in it; the oldest are removed.

    Raises:
        OSError: It cannot be made or written to.
    """

    def __init__(self, path: str | os.PathLike[str], max_size: int) -> None:
        self._path = Path(path)
        self.max_size: Final = max_size
        self._count = 0
        self._path.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        if not os.access(self._path, os.W_OK | os.X_OK):
            raise PermissionError(13, os.strerror(13), str(self._path))

    def write(self, octets: bytes, began: float) -> Path | None:
        """Write a session, and remove the oldest ones; return its file, None if it is larger than all may be.

        Args:
            octets: Of the file.
            began: When the session began, seconds since 1970.

        Raises:
            OSError: It cannot be written.
        """
        if len(octets) > self.max_size:
            return None
        self._make_room(len(octets))
        self._count += 1
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(began))
        # Of this moment, this process, and this session of it: names sort by time.
        path = self._path / f"{stamp}.{int(began % 1 * 1e6):06d}-{os.getpid()}-{self._count}{SUFFIX}"
        unfinished = path.with_name(path.name + _UNFINISHED)
        try:
            with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE), "wb") as file:
                file.write(octets)
            unfinished.rename(path)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
        return path

    def _make_room(self, size: int) -> None:
        """Remove the oldest sessions until there is room for one more."""
        found = sorted(self._sessions())
        total = sum(octets for _, octets, _ in found)
        for _, octets, entry in found:
            if total + size <= self.max_size:
                break
            # Another worker may have removed it.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry)
            total -= octets

    def _sessions(self) -> list[tuple[float, int, str]]:
        """Return when each session was written, its size and path."""
        found = []
        with os.scandir(self._path) as entries:
            for entry in entries:
                if entry.name.endswith((SUFFIX, SUFFIX + _UNFINISHED)):
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        found.append((status.st_mtime, status.st_size, entry.path))
        return found
