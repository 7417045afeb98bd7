"""What stores know subjects by: hashes with a secret, so that no address stands in a store, and what is hashed."""

import hashlib
import hmac
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from aiomilter._shadow import IN_SHADOW
from aiomilter.exceptions import StoreSettingsError
from aiomilter.mail.domain import ascii_name
from aiomilter.mail.srs import read_secrets

__all__ = ["Keys", "address", "network", "read_keys", "subject"]

_ADDRESS: Final = re.compile("[0-9a-fA-F.:]{2,45}(?:%.*)?")
_KIND: Final = re.compile("[a-z][a-z0-9_]{0,31}")


class Keys:
    """Makes keys of subjects.

    Args:
        secrets: The first one makes them; the others were used before.
    """

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self._secrets = tuple(secrets)
        if not self._secrets or not all(len(secret) >= 16 for secret in self._secrets):
            raise StoreSettingsError("keys: expected secrets of 16 octets or more")
        self.each: Final = len(self._secrets)
        """How many keys a subject has."""

    def of(self, kind: str, *parts: str) -> Sequence[bytes]:
        """Return the keys of a subject, the newest first: the kind, and 16 octets.

        Parts are hashed with their lengths, so that none runs into the next.  Those of a shadow, a filter whose answers are
        not sent, begin with ``shadow:``: what it counts is apart from what others count.
        """
        if not _KIND.fullmatch(kind):
            raise ValueError(f"expected a kind of lower-case letters, found {kind!r}")
        text = "".join([f"{len(part)}:{part}" for part in (kind, *parts)])
        message, name = text.encode("utf-8", "surrogatepass"), f"{kind}:".encode()
        if IN_SHADOW.get():
            name = b"shadow:" + name
        return [name + hmac.digest(secret, message, hashlib.sha256)[:16] for secret in self._secrets]


def read_keys(path: str | os.PathLike[str]) -> tuple[bytes, ...]:
    """Read the secrets in a file, one a line, the newest first: what ``keys=`` takes.

    ``(umask 077; head -c 24 /dev/urandom | base64 >state.keys)`` makes one.

    Raises:
        StoreSettingsError: It cannot be read, or holds no such secrets.
    """
    try:
        found = read_secrets(path)
        Keys(found)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise StoreSettingsError(f"cannot take keys from {os.fspath(path)!r}: {why}") from None
    return found


def subject(text: str) -> str:
    """Return a login or an address in the one form that is hashed: lower case, NFC, its domain as A-labels."""
    text = text.strip().lower()
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    local, at, domain = text.rpartition("@")
    if not at:
        return text
    domain = domain.removesuffix(".")
    return f"{local}@{domain if domain.isascii() else ascii_name(domain) or domain}"


def address(ip: IPv4Address | IPv6Address | str) -> IPv4Address | IPv6Address | None:
    """Return a client's address, a mapped one as IPv4; None if it is none."""
    if isinstance(ip, str):
        if not _ADDRESS.fullmatch(ip):
            return None
        try:
            ip = ip_address(ip)
        except ValueError:
            return None
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip


def network(ip: IPv4Address | IPv6Address, ipv4: int, ipv6: int) -> str:
    """Return the network of a client, as text: of these lengths."""
    size = ipv4 if isinstance(ip, IPv4Address) else ipv6
    host = ip.max_prefixlen - size
    return f"{type(ip)(int(ip) >> host << host)}/{size}"
