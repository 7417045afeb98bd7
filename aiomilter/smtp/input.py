"""What an SMTP client sends, cut into command lines and the content of messages.

Source: RFC 5321 sections 2.3.8, 4.1.1.4 and 4.5.2.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Final

__all__ = ["READ_SIZE", "ClientInput"]

READ_SIZE: Final = 65536
"""Octets that are read at once."""
_COMMAND_SIZE: Final = 4096
"""Octets of a command line; what RFC 5321 asks for is 512, extensions add to it."""
_END: Final = b"\r\n.\r\n"
# A bare LF ends a line, too, as in Postfix 3.7.11; but there a dot alone after it would end the message (SMTP smuggling).
# Here it is content.
_STUFFED: Final = re.compile(rb"\n\.(?!\r*+\n)")


class ClientInput:
    """Collects octets of a client.

    Args:
        read: Returns more octets, at most :data:`READ_SIZE`; what it raises at the end of the connection goes on to the caller.
    """

    def __init__(self, read: Callable[[], Awaitable[bytes]]) -> None:
        self._read = read
        self._octets = bytearray()

    async def line(self) -> bytes | None:
        """Return the next command line, without its end; None if it was too long."""
        while True:
            end = self._octets.find(b"\n")
            if end >= 0:
                line = bytes(self._octets[:end]) if end <= _COMMAND_SIZE else None
                del self._octets[: end + 1]
                return line if line is None else line.removesuffix(b"\r")
            # Enough is kept to know that it is too long, whatever comes.
            del self._octets[_COMMAND_SIZE + 1 :]
            self._octets += await self._read()

    async def content(self, max_size: int) -> bytes | None:
        """Return the content that follows DATA, dots unstuffed; None if it is larger than ``max_size`` octets.

        Only CRLF, dot, CRLF ends it: a lone LF before or after the dot is content, and no second message.
        """
        self._octets[:0] = b"\r\n"
        limit = max_size + len(_END)
        scanned = 0
        fits = True
        while (end := self._octets.find(_END, scanned)) < 0:
            scanned = max(0, len(self._octets) - len(_END) + 1)
            if not fits or len(self._octets) > limit + 2:
                fits = False
                del self._octets[:scanned]
                scanned = 0
            self._octets += await self._read()
        fits = fits and end <= max_size
        octets = bytes(self._octets[2 : end + 2]) if fits else None
        del self._octets[: end + len(_END)]
        if octets is None:
            return None
        return _STUFFED.sub(b"\n", b"\n" + octets)[1:]
