"""Guesses what a malformed or ambiguous socket address was meant to be."""

import ipaddress
import re
import unicodedata
from collections.abc import Iterator
from typing import Final

__all__ = ["MAX_UNIX_PATH", "is_ipv6", "meant"]

MAX_UNIX_PATH: Final = 107
"""Octets of a path that sockaddr_un can hold on Linux, its NUL not counted."""
_LONGEST: Final = 1024
"""Characters that are worth a guess."""
_SCHEME: Final = r"([a-z][a-z0-9+.-]*)(?:://|[:=]|\s+)(.*)"
_SETTING: Final = r"\w+\s*=\s*(?=\w+:|/)"
"""Its prefixes in main.cf and sendmail.mc: ``smtpd_milters =``, ``S=``."""
_TCP: Final = frozenset({"inet", "tcp", "tcp4", "inet4", "ipv4", "ip", "http", "https", "smtp", "milter", "host"})
_TCP6: Final = frozenset({"inet6", "tcp6", "ipv6", "ip6"})
_UNIX: Final = frozenset({"unix", "local", "file", "path", "socket", "sock", "pipe"})
_QUOTES: Final = (("{", "}"), ('"', '"'), ("'", "'"), ("<", ">"))
_ALL: Final = ("", "*")
"""Hosts that mean all addresses of the machine."""


def meant(text: str) -> Iterator[str]:
    """Yield what may have been meant, the likeliest first; not all of it is valid.

    ``PORT`` stands for a missing port.

    Args:
        text: The malformed text.
    """
    if not text or len(text) > _LONGEST:
        return
    cleaned = _cleaned(text)
    if cleaned != text:
        yield cleaned
    found = re.match(_SCHEME, cleaned, re.IGNORECASE | re.DOTALL)
    scheme, rest = (found[1].lower(), found[2]) if found else ("", cleaned)
    if scheme in _UNIX:
        yield f"unix:{rest.strip()}"
        if not rest.startswith("/"):
            yield from _of_tcp(rest, six=False, alone=False)
    elif scheme == "fd":
        yield f"fd:{rest.strip()}"
    elif scheme in _TCP or scheme in _TCP6:
        if rest.startswith("/"):
            yield f"unix:{rest}"
        yield from _of_tcp(rest, six=scheme in _TCP6, alone=True)
    elif "/" not in cleaned:
        yield from _of_tcp(cleaned, six=False, alone=True)


def _cleaned(text: str) -> str:
    """Return a text without the syntax of the file it was copied from, and with ASCII digits."""
    text = unicodedata.normalize("NFKC", text).strip()
    for opening, closing in _QUOTES:
        if text.startswith(opening) and text.endswith(closing):
            text = text[1:-1].strip()
    text = re.sub(_SETTING, "", text, count=1)
    if not text.startswith(("/", "unix:", "local:")):
        text = text.partition(",")[0]
    return text.strip()


def _of_tcp(rest: str, *, six: bool, alone: bool) -> Iterator[str]:
    """Yield endpoints of a host and a port, in either order.

    Args:
        rest: The text with both.
        six: Whether the text says IPv6.
        alone: Whether one of them is enough.
    """
    rest = rest.strip().partition("/")[0]
    words = rest.split()
    if len(words) == 2 and not set("@:") & set(rest):
        rest = ":".join(words)
    for host, port in _pairs(rest, alone=alone):
        host, port = host.strip().removeprefix("[").removesuffix("]"), port.strip()
        kind = "inet6" if is_ipv6(host) or (six and not _is_ipv4(host)) else "inet"
        if host in _ALL:
            yield f"{kind}:{port}"
        elif port != "PORT" or is_ipv6(host) or _is_ipv4(host) or host == "localhost":
            yield f"{kind}:{port}@{host}"


def _pairs(rest: str, *, alone: bool) -> Iterator[tuple[str, str]]:
    """Yield pairs of host and port."""
    port, at, host = rest.partition("@")
    if at:
        yield host, port
        yield port, host
        if alone:
            yield host or port, "PORT"
        return
    if rest.isdigit():
        if alone:
            yield "127.0.0.1", rest
        return
    port, _, host = rest.partition(":")
    if port.isdigit() and not is_ipv6(rest):
        yield host, port
    if not is_ipv6(rest) or _ends_in_port(rest):
        host, _, port = rest.rpartition(":")
        yield host, port
    if alone:
        yield rest, "PORT"


def _ends_in_port(address: str) -> bool:
    """Return whether an IPv6 address without its last part is one, too: the brackets were left out."""
    host, _, port = address.rpartition(":")
    return is_ipv6(host) and port.isdigit()


def is_ipv6(host: str) -> bool:
    """Return whether a host is written as an IPv6 address."""
    try:
        return ":" in host and bool(ipaddress.IPv6Address(host))
    except ValueError:
        return False


def _is_ipv4(host: str) -> bool:
    try:
        return bool(ipaddress.IPv4Address(host))
    except ValueError:
        return False
