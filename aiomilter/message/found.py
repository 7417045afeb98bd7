"""What is found in a body: its parts, and text that PGP has signed or encrypted.

A large body is searched while it arrives, a small one when its parts are first used: many filters use none.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from aiomilter.message.headers import Field
from aiomilter.message.structure import Structure

__all__ = ["SMALL", "Found"]

SMALL: Final = 65_536
"""Octets of a body that is searched at first use: as many as one piece has, so the loop waits no longer for it."""
_PGP: Final = b"-----BEGIN PGP "
_MOST_PGP: Final = 1_000


class Found:
    """What is found in one body.

    Args:
        fields: Those of the message, all there before its body comes.
    """

    __slots__ = ("_ended", "_fields", "_pgp", "_size", "_structure", "_tail", "_unread")

    def __init__(self, fields: Sequence[Field]) -> None:
        self._fields = fields
        self._structure: Structure | None = None
        self._unread: Sequence[bytes] = ()
        self._ended = False
        self._pgp: list[int] = []
        self._size = 0
        self._tail = b""

    @property
    def begun(self) -> bool:
        """Whether the body is searched while it arrives."""
        return self._structure is not None

    @property
    def structure(self) -> Structure:
        """The parts of the body, which has ended."""
        return self._structure if self._ended and self._structure is not None else self._finished()

    @property
    def pgp(self) -> list[int]:
        """Where in the body, which has ended, text begins that PGP has signed or encrypted; 1,000 places at most."""
        if not self._ended:
            self._finished()
        return self._pgp

    def take(self, pieces: Iterable[bytes]) -> None:
        """Search the next pieces of the body."""
        structure = self._structure or self._begin()
        for octets in pieces:
            self._look_for_pgp(octets)
            structure.feed(octets)
            self._size += len(octets)

    def keep(self, pieces: Sequence[bytes]) -> None:
        """Keep a whole body, to be searched at first use."""
        self._unread = pieces

    def _begin(self) -> Structure:
        # The octets are compared first: a key is made when it is asked for, and few fields are of these.
        content = [field for field in self._fields if field.raw[:8].lower() == b"content-"]
        self._structure = Structure(b"".join([field.raw for field in content if field.key.startswith(b"content-")]))
        return self._structure

    def _finished(self) -> Structure:
        unread, self._unread = self._unread, ()
        self.take(unread)
        structure, self._ended = self._structure, True
        assert structure is not None
        structure.end()
        return structure

    def _look_for_pgp(self, octets: bytes) -> None:
        data, base = self._tail + octets, self._size - len(self._tail)
        # Where there is none, as in most, CPython finds that out from the end in a quarter of the time.
        at = data.find(_PGP) if data.rfind(_PGP) >= 0 else -1
        while at >= 0 and len(self._pgp) < _MOST_PGP:
            self._pgp.append(base + at)
            at = data.find(_PGP, at + len(_PGP))
        self._tail = data[-len(_PGP) + 1 :]
