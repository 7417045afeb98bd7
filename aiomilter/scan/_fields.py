"""Values of an envelope, as they may stand in a field of a request."""

import re
from typing import Final

__all__ = ["MAX_VALUE", "bracketed", "host_name", "value_octets", "word"]

MAX_VALUE: Final = 1_000
"""Octets of a value; SMTP has addresses of 256."""
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
_NO_OCTETS: Final = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Surrogates that stand for no octet."""
_NO_WORD: Final = re.compile(rb"[^!#-'*-:=?@A-Z\[\]^-~]")
"""Blanks, and what delimits the parts of a Received field."""


def value_octets(value: str) -> bytes:
    """Return a value on one line, control characters as ``?``; octets that are not text come out as they were sent."""
    octets = _NO_OCTETS.sub("?", value[:MAX_VALUE]).encode("utf-8", "surrogateescape")
    return _CONTROL.sub(b"?", octets)[:MAX_VALUE]


def word(value: str) -> bytes:
    """Return a value as one word of a Received field, which its reader cannot take for another part of it."""
    return _NO_WORD.sub(b"?", value_octets(value))


def host_name(value: str) -> str:
    """Return the name of a client; "" for an address in brackets, which stands for none."""
    return "" if value.startswith("[") else value


def bracketed(address: str) -> bytes:
    """Return an address in angle brackets."""
    octets = value_octets(address)
    return octets if octets.startswith(b"<") else b"<%b>" % octets
