"""The SMTP client that one of our relays took a message from, read from the Received field that the relay added.

The topmost field counts, and only in mail of a known relay: anybody can write the others.
"""

import re
from ipaddress import ip_address
from typing import Final, NamedTuple

from aiomilter.dns import IPAddress, client_address

__all__ = ["Origin", "origin"]

_MAX_SIZE: Final = 4096
# "from HELO (NAME [ADDRESS])": Postfix and Sendmail, which may have a login before the name and remarks behind the address.
_FROM: Final = re.compile(
    r"\s*from\s+(?P<helo>[^\s()]+)\s+\((?:[^\s()\[\]]+\s*)?\[(?:IPv6:)?(?P<ip>[0-9A-Fa-f.:]+)\](?=[\s)])", re.IGNORECASE
)


class Origin(NamedTuple):
    """The SMTP client of a relay.

    Args:
        ip: Its address.
        helo: The name it gave.
    """

    ip: IPAddress
    helo: str


def origin(received: str) -> Origin | None:
    """Return the client that a Received field names; None if it names none.

    Args:
        received: The value of the field, folded or not.

    Source: RFC 5321 section 4.4.
    """
    found = _FROM.match(received[:_MAX_SIZE])
    if found is None:
        return None
    try:
        return Origin(client_address(ip_address(found["ip"])), found["helo"])
    except ValueError:
        return None
