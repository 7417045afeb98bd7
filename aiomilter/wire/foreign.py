"""The protocol of a peer that does not speak milter, recognised by its first octets.

Read as a frame, the beginning of each of these has a length above any limit, so a peer that speaks milter is never
looked at here.
"""

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["MILTER", "NEEDED", "protocol_of"]

NEEDED: Final = 16
"""Octets that are looked at; fewer will do."""

MILTER: Final = "the milter protocol"
"""Named where something else is expected, such as TLS."""

# By the first octets; letters of either case.
_FIRST: Final[Mapping[str, bytes]] = {
    # RFC 9110 section 9, RFC 9113 section 3.4; and the answers of a server, for a socket that is connected to one.
    "HTTP": rb"(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|TRACE|PATCH|CONNECT|PRI)(?: |\Z)|HTTP/",
    # RFC 5321 sections 4.1.1 and 4.2, RFC 2033 section 4.1; a server speaks first.
    "SMTP": rb"(?:EHLO|HELO|LHLO|MAIL|RCPT|VRFY|QUIT|NOOP|RSET|HELP|STARTTLS|XCLIENT)(?: |\r?\n|\Z)|[245][0-9][0-9][ -]",
    # RFC 8446 section 5.1: a handshake or an alert.
    "TLS": rb"[\x15\x16]\x03[\x00-\x04]",
    # HAProxy, proxy-protocol.txt sections 2.1 and 2.2.
    "the PROXY protocol": rb"PROXY |\r\n\r\n\x00\r\nQUIT\n",
    # RFC 4253 section 4.2.
    "SSH": rb"SSH-",
    # The Redis serialization protocol, and its inline commands.
    "the protocol of Redis": rb"\*[0-9]+\r\n|(?:PING|INFO)(?: |\r?\n|\Z)",
}
# An offer: its length, 13 octets or more, and its code.
_OFFER: Final = rb"\x00\x00[\x00\x01].O"


def protocol_of(octets: bytes) -> str | None:
    """Return which protocol a peer speaks, to be read behind "speaks"; None if that is not known.

    Args:
        octets: The first octets, :data:`NEEDED` of them or fewer.
    """
    if re.match(_OFFER, octets, re.DOTALL):
        return MILTER
    # Compiled when one comes: at import they would cost every program 3.5 million instructions.
    return next((name for name, first in _FIRST.items() if re.match(first, octets, re.IGNORECASE)), None)
