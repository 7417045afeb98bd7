"""Whether a client's name looks like one of many that a provider made from addresses: ``Milter.dynip``."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise
from typing import Final

__all__ = ["hpats", "ip3", "is_dynip", "rehmac"]

ip3: Final = re.compile("[0-9]{1,3}")
"""Matches a number of up to three digits, as an address has in it."""

hpats: Final = (
    "^<3>[.]",  # nothing but a number
    "-<3>[.]",  # a number at the end of a label
    "[0-9]-[0-9]+[.]",
    "(^|[^0-9a-f])[0-9a-f]{12}[.]",  # a MAC address
    "^h[0-9a-f]{12}[.]",
    "(user|cust|customer|client)-?<3>[.]",
    "-(ppp|dyn|dhcp|pool|dial|adsl|dsl|cable)[0-9]*[.]",
    "[.](adsl|cable|dialup|ppp)[.]",
    "no-reverse",
)
"""Patterns for names that are made for addresses, whichever; ``<3>`` stands for ``ip3``."""

rehmac: Final = re.compile("|".join(hpats).replace("<3>", ip3.pattern), re.IGNORECASE)
"""Matches where one of ``hpats`` does."""


def is_dynip(host: str, addr: str | None) -> bool:
    """Return whether a client's name looks as if it were made from its address.

    A guess: a mail server that its provider named so is taken for a dialled-in client.

    Args:
        host: Name of the client, as its PTR record has it; an address in brackets where it has none.
        addr: Address of the client; without a valid one only the name is looked at.
    """
    if host.startswith("[") or host == addr:
        return True
    if rehmac.search(host) is not None:
        return True
    try:
        address = ip_address(addr or "")
    except ValueError:
        return False
    return re.search(_made_from(address), host, re.IGNORECASE) is not None


def _made_from(address: IPv4Address | IPv6Address) -> str:
    """Return a pattern for what providers make of an address."""
    if isinstance(address, IPv6Address):
        # The half that is the client's own, with any separators.
        return "[-.:]?".join(address.packed[8:].hex())
    octets = [str(octet) for octet in address.packed]
    written = [address.packed.hex(), "".join(octets), "".join(octet.zfill(3) for octet in octets)]
    # Two neighbours, in either order, among other things than digits: 2-10, 010.002, 2x10.
    for first, second in [*pairwise(octets), *pairwise(reversed(octets))]:
        written.append(f"(?<![0-9])0*{first}[^0-9]0*{second}(?![0-9])")
    # The last one alone, with zeros before it: 004.
    written.append(f"(?<![0-9]){octets[3].zfill(3)}[.]")
    return "|".join(written)
