"""A file that several programs replace: ``Milter.plock``."""

import os
import time
from typing import TextIO

__all__ = ["PLock"]

# Looked at this often while somebody else has the lock: seconds.
_GLANCE = 0.05


class PLock:
    """Replaces a file as a whole, one writer at a time, as passwd is replaced.

    Who makes the lock file has the lock; the new content is written to it, and it takes the file's place.

    Args:
        basename: Path of the file.

    Source: observed of pymilter 1.0.5.
    """

    def __init__(self, basename: str) -> None:
        self.basename = basename
        self.fp: TextIO | None = None

    def lock(self, lockname: str | None = None, mode: int = 0o660, strict_perms: bool = False) -> TextIO:
        """Take the lock.

        Args:
            lockname: Path of the lock file; the file's own with ``.lock`` unless given.
            mode: Permissions of the new file, whatever the umask, but writing by others; it gets those of the file that it
                replaces as well.
            strict_perms: Whether failing to set permissions is an error.
        Returns:
            The new file, to be written to.
        Raises:
            FileExistsError: Somebody has the lock.
            OSError: The lock file cannot be made.
        """
        self.unlock()
        self.lockname: str = lockname or self.basename + ".lock"
        descriptor = os.open(self.lockname, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        # Before anything can fail: unlock() is to find it.
        self.fp = os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape")
        try:
            self._keep_permissions(descriptor, mode)
        except OSError:
            if strict_perms:
                self.unlock()
                raise
        return self.fp

    def _keep_permissions(self, descriptor: int, mode: int) -> None:
        # Whatever the umask: the file's group is to be able to take part.
        mode &= ~0o002
        try:
            before = os.stat(self.basename)
        except FileNotFoundError:
            os.fchmod(descriptor, mode)
            return
        os.fchown(descriptor, -1, before.st_gid)
        os.fchmod(descriptor, (before.st_mode | mode) & 0o777)

    def wlock(self, lockname: str | None = None) -> TextIO:
        """Take the lock, once it is free; see :meth:`lock`."""
        while True:
            try:
                return self.lock(lockname)
            except FileExistsError:
                time.sleep(_GLANCE)

    def commit(self, backname: str | None = None) -> None:
        """Put what was written in the file's place and release the lock.

        Args:
            backname: Path under which the file that is replaced is kept; None does not keep it.
        Raises:
            OSError: The lock was not taken; the file cannot be written or replaced (the lock is released then, too).
        """
        if self.fp is None:
            raise OSError("File not locked")
        try:
            self.fp.close()
            if backname is not None:
                self._keep(backname)
            os.rename(self.lockname, self.basename)
        except OSError:
            self.unlock()
            raise
        self.fp = None

    def _keep(self, backname: str) -> None:
        # A link: at no moment is the file missing.
        if os.path.lexists(self.basename):
            kept = backname + ".new"
            os.link(self.basename, kept)
            os.rename(kept, backname)

    def unlock(self) -> None:
        """Release the lock and leave the file as it is; without the lock, do nothing."""
        if self.fp is None:
            return
        try:
            self.fp.close()
        finally:
            self.fp = None
            os.unlink(self.lockname)
