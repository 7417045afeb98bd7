"""Octets in, whole frames out; and whole frames from what goes in them.

A frame is ``u32 length, octet code, payload``, the length counting code and payload.
"""

from collections.abc import Callable
from functools import lru_cache
from struct import Struct, pack
from typing import Any, Final

from aiomilter.exceptions import LocalProtocolError, RemoteProtocolError
from aiomilter.wire.constants import MAX_FRAME_SIZE
from aiomilter.wire.foreign import MILTER, NEEDED, protocol_of

__all__ = ["FrameBuffer", "packet"]

HEAD: Final = Struct(">IB")
"""Length and code."""
_WORTHWHILE: Final = 4096
"""Octets that are worth a copy to be let go."""
_COPIED: Final = 16_384
"""Octets behind an unfinished frame that are joined to it as well: to leave them where they are costs as much as this copy."""
_MANY_PARTS: Final = 256
"""Pieces of an unfinished frame that are kept as they came: few enough to take little, enough to be joined seldom."""


def packet(code: int, payload: bytes = b"", max_size: int = MAX_FRAME_SIZE) -> bytes:
    """Return a whole packet: length, code, payload.

    Args:
        code: The code octet.
        payload: What follows it.
        max_size: Most octets of payload that were agreed on.

    Raises:
        LocalProtocolError: The payload is larger; nothing of it may be sent.

    Source: aiomilter/help/protocol.rst, P-001 and P-006.
    """
    if len(payload) > max_size:
        raise LocalProtocolError(f"packet {chr(code)}: expected at most {max_size} octets, found {len(payload)}")
    return pack(">IB", len(payload) + 1, code) + payload


@lru_cache(maxsize=64)
def head_after(size: int) -> Callable[..., tuple[Any, ...]]:
    """Return what unpacks, from octets and a place in them, so many octets of one frame, and length and code of the next."""
    return Struct(f">{size}sIB").unpack_from


class FrameBuffer:
    """Octets from a peer, cut into frames.

    Nothing is copied but payloads: what follows a frame stays where it is, and octets of an unfinished frame are joined
    once, when it is whole, without what follows it (``benchmarks throughput body``: 15 to 20 % of our part, which is a third).

    Args:
        max_size: Most octets of payload in a frame; a larger one is refused when its length is read, before it is kept.

    Source: aiomilter/help/protocol.rst, P-001 to P-007.
    """

    __slots__ = ("data", "end", "looks", "max_length", "missing", "parts", "pos", "skip")

    def __init__(self, max_size: int = MAX_FRAME_SIZE) -> None:
        # The largest length of a frame: its payload and its code.
        self.max_length: int = max_size + 1
        self.data: bytes = b""
        self.pos: int = 0
        self.end: int = 0
        self.parts: list[bytes] = []
        # Octets of the first part that were joined to a frame already.
        self.skip: int = 0
        # Octets that must come before another frame can be whole, once :meth:`refill` has found one unfinished.
        self.missing: int = 0
        # Unfinished frames found so far; one whose head is unfinished, too, may count twice.
        self.looks: int = 0

    def __len__(self) -> int:
        """Octets that wait to be read as frames."""
        return self.end - self.pos + sum(map(len, self.parts)) - self.skip

    @property
    def unfinished(self) -> bool:
        """Whether something was kept when all that had come was looked at."""
        return bool(self.data or self.parts)

    @property
    def kept(self) -> int:
        """Octets in memory, including octets already read that arrived together with unread ones."""
        return len(self.data) + sum(map(len, self.parts))

    def feed(self, data: bytes) -> None:
        """Take octets from the peer."""
        # Octets already read stay until refill() drops them: a caller that reads on has its place in them.
        if not self.end and not self.parts:
            self.data, self.end, self.missing = data, len(data), 0
            return
        self.parts.append(data)
        self.missing -= len(data)
        if len(self.parts) >= _MANY_PARTS:
            # A piece of two octets is an object of 35: a peer that dribbles would hold 20 times what it has sent.
            self.parts = [b"".join(self.parts)[self.skip :]]
            self.skip = 0

    def next_frame(self) -> tuple[int, bytes] | None:
        """Return code and payload of the next frame; None until more octets come.

        Raises:
            RemoteProtocolError: The length is 0 or above the limit.
        """
        while True:
            pos, end = self.pos, self.end
            if end - pos >= 5:
                length, code = HEAD.unpack_from(self.data, pos)
                if not 0 < length <= self.max_length:
                    raise self._refusal(length)
                stop = pos + 4 + length
                if stop <= end:
                    self.pos = stop
                    return code, self.data[pos + 5 : stop]
            if not self.refill():
                return None

    def refill(self) -> bool:
        """Record how much the unfinished frame at ``pos`` lacks; return whether there is more to look at.

        Raises:
            RemoteProtocolError: The length is 0 or above the limit.
        """
        # Nothing was read since the last look, so that a peer that sends single octets costs one sum a frame, not one each.
        if self.missing > 0:
            return False
        have = self.end - self.pos
        if not have and not self.parts:
            # Drop the octets already read: an idle connection need not keep them.
            self.data, self.pos, self.end = b"", 0, 0
            return False
        need = 4
        if have >= 4:
            length = int.from_bytes(self.data[self.pos : self.pos + 4], "big")
            if not 0 < length <= self.max_length:
                raise self._refusal(length)
            need = 4 + length
        waits = sum(map(len, self.parts)) - self.skip
        self.missing = need - have - waits
        self.looks += 1
        if waits and self.missing <= 0:
            self._go_on(have, need, waits)
            self.missing = 0
            return True
        if self.pos > _WORTHWHILE and have < self.pos:
            # A few octets need not keep a whole read, of up to 256 KiB, until the rest of their frame is here.
            self.data, self.pos, self.end = self.data[self.pos :], 0, have
        return False

    def _refusal(self, length: int) -> RemoteProtocolError:
        """Return the error of the octets at ``pos``, which are not a frame."""
        name = protocol_of(bytes(self.data[self.pos : self.pos + NEEDED]))
        if name not in (MILTER, None):
            return RemoteProtocolError(f"speaks {name}, not {MILTER}")
        return RemoteProtocolError(f"frame: expected a length of 1 to {self.max_length}, found {length}")

    def _go_on(self, have: int, need: int, waits: int) -> None:
        """Look at newly received octets: the frame that is complete now, or the octets behind the last.

        Args:
            have: Octets of that frame in ``data``.
            need: Octets of it in all, or of its head where even that is not here.
            waits: Octets in all parts.
        """
        parts = self.parts
        if not have:
            self.data, self.pos = parts.pop(0), self.skip
            self.skip = 0
        elif waits - (need - have) <= _COPIED:
            self.data, self.pos = b"".join([self.data[self.pos :], parts[0][self.skip :], *parts[1:]]), 0
            parts.clear()
            self.skip = 0
        else:
            pieces: list[bytes | memoryview] = [memoryview(self.data)[self.pos :]]
            need -= have
            while need:
                piece = memoryview(parts[0])[self.skip : self.skip + need]
                pieces.append(piece)
                need -= len(piece)
                self.skip += len(piece)
                if self.skip == len(parts[0]):
                    del parts[0]
                    self.skip = 0
            self.data, self.pos = b"".join(pieces), 0
        self.end = len(self.data)


class Lookahead:
    """Walks over unread frames, to find early whether one of some codes is among them.

    Each octet is looked at once, however the peer splits them.

    Args:
        codes: The codes to look for.
        until: The codes that end the walk: behind a command that waits for its answer nothing is urgent.
    """

    __slots__ = ("codes", "found", "head", "skip", "until", "walked")

    def __init__(self, codes: frozenset[int], until: frozenset[int]) -> None:
        self.codes: frozenset[int] = codes
        self.until: frozenset[int] = until
        # The code that ended the walk, one of either; and the octets walked over so far.
        self.found: int | None = None
        self.walked: int = 0
        self.head: bytes = b""
        self.skip: int = 0

    def feed(self, data: bytes, pos: int = 0) -> int | None:
        """Take octets from ``pos`` on and return the code that ended the walk if it was looked for, else None."""
        start, end = pos, len(data)
        while self.found is None and pos < end:
            if self.skip:
                step = min(self.skip, end - pos)
                self.skip -= step
                pos += step
                continue
            step = HEAD.size - len(self.head)
            self.head += data[pos : pos + step]
            pos += step
            if len(self.head) == HEAD.size:
                length, code = HEAD.unpack(self.head)
                self.head = b""
                # A length of 0 is refused when the frame is read; here it only must not stop the walk.
                self.skip = max(0, length - 1)
                if code in self.codes or code in self.until:
                    self.found = code
        self.walked += min(pos, end) - start
        return self.found if self.found in self.codes else None
