"""The Sender Rewriting Scheme: a forwarder's own sender address, which holds the one it replaces.

A forwarder that keeps the sender of a message fails the SPF policy of the sender's domain.  It sends as
``SRS0=HASH=TT=example.com=alice@forwarder.example`` instead, and a bounce to that address finds its way back to
``alice@example.com``.  A second forwarder makes ``SRS1=HASH=forwarder.example==HASH=TT=example.com=alice@second.example``
of it, and so does every further one, so that the address grows once only.  The hash keeps others from making such
addresses: without it a forwarder would be an open relay.

Source: aiomilter/help/srs.rst.
"""

import base64
import hashlib
import hmac
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, TypeAlias, cast

from aiomilter.exceptions import AddressError
from aiomilter.mail.domain import MAX_NAME, ascii_name
from aiomilter.mail.envelope import bare_address, domain, local_part

__all__ = ["Reason", "Rewriter", "SrsError", "read_secrets"]

Reason: TypeAlias = Literal["stale", "forged", "malformed", "not ours", "too long"]
"""Why an address cannot be rewritten."""

_TAG: Final = re.compile(r"SRS([01])([-+=])", re.IGNORECASE)
_STAMP: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_DAY: Final = 86400
_DAYS: Final = len(_STAMP) ** 2
_DOT_STRING: Final = re.compile(r"[^\s\x00-\x20\x7f()<>\[\]:;@\\,.\"]+(?:\.[^\s\x00-\x20\x7f()<>\[\]:;@\\,.\"]+)*")
_SPECIAL: Final = re.compile(r"[\s()<>\[\]:;@\\,\"]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_HOST: Final = re.compile(r"[^\s\x00-\x20\x7f=@\"\\<>(),;]+")
_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_MAX_LOCAL: Final = 64
_MAX_ADDRESS: Final = 254
"""Octets (RFC 5321 section 4.5.3.1: of a path 256, with its brackets)."""
_MAX_READ: Final = 2048
"""Octets of an address that is looked at; many times what any MTA takes."""
_MAX_SECRETS: Final = 100
_MAX_FILE: Final = 65536


class SrsError(AddressError):
    """An address cannot be rewritten.

    Args:
        message: What is wrong, for a log.
        reason: ``stale``: older than ``max_age``.  ``forged``: none of the secrets has made its hash.  ``malformed``: not the
            form of an address that could be rewritten.  ``not ours``: no SRS address of our domains.  ``too long``: it would be
            longer than SMTP allows.
    """

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason: Final = reason


class Rewriter:
    """Rewrites sender addresses, and what it has rewritten back.

    Args:
        secrets: Any texts or octets that are not empty: the first one makes hashes, all of them verify, so that an old one can
            stay until its addresses are too old.  Use 16 octets or more of chance.
        domain: What rewritten addresses end in: a domain whose mail comes here.
        own_domains: More domains of ours: their senders are not rewritten, and SRS addresses in them are taken for ours.
        max_age: Days that bounces are taken for, the last one included.
        separator: What follows ``SRS0`` in new addresses: ``=``, ``+`` or ``-``.  All three are read.
        hash_length: Characters of a new hash, 4 to 20; six bits each.
        min_hash_length: Characters of the shortest hash that is taken; as many as new ones have if None.
        any_domain: Whether to rewrite back SRS addresses in domains that are not ours, too.
        too_long: What to do with an address that would have a local-part over 64 or be over 254 octets, which SMTP servers
            need not take: ``leave`` it as it is, ``refuse`` it, or ``rewrite`` it all the same, as other programs do.
        clock: Returns seconds since 1970.

    Raises:
        AddressError: ``domain``, or one of ``own_domains``, is not a domain.
        ValueError: Another argument is not as described.

    Source: aiomilter/help/srs.rst.
    """

    def __init__(
        self,
        secrets: Iterable[str | bytes],
        domain: str,
        *,
        own_domains: Iterable[str] = (),
        max_age: int = 21,
        separator: str = "=",
        hash_length: int = 4,
        min_hash_length: int | None = None,
        any_domain: bool = False,
        too_long: Literal["leave", "refuse", "rewrite"] = "leave",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secrets = _checked_secrets(secrets)
        self.domain: Final = _checked_domain(domain)
        if isinstance(own_domains, str):
            raise ValueError("own_domains: expected several domains, found one text")
        self._ours = frozenset(_checked_domain(name).lower() for name in (domain, *own_domains))
        minimum = hash_length if min_hash_length is None else min_hash_length
        _check_range("max_age", max_age, 0, _DAYS - 1)
        _check_range("hash_length", hash_length, 4, 20)
        _check_range("min_hash_length", minimum, 4, hash_length)
        if separator not in ("=", "+", "-"):
            raise ValueError(f"separator: expected '=', '+' or '-', found {separator!r}")
        if too_long not in ("leave", "refuse", "rewrite"):
            raise ValueError(f"too_long: expected 'leave', 'refuse' or 'rewrite', found {too_long!r}")
        self._max_age = max_age
        self._separator = separator
        self._length = hash_length
        self._minimum = minimum
        self._any_domain = any_domain
        self._too_long = too_long
        self._clock = clock

    def forward(self, address: str) -> str:
        """Return the sender to forward a message of ``address`` with.

        The null sender, senders of our domains, and addresses that are ours already come back as they are.

        Raises:
            SrsError: ``malformed``, as one without a domain; or ``too long``, if that is to be refused.

        Source: aiomilter/help/srs.rst.
        """
        address = bare_address(_bounded(address))
        if not address:
            return ""
        local, host = _split(address)
        if not local or not _HOST.fullmatch(host) or len(host) > MAX_NAME:
            raise SrsError("expected a local-part, an @ and a domain", "malformed")
        if domain(address) in self._ours:
            return address
        made = _joined(self._forwarded(local, host), self.domain)
        size = len(_octets(made))
        if self._too_long == "rewrite" or (size <= _MAX_ADDRESS and size - len(self.domain) - 1 <= _MAX_LOCAL):
            return made
        if self._too_long == "refuse":
            raise SrsError(f"expected at most {_MAX_LOCAL} octets before the @, found {made!r:.300}", "too long")
        return address

    def _forwarded(self, local: str, host: str) -> str:
        """Return the new local-part."""
        tag = _TAG.match(local)
        if tag is not None and tag[1] == "1":
            # Of another forwarder, whose hash says nothing to us: its part is kept, ours is made anew.
            _, first, rest = _parts(local[tag.end() :], 3)
            return self._wrapped(first, rest)
        if tag is not None:
            return self._wrapped(host, local[tag.end() - 1 :])
        stamp = self._stamp()
        return f"SRS0{self._separator}{self._hash(stamp, host, local)}={stamp}={host}={local}"

    def _wrapped(self, host: str, rest: str) -> str:
        if not host or not rest.startswith(("=", "+", "-")):
            raise SrsError("expected SRS1=HASH=HOST==...", "malformed")
        return f"SRS1{self._separator}{self._hash(host, rest)}={host}={rest}"

    def reverse(self, address: str) -> str:
        """Return the address that has been rewritten: of an SRS0 address the sender, of an SRS1 address the first forwarder's.

        Raises:
            SrsError: It is ``not ours``, ``malformed``, ``forged`` or ``stale``.

        Source: aiomilter/help/srs.rst.
        """
        address = bare_address(_bounded(address))
        local, host = _split(address)
        tag = _TAG.match(local)
        if tag is None:
            raise SrsError("expected an address that begins with SRS0 or SRS1", "not ours")
        if not host:
            raise SrsError("expected a domain", "malformed")
        if not self._any_domain and domain(address) not in self._ours:
            raise SrsError(f"expected an address in {self.domain}, found one in {host!r:.80}", "not ours")
        given, *signed = _parts(local[tag.end() :], 3 if tag[1] == "1" else 4)
        if not self._has_made(given, *signed):
            raise SrsError("expected a hash that one of the secrets has made", "forged")
        if tag[1] == "1":
            first, rest = signed
            return _joined(f"SRS0{rest}", first)
        stamp, first, sender = signed
        if self._age(stamp) > self._max_age:
            raise SrsError(f"expected an address of the last {self._max_age} days", "stale")
        return _joined(sender, first)

    def _stamp(self) -> str:
        high, low = divmod(int(self._clock() // _DAY) % _DAYS, len(_STAMP))
        return _STAMP[high] + _STAMP[low]

    def _age(self, stamp: str) -> int:
        """Return the days since a stamp was made; one of tomorrow is nearly three years old."""
        numbers = [_STAMP.find(character) for character in stamp.upper()]
        if len(numbers) != 2 or -1 in numbers:
            raise SrsError("expected a time stamp of two letters", "malformed")
        high, low = numbers
        return (int(self._clock() // _DAY) - high * len(_STAMP) - low) % _DAYS

    def _hash(self, *signed: str) -> str:
        return next(self._hashes(signed))[: self._length].decode("ascii")

    def _hashes(self, signed: Iterable[str]) -> Iterator[bytes]:
        """Yield the whole hash that each secret makes; letter case of what is signed does not matter."""
        message = _octets("".join(signed)).lower()
        for secret in self._secrets:
            yield base64.b64encode(hmac.digest(secret, message, hashlib.sha1))

    def _has_made(self, given: str, *signed: str) -> bool:
        """Return whether a secret has made a hash; local-parts lose their letter case on the way, so it does not matter."""
        octets = _octets(given)
        if not self._minimum <= len(octets) <= 27:
            return False
        found = False
        for whole in self._hashes(signed):
            found |= hmac.compare_digest(whole[: len(octets)].lower(), octets.lower())
        return found


def read_secrets(path: str | os.PathLike[str]) -> tuple[bytes, ...]:
    """Return the secrets in a file, one a line, the newest first; blanks around them and empty lines do not count.

    This is also how postsrsd keeps them.

    Raises:
        OSError: It cannot be read.
        ValueError: It has none, more than 100, or is larger than 64 KiB.
    """
    with open(path, "rb") as file:
        text = file.read(_MAX_FILE + 1)
    if len(text) > _MAX_FILE:
        raise ValueError(f"expected a file of at most {_MAX_FILE} octets")
    secrets = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not 1 <= len(secrets) <= _MAX_SECRETS:
        raise ValueError(f"expected 1 to {_MAX_SECRETS} secrets, one a line, found {len(secrets)}")
    return secrets


def _checked_secrets(secrets: Iterable[str | bytes]) -> tuple[bytes, ...]:
    if isinstance(secrets, str | bytes):
        raise ValueError("secrets: expected several, as in ['secret'], found one text")
    found = []
    for secret in secrets:
        if not isinstance(cast(object, secret), str | bytes) or not secret:
            raise ValueError("secrets: expected texts or octets that are not empty")
        found.append(_octets(secret) if isinstance(secret, str) else bytes(secret))
    if not 1 <= len(found) <= _MAX_SECRETS:
        raise ValueError(f"secrets: expected 1 to {_MAX_SECRETS}, found {len(found)}")
    return tuple(found)


def _checked_domain(name: str) -> str:
    found = ascii_name(name.removesuffix("."))
    if found is None or len(found) > MAX_NAME or not _NAME.fullmatch(found) or ".." in found:
        raise AddressError(f"{name!r:.80}: expected a domain, as in example.org")
    return found


def _check_range(name: str, number: int, least: int, most: int) -> None:
    if not isinstance(cast(object, number), int) or not least <= number <= most:
        raise ValueError(f"{name}: expected {least} to {most}, found {number!r:.80}")


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _bounded(address: str) -> str:
    if len(address) > _MAX_READ:
        raise SrsError(f"expected at most {_MAX_READ} characters, found {len(address)}", "malformed")
    if _CONTROL.search(address):
        raise SrsError("expected no control characters", "malformed")
    try:
        _octets(address)
    except UnicodeEncodeError:
        raise SrsError("expected text of octets or of Unicode", "malformed") from None
    return address


def _split(address: str) -> tuple[str, str]:
    """Return the local-part without its quotes, and the domain as sent; "" where there is none.

    Raises:
        SrsError: The local-part would need quotes, and has none.
    """
    local, at, host = address.rpartition("@")
    if not at or '"' in host:
        local, host = address, ""
    plain = local_part(address) if host else local
    if plain == local and _SPECIAL.search(plain):
        raise SrsError("expected quotes around a local-part with special characters", "malformed")
    return plain, host


def _parts(text: str, count: int) -> list[str]:
    """Return what "=" separates, the last one with those of its own."""
    parts = text.split("=", count - 1)
    if len(parts) != count or not all(parts):
        raise SrsError(f"expected {count} parts with = between them, found {len([*filter(None, parts)])}", "malformed")
    return parts


def _joined(local: str, host: str) -> str:
    """Return an address, its local-part in quotes if it needs them (RFC 5321 section 4.1.2)."""
    if _DOT_STRING.fullmatch(local):
        return f"{local}@{host}"
    quoted = re.sub(r'([\\"])', r"\\\1", local)
    return f'"{quoted}"@{host}'
