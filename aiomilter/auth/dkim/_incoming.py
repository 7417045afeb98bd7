"""One message while it comes: its header is kept, its body hashed; what all that sign and verify have in common."""

import asyncio
from typing import Final

from aiomilter.auth.dkim._body import BodyHashes
from aiomilter.mail.headers import HeaderSection

__all__ = ["MAX_BODY_HASHES", "Incoming"]

MAX_BODY_HASHES: Final = 3
"""Different hashes of one body, for all signatures that are verified."""

# Octets that are hashed before others have their turn.
_TURN: Final = 262_144


class Incoming:
    """Takes the header of one message, then its body in chunks, and keeps no body.

    Args:
        headers: Where the header is kept.
        hashes: The hashes to make of the body.
    """

    def __init__(self, headers: HeaderSection, hashes: BodyHashes) -> None:
        self.headers: HeaderSection = headers
        """The header, as far as it has come."""
        self._hashes = hashes
        self._ended = False

    def header(self, raw: bytes) -> None:
        """Take the next header field.

        Args:
            raw: Its octets, folds as CRLF, as :attr:`aiomilter.Header.raw` has them.
        Raises:
            RuntimeError: The header has ended.
        """
        if self._ended:
            raise RuntimeError("expected header() before end_of_headers()")
        self.headers.append(raw)

    def share(self, headers: HeaderSection, hashes: BodyHashes) -> None:
        """Have header and body from someone who takes them for several: each field is kept, and each hash made, once.

        Args:
            headers: The header, which someone fills until it ends.
            hashes: What someone gives the body to.
        """
        self.headers = headers
        self._hashes = hashes

    def end_of_headers(self) -> None:
        """Take it that the header has ended."""
        self._ended = True

    def body(self, chunk: bytes) -> None:
        """Take the next octets of the body, cut anywhere; line ends are CRLF.

        Raises:
            RuntimeError: The header has not ended.
        """
        self._expect_ended("body")
        self._hashes.update(chunk)

    def _expect_ended(self, method: str) -> None:
        if not self._ended:
            raise RuntimeError(f"expected end_of_headers() before {method}()")

    async def _take(self, section: HeaderSection, message: bytes, begin: int) -> None:
        """Take a message at hand: its header as it was read, and its body, which begins at ``begin``."""
        self.headers = section
        self.end_of_headers()
        for at in range(begin, len(message), _TURN):
            self.body(message[at : at + _TURN])
            await asyncio.sleep(0)
