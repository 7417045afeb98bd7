"""The part of mail that a shadow is asked about: always the same clients, or the same domains, on all machines with one key."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_network
from typing import Final, Literal

from aiomilter.wire.events import Connect, Rcpt

__all__ = ["MailShare", "share_of"]

_IPV4_SIZE: Final = 24
_IPV6_SIZE: Final = 56
_LONGEST_KEY: Final = 64
_ALL: Final = 2.0**64


@dataclass(frozen=True, slots=True)
class MailShare:
    """A part of mail: which, is decided by a hash, so that a client or a domain is either in it or not, wherever it turns up.

    Args:
        part: Between 0 and 1.
        by: "client" for the network of the SMTP client (IPv4 /24, IPv6 /56), "recipient_domain" for the domain of the first
            recipient.
        key: Of the hash, at most 64 octets: machines with the same one choose the same mail, and who does not know it cannot
            tell which.
    """

    part: float
    by: Literal["client", "recipient_domain"] = "client"
    key: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        """Check the arguments."""
        if isinstance(self.part, bool) or not isinstance(self.part, int | float) or not 0 <= self.part <= 1:
            raise ValueError(f"share: expected a part between 0 and 1, found {self.part!r:.80}")
        if self.by not in ("client", "recipient_domain"):
            raise ValueError(f"share: expected by 'client' or 'recipient_domain', found {self.by!r:.80}")
        if not isinstance(self.key, bytes) or len(self.key) > _LONGEST_KEY:
            raise ValueError(f"share: expected a key of at most {_LONGEST_KEY} octets")

    def has(self, name: str, subject: str) -> bool:
        """Return whether a subject is in the part.

        Args:
            name: Of the shadow: two shadows have different parts.
            subject: A network, or a domain.
        """
        text = f"{len(name)}:{name}{subject}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(text, digest_size=8, key=self.key, person=b"aiomilter share").digest()
        return int.from_bytes(digest) < self.part * _ALL

    def takes(self, name: str, client: Connect, recipients: Sequence[Rcpt]) -> bool | None:
        """Return whether a message is in the part; None if that is not known yet.

        Args:
            name: As for :meth:`has`.
            client: The SMTP client.
            recipients: Those that were accepted so far.
        """
        if self.part >= 1:
            return True
        if self.by == "client":
            return self.has(name, _network(client))
        return self.has(name, recipients[0].domain) if recipients else None


def share_of(given: "MailShare | float") -> MailShare:
    """Return what is given as a share.

    Raises:
        ValueError: It is none.
    """
    return given if isinstance(given, MailShare) else MailShare(given)


def _network(client: Connect) -> str:
    """Return the network of the client; its host name if it has no address."""
    ip = client.ip
    if ip is None:
        return client.hostname
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    size = _IPV6_SIZE if isinstance(ip, IPv6Address) else _IPV4_SIZE
    return str(ip_network((ip, size), strict=False))
