"""Octets in, whole frames out; and whole frames from what goes in them.

A frame is ``u32 length, octet code, payload``, the length counting code and payload.
"""

from collections.abc import Callable
from functools import lru_cache
from struct import Struct, pack
from typing import Any, Final

from aiomilter.exceptions import LocalProtocolError, RemoteProtocolError
from aiomilter.wire.constants import MAX_FRAME_SIZE

__all__ = ["HEAD", "FrameBuffer", "Lookahead", "head_after", "packet"]

HEAD: Final = Struct(">IB")
"""Length and code."""
_WORTHWHILE: Final = 4096
"""Octets that are worth a copy to be let go."""
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

    Source: protocol.md P-001, P-006.
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
    once, when it is whole.

    Args:
        max_size: Most octets of payload in a frame; a larger one is refused when its length is read, before it is kept.

    Source: protocol.md P-001 to P-007.
    """

    __slots__ = ("data", "end", "looks", "max_size", "missing", "parts", "pos")

    def __init__(self, max_size: int = MAX_FRAME_SIZE) -> None:
        self.max_size = max_size
        self.data = b""
        self.pos = 0
        self.end = 0
        self.parts: list[bytes] = []
        # Octets that must come before another frame can be whole, once :meth:`refill` has found one unfinished.
        self.missing = 0
        # Unfinished frames found so far; one whose head is unfinished, too, may count twice.
        self.looks = 0

    def __len__(self) -> int:
        """Octets that wait to be read as frames."""
        return self.end - self.pos + sum(map(len, self.parts))

    @property
    def unfinished(self) -> bool:
        """Whether something was kept when all that had come was looked at."""
        return bool(self.data or self.parts)

    @property
    def kept(self) -> int:
        """Octets in memory, with those already read that stay as long as what came with them."""
        return len(self.data) + sum(map(len, self.parts))

    def feed(self, data: bytes) -> None:
        """Take octets from the peer."""
        # What was read stays until refill() lets go of it: whoever is about to read on has its place in it.
        if not self.end and not self.parts:
            self.data, self.end, self.missing = data, len(data), 0
            return
        self.parts.append(data)
        self.missing -= len(data)
        if len(self.parts) >= _MANY_PARTS:
            # A piece of two octets is an object of 35: a peer that dribbles would hold 20 times what it has sent.
            self.parts = [b"".join(self.parts)]

    def fill(self) -> bool:
        """Join what waits, if that can make a frame whole; return whether there is something new to look at."""
        if not self.parts or self.missing > 0:
            return False
        self.data = b"".join([self.data[self.pos :], *self.parts])
        self.pos, self.end = 0, len(self.data)
        self.parts.clear()
        self.missing = 0
        return True

    def next_frame(self) -> tuple[int, bytes] | None:
        """Return code and payload of the next frame; None until more octets come.

        Raises:
            RemoteProtocolError: The length is 0 or above the limit.
        """
        while True:
            pos, end = self.pos, self.end
            if end - pos >= 5:
                length, code = HEAD.unpack_from(self.data, pos)
                if not 0 < length <= self.max_size + 1:
                    raise RemoteProtocolError(f"frame: expected a length of 1 to {self.max_size + 1}, found {length}")
                stop = pos + 4 + length
                if stop <= end:
                    self.pos = stop
                    return code, self.data[pos + 5 : stop]
            if not self.refill():
                return None

    def refill(self) -> bool:
        """Say what is missing after the frame at ``pos`` was found unfinished, and :meth:`fill`.

        Raises:
            RemoteProtocolError: The length is 0 or above the limit.
        """
        # Nothing was read since the last look, so that a peer that sends single octets costs one sum a frame, not one each.
        if self.missing > 0:
            return False
        have = self.end - self.pos
        if not have and not self.parts:
            # Let go of what was read: an idle connection need not keep it.
            self.data, self.pos, self.end = b"", 0, 0
            return False
        need = 4
        if have >= 4:
            length = int.from_bytes(self.data[self.pos : self.pos + 4], "big")
            if not 0 < length <= self.max_size + 1:
                raise RemoteProtocolError(f"frame: expected a length of 1 to {self.max_size + 1}, found {length}")
            need = 4 + length
        self.missing = need - have - sum(map(len, self.parts))
        self.looks += 1
        if self.fill():
            return True
        if self.pos > _WORTHWHILE and have < self.pos:
            # A few octets need not keep a whole read, of up to 256 KiB, until the rest of their frame is here.
            self.data, self.pos, self.end = self.data[self.pos :], 0, have
        return False


class Lookahead:
    """Walks over frames that nobody has read yet, to see early whether one of some codes is among them.

    Each octet is looked at once, however the peer splits them.

    Args:
        codes: The codes to look for.
        until: The codes that end the walk: behind a command that waits for its answer nothing is urgent.
    """

    __slots__ = ("codes", "found", "head", "skip", "until", "walked")

    def __init__(self, codes: frozenset[int], until: frozenset[int]) -> None:
        self.codes = codes
        self.until = until
        # The code that ended the walk, one of either; and the octets walked over so far.
        self.found: int | None = None
        self.walked = 0
        self.head = b""
        self.skip = 0

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
