"""IPv6 addresses as text and octets: ``Milter.pyip6``, from before sockets could."""

from ipaddress import AddressValueError, IPv4Address, IPv6Address

__all__ = ["inet_ntop", "inet_pton"]


def inet_ntop(s: bytes) -> str:
    """Return the 16 octets of an IPv6 address as text (RFC 5952).

    An IPv4 address inside is written as one: ``::FFFF:192.0.2.1``.

    Raises:
        ValueError: There are not 16 octets.
    """
    if len(s) != 16:
        raise ValueError(f"IPv6 address: expected 16 octets, found {len(s)}")
    address = IPv6Address(s)
    return f"::FFFF:{address.ipv4_mapped}" if address.ipv4_mapped else str(address)


def inet_pton(p: str) -> bytes:
    """Return an IPv6 address, or an IPv4 one as ``::FFFF:192.0.2.1``, as 16 octets.

    Raises:
        ValueError: It is neither.
    """
    try:
        address = IPv6Address(f"::ffff:{IPv4Address(p)}" if p.count(".") == 3 and ":" not in p else p)
    except AddressValueError as error:
        raise ValueError(p) from error
    if address.scope_id is not None:
        raise ValueError(p)
    return address.packed
