"""The answer to a DNS question, in plain Python values, and the interface of resolvers."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, NamedTuple, Protocol, TypeAlias

__all__ = ["MX", "Answer", "IPAddress", "RdType", "Record", "Resolver"]

RdType: TypeAlias = Literal["A", "AAAA", "CNAME", "MX", "NS", "PTR", "TXT"]
"""The record types that mail filters ask for."""

IPAddress: TypeAlias = IPv4Address | IPv6Address
"""An address of either kind."""


class MX(NamedTuple):
    """One mail exchanger.

    Args:
        preference: Lower is asked first, 0..65535.
        exchange: Host name without trailing dot; "" is the null MX of RFC 7505.
    """

    preference: int
    exchange: str


Record: TypeAlias = IPv4Address | IPv6Address | MX | str | bytes
"""A, AAAA: an address; MX: :class:`MX`; TXT: octets, character-strings joined; CNAME, NS, PTR: a name as ``str``."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question; false in a condition when there are no records.

    "No such name" and "no data" are answers.  Names in records come without trailing dot; any octet that is not a
    visible ASCII character, and a dot or backslash inside a label, is written ``\\DDD``: no name carries a line end.

    Args:
        name: The name asked for, lower case, A-labels, without trailing dot.
        rdtype: The record type asked for.
        records: The records of that type, in the order received; empty when there are none.
        ttl: Seconds the answer may be kept, as received; 0 when the server gave no bound.
        exists: False when the name does not exist at all (NXDOMAIN).
        canonical: The name at the end of the CNAME chain, "" when the name is its own.
        stale: True when the answer has expired and is served because its servers fail.
    """

    name: str
    rdtype: RdType
    records: tuple[Record, ...] = ()
    ttl: int = 0
    exists: bool = True
    canonical: str = ""
    stale: bool = False

    def __bool__(self) -> bool:
        return bool(self.records)

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        """The addresses among the records (A, AAAA)."""
        return tuple([record for record in self.records if isinstance(record, (IPv4Address, IPv6Address))])

    @property
    def exchanges(self) -> tuple[MX, ...]:
        """The mail exchangers among the records, by preference (MX)."""
        found = [record for record in self.records if isinstance(record, MX)]
        return tuple(sorted(found, key=lambda mx: mx.preference))

    @property
    def names(self) -> tuple[str, ...]:
        """The names among the records (PTR, NS, CNAME)."""
        return tuple([record for record in self.records if isinstance(record, str)])

    @property
    def texts(self) -> tuple[bytes, ...]:
        """The texts among the records, each with its character-strings joined (TXT)."""
        return tuple([record for record in self.records if isinstance(record, bytes)])


class Resolver(Protocol):
    """Answers DNS questions without blocking the event loop; every toolkit of aiomilter takes one."""

    async def lookup(self, name: str, rdtype: RdType, /) -> Answer:
        """Answer one question.

        A name that DNS cannot hold (an empty label, a label over 63 octets, more than 253 octets, control characters)
        does not exist: it is answered so, without a query.  CNAMEs are followed.

        Args:
            name: The name to ask for, with or without trailing dot, in any letter case; U-labels are converted.
            rdtype: The record type to ask for.
        Returns:
            The answer; false when the name has no such records, and ``exists`` distinguishes the two cases.
        Raises:
            ResolverTimeout: No server answered in time.
            ResolverFailure: The servers reported a failure, refused, or sent malformed answers.
        """
        ...
