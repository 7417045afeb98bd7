"""Values of an envelope, as they may stand in a field of a request."""

import re
from typing import Final

__all__ = ["MAX_VALUE", "ascii_or_utf8", "bracketed", "host_name"]

MAX_VALUE: Final = 1_000
"""Octets of a value; SMTP has addresses of 256."""
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")


def ascii_or_utf8(value: str) -> bytes:
    """Return a value on one line; octets that are no text come out as the client has sent them, control characters as ``?``."""
    return _CONTROL.sub(b"?", value[:MAX_VALUE].encode("utf-8", "surrogateescape"))[:MAX_VALUE]


def host_name(value: str) -> bytes:
    """Return the name of a client; b"" for an address in brackets, which stands for none."""
    return b"" if value.startswith("[") else ascii_or_utf8(value)


def bracketed(address: str) -> bytes:
    """Return an address in angle brackets."""
    octets = ascii_or_utf8(address)
    return octets if octets.startswith(b"<") else b"<%b>" % octets
