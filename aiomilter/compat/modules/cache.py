"""Addresses that a filter remembers for some days, in a file: ``Milter.cache``."""

import os
import time
from typing import Any

from aiomilter.compat.modules.plock import PLock

__all__ = ["AddrCache"]

_DAY = 24 * 60 * 60
# Octets of the addresses that were set, each with what it takes besides its text: some 100,000 usual ones.
_MAX_SIZE = 32 * 1024 * 1024
_ENTRY_SIZE = 200


class AddrCache:
    """Remembers addresses, each with a result, and domains for all their addresses; letter case does not count.

    The file has a line for each address: the address, and when it was seen unless it never expires.  Results other than
    None and ``""`` are remembered for the life of the program only.

    Senders choose what is set, so at most 32 MiB of that are remembered: the addresses that were set first are forgotten
    first, in memory, those of :meth:`addperm` included.  What was loaded stays.

    Args:
        renew: Days after which an address that was not set again is forgotten.
        fname: Path of the file that set addresses are appended to; None keeps them in memory.

    Source: observed of pymilter 1.0.5.
    """

    time_format = "%Y%b%d %H:%M:%S %Z"

    def __init__(self, renew: float = 7, fname: str | None = None) -> None:
        self.age: float = renew
        self.cache: dict[str, tuple[float | None, Any]] = {}
        self.fname = fname
        # In the order they were set, each with its size.
        self._set: dict[str, int] = {}
        self._size = 0

    def load(self, fname: str, age: float = 0) -> None:
        """Forget all, read the addresses of a file, and append to it from now on.

        The file is written anew without addresses that are too old; what it was is kept under its name with ``.old``.

        Args:
            fname: Path of the file; it may be missing.
            age: Days after which an address is forgotten; 0 takes the cache's own.
        Raises:
            OSError: The file cannot be read or written.
        """
        self.age = age or self.age
        self.fname = fname
        self.cache, self._set, self._size = {}, {}, 0
        oldest = time.time() - self.age * _DAY
        lock = PLock(fname)
        new = lock.wlock()
        try:
            with open(fname, encoding="utf-8", errors="surrogateescape") as file:
                for line in file:
                    if self._read(line.rstrip("\r\n"), oldest):
                        new.write(line)
        except FileNotFoundError:
            lock.unlock()
        except BaseException:
            lock.unlock()
            raise
        else:
            lock.commit(fname + ".old")

    def _read(self, line: str, oldest: float) -> bool:
        """Take one line over; false if it is not to be kept."""
        address, _, when = line.strip().partition(" ")
        if not when:
            self.cache[address.lower()] = (None, None)
            return True
        try:
            seen = time.mktime(time.strptime(when.strip(), self.time_format))
        except ValueError:
            return False
        if seen <= oldest:
            return False
        self.cache[address.lower()] = (seen, None)
        return True

    def has_precise_key(self, sender: str | None) -> bool:
        """Return whether exactly this address is in the cache."""
        return self._found(sender.lower()) if sender is not None else False

    def has_key(self, sender: str | None) -> bool:
        """Return whether an address, or its domain, is in the cache."""
        return self._key(sender) is not None

    def __contains__(self, sender: str | None) -> bool:
        return self.has_key(sender)

    def __len__(self) -> int:
        """Return how many addresses and domains are kept, those included that are too old and were not asked for since."""
        return len(self.cache)

    def __getitem__(self, sender: str) -> Any:
        """Return the result of an address, or of its domain.

        Raises:
            KeyError: Neither is remembered.
        """
        key = self._key(sender)
        if key is None:
            raise KeyError(sender)
        return self.cache[key][1]

    def __setitem__(self, sender: str, res: Any) -> None:
        """Remember an address from now on.

        Raises:
            OSError: The file cannot be written.
        """
        self._remember(sender.lower(), (time.time(), res))
        if self.fname and not res:
            self._append(f"{sender} {time.strftime(self.time_format, time.localtime())}")

    def addperm(self, sender: str, res: Any = None) -> None:
        """Add an address that never expires.

        Raises:
            OSError: The file cannot be written.
        """
        self._remember(sender.lower(), (None, res))
        if self.fname and not res:
            self._append(sender)

    def _remember(self, key: str, value: tuple[float | None, Any]) -> None:
        self._size -= self._set.pop(key, 0)
        self._set[key] = size = _ENTRY_SIZE + 4 * len(key)
        self._size += size
        self.cache[key] = value
        while self._size > _MAX_SIZE:
            oldest = next(iter(self._set))
            self._size -= self._set.pop(oldest)
            self.cache.pop(oldest, None)

    def _append(self, line: str) -> None:
        # An address is a peer's: its line ends are none of ours.
        line = line.replace("\r", "").replace("\n", "")
        with open(self.fname or os.devnull, "a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(line + "\n")

    def _key(self, sender: str | None) -> str | None:
        if sender is None:
            return None
        sender = sender.lower()
        for key in (sender, sender.rpartition("@")[2]):
            if self._found(key):
                return key
        return None

    def _found(self, key: str) -> bool:
        if key not in self.cache:
            return False
        seen = self.cache[key][0]
        if seen is not None and seen <= time.time() - self.age * _DAY:
            del self.cache[key]
            self._size -= self._set.pop(key, 0)
            return False
        return True
