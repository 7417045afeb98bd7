"""Domain names and addresses in the form that DNS uses: normal form, limits, reverse names, escapes."""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

from aiomilter.dns.answers import IPAddress
from aiomilter.exceptions import AddressError
from aiomilter.mail.domain import MAX_NAME, ascii_name

__all__ = ["client_address", "display_name", "question_name", "reverse_name"]

# One label of what we ask for: anything but a dot and control characters, in 7 bits.
_QUESTION = re.compile(r"[ -\-/-~]{1,63}(?:\.[ -\-/-~]{1,63})*")
_PLAIN = re.compile(rb"[!-\-/-\[\]-~]+")
_PLAIN_NAME = re.compile(rb"[!-\[\]-~]+")
# A table: a hostile message is 65,535 octets that are not visible.
_SHOWN = [chr(octet) if _PLAIN.fullmatch(bytes((octet,))) else f"\\{octet:03d}" for octet in range(256)]


def question_name(name: str) -> str | None:
    """Return a name in the form it is asked and cached under: lower case, A-labels, no trailing dot.

    Returns:
        The name, or None when DNS cannot hold it, and so it cannot exist.

    Source: RFC 1035 section 2.3.4; RFC 5890 section 2.3.2.1.
    """
    if not name.isascii():
        converted = ascii_name(name)
        if converted is None:
            return None
        name = converted
    name = name.removesuffix(".").lower()
    if len(name) > MAX_NAME or _QUESTION.fullmatch(name) is None:
        return None
    return name


def display_name(labels: Iterable[bytes]) -> str:
    """Return labels from a DNS message as printable text.

    Anything that is not a visible ASCII character, and a dot or backslash inside a label, becomes ``\\DDD``.

    Source: RFC 1035 section 5.1.
    """
    parts = [label for label in labels if label]
    joined = b".".join(parts)
    # In one go where no label needs more: most names are so, and long ones cost.
    if joined.count(b".") == len(parts) - 1 and _PLAIN_NAME.fullmatch(joined):
        return joined.decode("ascii")
    return ".".join(map(display_label, parts))


def display_label(label: bytes) -> str:
    """Return one label as :func:`display_name` writes it."""
    return label.decode("ascii") if _PLAIN.fullmatch(label) else "".join(map(_SHOWN.__getitem__, label))


def client_address(ip: IPAddress | str) -> IPAddress:
    """Return a client's address as DNS knows it: IPv4-mapped IPv6 as IPv4, no scope.

    Raises:
        AddressError: The text is not an IP address.

    Source: RFC 7208 section 5.
    """
    if isinstance(ip, str):
        try:
            ip = ip_address(ip)
        except ValueError as error:
            raise AddressError(f"expected an IP address, found {ip!r}") from error
    if isinstance(ip, IPv4Address):
        return ip
    return ip.ipv4_mapped or (IPv6Address(int(ip)) if ip.scope_id else ip)


def reverse_name(ip: IPAddress, suffix: str = "") -> str:
    """Return the name under which DNS keeps the records of an address.

    Args:
        ip: The address; a mapped one counts as IPv4.
        suffix: The zone to look below, such as that of a DNS list; "" for the reverse tree itself.

    Source: RFC 1035 section 3.5; RFC 3596 section 2.5; RFC 5782 sections 2.1 and 2.4.
    """
    pointer = client_address(ip).reverse_pointer
    if not suffix:
        return pointer
    return f"{pointer.removesuffix('.in-addr.arpa').removesuffix('.ip6.arpa')}.{suffix}"
