"""Addresses, header values and lists of clients as filters take them apart: ``Milter.utils``.

``iniplist`` asks the system for the addresses of host names and waits for them: for classic callbacks, which may.
"""

import re
import socket
from binascii import a2b_base64
from collections.abc import Iterable
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, overload

from aiomilter.compat.modules.mailboxes import first_mailbox
from aiomilter.compat.modules.words import parse_header

__all__ = [
    "MASK",
    "MASK6",
    "PAT_IP4",
    "addr2bin",
    "bin2long6",
    "cidr",
    "decode",
    "dnsre",
    "inet_ntop",
    "inet_pton",
    "iniplist",
    "ip4re",
    "ip6re",
    "parse_addr",
    "parse_header",
    "parseaddr",
]

_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"

PAT_IP4: Final = r"\.".join([_OCTET] * 4)
"""A pattern for an IPv4 address in dotted decimal, without leading zeros."""


def _ip6_pattern() -> str:
    """Return a pattern for the forms of RFC 3986's IPv6address, in the order of its grammar."""
    group = "[0-9a-f]{1,4}"
    last = f"(?:{group}:{group}|{PAT_IP4})"
    forms = [f"(?:{group}:){{6}}{last}"]
    for after in range(5, -1, -1):
        before = f"(?:(?:{group}:){{0,{4 - after}}}{group})?" if after < 5 else ""
        forms.append(f"{before}::(?:{group}:){{{after}}}{last}")
    forms += [f"(?:(?:{group}:){{0,5}}{group})?::{group}", f"(?:(?:{group}:){{0,6}}{group})?::"]
    return "|".join(f"{form}$" for form in forms)


ip4re: Final = re.compile(PAT_IP4 + "$")
"""Matches an IPv4 address."""
ip6re: Final = re.compile(_ip6_pattern(), re.IGNORECASE)
"""Matches an IPv6 address, without zone."""
dnsre: Final = re.compile(r"^[a-z][-a-z0-9.]+$", re.IGNORECASE)
"""Matches what ``iniplist`` takes for a host name."""

MASK: Final = (1 << 32) - 1
"""All bits of an IPv4 address."""
MASK6: Final = (1 << 128) - 1
"""All bits of an IPv6 address."""

_ROUTE = re.compile(r"@[^:]*:")


def addr2bin(s: str) -> int:
    """Return an address as a number.

    Args:
        s: An IPv6 address, or an IPv4 address in any form that inet_aton takes: ``"127.1"`` is one.
    Raises:
        OSError: It is neither.
    """
    if ":" in s:
        return bin2long6(inet_pton(s))
    try:
        return int.from_bytes(socket.inet_aton(s), "big")
    except (OSError, ValueError) as error:
        raise OSError(f"Invalid IP4 address: {s}") from error


def bin2long6(s: bytes) -> int:
    """Return the 16 octets of an IPv6 address as a number.

    Raises:
        ValueError: There are not 16 octets.
    """
    if len(s) != 16:
        raise ValueError(f"IPv6 address: expected 16 octets, found {len(s)}")
    return int.from_bytes(s, "big")


def inet_ntop(s: bytes) -> str:
    """Return the 16 octets of an IPv6 address as text (RFC 5952)."""
    return socket.inet_ntop(socket.AF_INET6, s)


def inet_pton(s: str) -> bytes:
    """Return an IPv6 address as 16 octets.

    Raises:
        OSError: It is none.
    """
    try:
        return socket.inet_pton(socket.AF_INET6, s)
    except ValueError as error:
        raise OSError(f"Invalid IP6 address: {s}") from error


def cidr(i: int, n: int, mask: int = MASK) -> int:
    """Return an address with all but its first ``n`` bits cleared.

    Args:
        i: The address as a number.
        n: Bits to keep; all of them if it has not that many.
        mask: ``MASK`` for IPv4, ``MASK6`` for IPv6.
    Raises:
        ValueError: ``n`` is negative.
    """
    return ~(mask >> n) & mask & i


def iniplist(ipaddr: str, iplist: Iterable[str]) -> bool:
    """Return whether a client is in a list of clients.

    An IPv4 address inside an IPv6 one (``::ffff:192.0.2.1``) is the IPv4 address, in the client and in the list.

    Args:
        ipaddr: The client's address.
        iplist: Addresses, networks (``192.0.2.0/24``, ``2001:db8::/32``), glob patterns (``192.0.2.*``), which are held
            against the text of the address, and host names, alone or with the length of a network (``example.com/24``).
    Raises:
        ValueError: The client's address is not one; the length of a network is not a number, or negative.
    """
    try:
        client = _unmapped(ip_address(ipaddr))
    except ValueError as error:
        raise ValueError(f"Invalid ip syntax:{ipaddr}") from error
    if isinstance(client, IPv6Address) and client.scope_id is not None:
        raise ValueError(f"Invalid ip syntax:{ipaddr}")
    for pattern in iplist:
        name, slash, length = pattern.partition("/")
        if fnmatchcase(ipaddr, pattern):
            return True
        try:
            listed = ip_address(name)
        except ValueError:
            addresses = _addresses(name, client) if dnsre.match(name) else []
            bits = client.max_prefixlen
        else:
            addresses, bits = [_unmapped(listed)], listed.max_prefixlen
        if not addresses:
            continue
        prefix = int(length) if slash else bits
        if prefix < 0:
            raise ValueError(f"Invalid network:{pattern}")
        # The network is given in bits of the address as written, ::ffff:192.0.2.0/120.
        for address in addresses:
            kept = max(prefix - (bits - address.max_prefixlen), 0)
            if address.version == client.version and _network(address, kept) == _network(client, kept):
                return True
    return False


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    return getattr(address, "ipv4_mapped", None) or address


def _network(address: IPv4Address | IPv6Address, bits: int) -> int:
    return int(address) >> max(address.max_prefixlen - bits, 0)


def _addresses(name: str, client: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    family = socket.AF_INET if client.version == 4 else socket.AF_INET6
    try:
        found = socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def parse_addr(t: str) -> list[str]:
    """Split an envelope address into local-part and domain.

    Brackets, a source route and the quotes around the local-part go.

    Args:
        t: The address as a callback gets it: ``"<@relay.example:alice@example.org>"``.
    Returns:
        Local-part and domain; only the local-part if there is no domain, ``[""]`` for the null sender.

    Source: RFC 5321 section 4.1.2; observed of pymilter 1.0.5.
    """
    if t.startswith("<") and t.endswith(">"):
        t = t[1:-1]
    if t.startswith('"'):
        # A quoted local-part may hold what looks like a domain.
        if t.endswith('"'):
            return [t[1:-1]]
        local, quote, domain = t[1:].partition('"@')
        if quote and "@" not in local[:1]:
            return [local, domain]
        if quote:
            return [t[: len(local) + 2], domain]
    elif (route := _ROUTE.match(t)) is not None:
        t = t[route.end() :]
    return t.rsplit("@", 1)


def parseaddr(t: str) -> tuple[str, str]:
    """Split the value of a header such as From into name and address, as mail programs show them.

    More forgiving than :func:`email.utils.parseaddr`: an unquoted ``@`` or comma in the name does not end it.

    Returns:
        The name, ``""`` if there is none, and the address without brackets and source route.

    Source: RFC 5322 section 3.4; observed of pymilter 1.0.5.
    """
    name, address = first_mailbox(t)
    before, bracket, rest = t.partition("<")
    inside = rest.partition(">")[0]
    if (
        not bracket
        or not before.strip()
        or not rest.rstrip().endswith(">")
        or address == first_mailbox(f"<{inside}>")[1]
    ):
        return name, address
    # Quoted, the name may hold anything.
    words = before.strip().replace('"', " ")
    name, address = first_mailbox(f'"{words}" {bracket}{rest}')
    return name.strip(), address


@overload
def decode(s: None, convert_eols: str | None = None) -> None: ...
@overload
def decode(s: str | bytes, convert_eols: str | None = None) -> str | bytes: ...
def decode(s: str | bytes | None, convert_eols: str | None = None) -> str | bytes | None:
    """Decode Base64 whose padding may be missing.

    Args:
        s: Base64; anything else in it is skipped. False values come back as they are.
        convert_eols: The text that replaces each CRLF in the result; None leaves them.
    Raises:
        binascii.Error: It is not Base64.
    """
    if not s:
        return s
    octets = s.encode("ascii", "replace") if isinstance(s, str) else s
    decoded = a2b_base64(octets + b"=" * (-len(octets) % 4))
    return decoded if convert_eols is None else decoded.replace(b"\r\n", convert_eols.encode())
