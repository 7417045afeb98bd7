"""The hash of a body, made while it comes, by a few octets of state however large it is.

Source: RFC 6376 sections 3.4.3, 3.4.4 and 3.7.
"""

from typing import Final, Protocol

from aiomilter.auth.dkim._canonical import Form, one_blank
from aiomilter.auth.dkim._crypto import new_hash

__all__ = ["BodyDigest", "BodyHashes", "BodySink", "BodyStream"]

_BLANKS: Final = b" \t"
# Octets that are taken at once: what is made of them is as large, and blanks are looked for in it a few times.
_SLICE: Final = 65_536
_EMPTY_LINES: Final = b"\r\n" * (_SLICE // 2)


class BodySink(Protocol):
    """Whatever takes the octets of a canonical body."""

    def update(self, octets: bytes, /) -> None:
        """Take the next octets."""
        ...


class BodyDigest:
    """One hash, of a whole canonical body or of its beginning."""

    __slots__ = ("_hash", "_left", "length")

    def __init__(self, algorithm: str, length: int | None) -> None:
        self._hash = new_hash(algorithm)
        self.length: int | None = length
        self._left = length

    def update(self, octets: bytes) -> None:
        """Take the next canonical octets."""
        if self._left is not None:
            octets = octets[: self._left]
            self._left -= len(octets)
        self._hash.update(octets)

    def digest(self) -> bytes:
        """Return the hash."""
        return self._hash.digest()


class BodyStream:
    """One body in one form, hashed while it comes, in pieces cut anywhere.

    What is kept is what cannot be decided yet: a CR, whether blanks stand before it, and how many line ends have come that
    may be empty lines at the end.

    Args:
        form: The canonicalisation.

    Source: RFC 6376 sections 3.4.3 and 3.4.4.
    """

    __slots__ = ("_blank", "_cr", "_form", "_line_ends", "_sinks", "size")

    def __init__(self, form: Form) -> None:
        self._form = form
        self._blank = False
        self._cr = False
        self._line_ends = 0
        self._sinks: list[BodySink] = []
        self.size = 0
        """Octets of the canonical body so far."""

    def add(self, algorithm: str, length: int | None = None) -> "BodyDigest":
        """Have a hash made, before the body comes.

        Args:
            algorithm: Its name for :mod:`hashlib`.
            length: Octets of the canonical body that it covers; None for all.
        """
        sink = BodyDigest(algorithm, length)
        self.copy_to(sink)
        return sink

    def copy_to(self, sink: "BodySink") -> None:
        """Have the canonical octets given to something else, before the body comes."""
        self._sinks.append(sink)

    def update(self, chunk: bytes) -> None:
        """Take the next octets of the body."""
        if len(chunk) <= _SLICE:
            self._take(chunk)
            return
        view = memoryview(chunk)
        for begin in range(0, len(chunk), _SLICE):
            self._take(bytes(view[begin : begin + _SLICE]))

    def finish(self) -> None:
        """End the body: it has all come."""
        if self._cr:
            self._emit(b" \r" if self._blank else b"\r")
        # The last line ends, whether it did or not; a relaxed body of no lines stays empty.
        if self._form == "simple" or self.size:
            self._hash(b"\r\n")

    def _take(self, chunk: bytes) -> None:
        if not chunk:
            return
        if self._cr or self._blank:
            chunk = b" " * self._blank + b"\r" * self._cr + chunk
        self._cr = chunk.endswith(b"\r")
        if self._cr:
            chunk = chunk[:-1]
        if self._form == "relaxed":
            kept = chunk.rstrip(_BLANKS)
            self._blank = len(kept) < len(chunk)
            chunk = one_blank(kept).replace(b" \r\n", b"\r\n")
        kept = chunk.rstrip(b"\r\n")
        ends = 0
        if len(kept) < len(chunk):
            # Of all CRs and LFs at the end, the line ends behind the last that is none.
            tail = chunk[len(kept) :].replace(b"\r\n", b".")
            ends = len(tail) - len(tail.rstrip(b"."))
            chunk = chunk[: len(chunk) - 2 * ends]
        if chunk:
            self._emit(chunk)
        self._line_ends += ends

    def _emit(self, octets: bytes) -> None:
        """Hash line ends that turned out to be no end of the body, and what came behind them."""
        while self._line_ends:
            number = min(self._line_ends, _SLICE // 2)
            self._hash(_EMPTY_LINES[: 2 * number])
            self._line_ends -= number
        self._hash(octets)

    def _hash(self, octets: bytes) -> None:
        self.size += len(octets)
        for sink in self._sinks:
            sink.update(octets)


class BodyHashes:
    """All hashes that the signatures of one message want of its body, each made once, whoever wants it.

    Args:
        limit: How many different ones there may be.

    Source: RFC 6376 section 3.7.
    """

    __slots__ = ("_digests", "_ended", "_limit", "_streams")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._streams: dict[Form, BodyStream] = {}
        self._digests: dict[tuple[str, Form, int | None], BodyDigest] = {}
        self._ended = False

    def want(self, algorithm: str, form: Form, length: int | None = None) -> BodyDigest | None:
        """Return the hash to be made, before the body comes; None if there are too many.

        Args:
            algorithm: Its name for :mod:`hashlib`.
            form: The canonicalisation.
            length: Octets of the canonical body that it covers; None for all.
        """
        key = (algorithm, form, length)
        found = self._digests.get(key)
        if found is None and len(self._digests) < self._limit:
            stream = self._streams.setdefault(form, BodyStream(form))
            found = self._digests[key] = stream.add(algorithm, length)
        return found

    def update(self, chunk: bytes) -> None:
        """Take the next octets of the body."""
        for stream in self._streams.values():
            stream.update(chunk)

    def finish(self) -> None:
        """End the body, unless it has ended."""
        if not self._ended:
            self._ended = True
            for stream in self._streams.values():
                stream.finish()

    def size(self, form: Form) -> int:
        """Return how many octets the body has in a form that a hash was wanted of."""
        return self._streams[form].size
