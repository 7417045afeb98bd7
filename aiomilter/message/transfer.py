"""Contents as parts carry them: decoded piece by piece, and encoded.

What is broken is decoded as far as it goes, as mail programs do.

Source: RFC 2045 section 6.
"""

import re
from binascii import Error, a2b_base64, a2b_qp, b2a_base64, b2a_qp
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from aiomilter.mail.charsets import codec_of

__all__ = ["Base64Check", "broken_base64", "codec", "decoded", "decoded_whole", "encoded", "encoded_text"]

_DIGITS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NO_BASE64: Final = bytes(set(range(256)) - set(_DIGITS + b"="))
_BLANKS: Final = b" \t\r\n"
_PADDING: Final = re.compile(rb"=+")
_MAX_PADDINGS: Final = 1_000
"""Places in Base64 of one piece where padding ends it, and more follows."""
_LINE: Final = 900
"""A longer line is encoded: SMTP takes 998 octets (RFC 5321 section 4.5.3.1.6)."""


class Base64Check:
    """Tells whether Base64, piece by piece, is what all programs read alike: no other octets, nothing behind its padding."""

    def __init__(self) -> None:
        self.broken: bool = False
        self._padding = 0

    def take(self, piece: bytes) -> None:
        """Look at the next octets."""
        text = piece.translate(None, _BLANKS)
        digits = text.rstrip(b"=")
        if digits.translate(None, _DIGITS) or (digits and self._padding):
            self.broken = True
        self._padding += len(text) - len(digits)
        self.broken = self.broken or self._padding > 2


async def decoded(
    pieces: AsyncIterator[bytes], encoding: str, check: Base64Check | None = None
) -> AsyncGenerator[bytes]:
    """Yield the content of a part.

    Args:
        pieces: The octets of the part, cut anywhere.
        encoding: Content-Transfer-Encoding in lower case; any but base64 and quoted-printable is taken as it stands.
        check: What looks at Base64 as well.
    """
    rest = b""
    if encoding == "base64":
        async for piece in pieces:
            if check is not None:
                check.take(piece)
            octets = rest + piece.translate(None, _NO_BASE64)
            whole = len(octets) // 4 * 4 if b"=" not in octets else len(octets)
            rest = octets[whole:]
            yield _base64(octets[:whole])
        yield _base64(rest)
    elif encoding == "quoted-printable":
        async for piece in pieces:
            octets = rest + piece
            whole = octets.rfind(b"\n") + 1
            if not whole and len(octets) > 65_536:
                whole = len(octets) - 4 - (octets[-4:-3] == b"=") * 4
            rest = octets[whole:]
            yield a2b_qp(octets[:whole])
        yield a2b_qp(rest)
    else:
        async for piece in pieces:
            yield piece


def codec(charset: str) -> str | None:
    """Return Python's name for a charset; None for one that is not known, or that is a codec of Python but no charset."""
    found = codec_of(charset)
    return None if found == "idna" else found  # it raises, and is slow


def _base64(octets: bytes) -> bytes:
    """Return Base64 decoded; what follows padding is decoded, too, since some programs do."""
    groups = _PADDING.split(octets, maxsplit=_MAX_PADDINGS)
    return b"".join([_group(group.replace(b"=", b"")) for group in groups])


def _group(octets: bytes) -> bytes:
    if len(octets) % 4 == 1:
        octets = octets[:-1]  # one character holds no octet
    try:
        return a2b_base64(octets + b"=" * (-len(octets) % 4))
    except Error:  # pragma: no cover: what is no Base64 was taken out
        return b""


def decoded_whole(octets: bytes, encoding: str) -> bytes:
    """Return a content that is here whole, decoded as :func:`decoded` does it."""
    if encoding == "base64":
        return _base64(octets.translate(None, _NO_BASE64))
    return a2b_qp(octets) if encoding == "quoted-printable" else octets


def broken_base64(octets: bytes) -> bool:
    """Return whether Base64 is not what an encoder writes, so that programs may read different octets."""
    try:
        a2b_base64(octets.translate(None, _BLANKS), strict_mode=True)
    except Error:
        return True
    return False


def encoded(octets: bytes, encoding: str) -> bytes:
    """Return octets in ``base64`` or ``quoted-printable``, lines ending in CRLF; in any other encoding as they are."""
    if encoding == "base64":
        return b"".join([b2a_base64(octets[at : at + 57]).replace(b"\n", b"\r\n") for at in range(0, len(octets), 57)])
    if encoding == "quoted-printable":
        lines = octets.replace(b"\r\n", b"\n")
        return b2a_qp(lines, istext=True).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return octets


def encoded_text(text: str) -> tuple[bytes, str, str]:
    """Return the octets of a text, its charset, and the encoding that they are in."""
    octets = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n").encode("utf-8", "replace")
    long = any(len(line) > _LINE for line in octets.split(b"\r\n"))
    if octets.isascii() and not long and b"\0" not in octets:
        return octets, "us-ascii", "7bit"
    return encoded(octets, "quoted-printable"), "utf-8", "quoted-printable"
