"""What a scanner may know of a message besides its octets."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

__all__ = ["Envelope"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Who sends a message, from where, and to whom; leave out what is not known.

    Addresses are with or without angle brackets.

    Args:
        sender: The envelope sender; "" for the null sender, None if it is not known.
        recipients: The envelope recipients.
        ip: The client's address.
        hostname: The client's name, as the MTA has verified it; an address in brackets stands for none, as MTAs have it.
        helo: The name that the client has given.
        login: As whom the client has authenticated.
        queue_id: Of the message, in the MTA.
        mta_name: The MTA's own name.
    """

    sender: str | None = None
    recipients: tuple[str, ...] = ()
    ip: IPv4Address | IPv6Address | str | None = None
    hostname: str = ""
    helo: str = ""
    login: str = ""
    queue_id: str = ""
    mta_name: str = ""
