"""Key records: what a domain says of the key of one selector.

Source: RFC 6376 sections 3.6.1 and 6.1.2; RFC 8463 section 4.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from aiomilter.auth.dkim._crypto import KeyType, PublicKey, load_public
from aiomilter.auth.dkim._tags import base64_octets, tag_list, words

__all__ = ["MAX_RECORD", "KeyRecord", "key_records", "parse_record"]

MAX_RECORD: Final = 4_096
"""Octets of a key record."""
_MAX_RECORDS: Final = 3
"""At one name: those beyond it are not tried."""
_KEY_TYPES: Final[dict[str, KeyType]] = {"rsa": "rsa", "ed25519": "ed25519"}


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key record.

    Args:
        key: The key; None if there is none to use.
        problem: Why there is none; "" if there is one.
        hashes: The hash algorithms that it is for; empty if it is for all.
        services: What it is for; empty if it is for everything.
        testing: The domain is testing DKIM (``t=y``).
        strict: The identity's domain must be the signing domain itself (``t=s``).
        type: Its type, known or not.
    """

    key: PublicKey | None
    problem: str = ""
    hashes: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    testing: bool = False
    strict: bool = False
    type: str = "rsa"

    def refuses(self, key_type: str, hash_name: str, *, subdomain: bool) -> str:
        """Return why the key is not for a signature; "" if it is.

        Args:
            key_type: The type of key that the signature was made with.
            hash_name: Its hash algorithm.
            subdomain: Its identity is below the signing domain.
        """
        if self.services and not self.services & {"*", "email"}:
            return "the key is not for email"
        if self.hashes and hash_name not in self.hashes:
            return f"the key is not for {hash_name}"
        if self.problem:
            return self.problem
        if self.type != key_type:
            return f"the key is not of the type {key_type}"
        if self.strict and subdomain:
            return "the key is not for subdomains"
        return ""


def key_records(texts: Iterable[bytes]) -> list[KeyRecord]:
    """Return the key records among the TXT records of one name, in their order."""
    found: list[KeyRecord] = []
    for text in texts:
        record = parse_record(text)
        if record is not None:
            found.append(record)
            if len(found) == _MAX_RECORDS:
                break
    return found


# Keys are few, and each is asked for again and again; parsed, one takes some 3 KiB with its text.
@lru_cache(maxsize=2_000)
def parse_record(text: bytes) -> KeyRecord | None:
    """Return one key record; None for a TXT record that is not one.

    What is wrong with one is its ``problem``.
    """
    if len(text) > MAX_RECORD:
        return KeyRecord(None, f"the key record has more than {MAX_RECORD} octets")
    tags = tag_list(text.decode("utf-8", "surrogateescape"))
    if tags is None:
        return None
    if "v" in tags and (next(iter(tags)) != "v" or tags["v"] != "DKIM1"):
        return None
    # Of any TXT record that has an equals sign, this is what makes it a key record.
    if "p" not in tags:
        return KeyRecord(None, "the key record has no p=") if "v" in tags or "k" in tags else None
    key_type = tags.get("k") or "rsa"
    flags = words(tags.get("t", ""))
    key, problem = _key(key_type, tags["p"])
    return KeyRecord(
        key,
        problem,
        frozenset(words(tags.get("h", ""))),
        frozenset(words(tags.get("s", ""))),
        "y" in flags,
        "s" in flags,
        key_type,
    )


def _key(key_type: str, value: str) -> tuple[PublicKey | None, str]:
    """Return the key or what is wrong with it."""
    if not value:
        return None, "the key is revoked"
    if key_type not in _KEY_TYPES:
        return None, "the key is of an unknown type"
    octets = base64_octets(value)
    if octets is None:
        return None, "the key is not base64"
    found = load_public(_KEY_TYPES[key_type], octets)
    return (None, f"the key cannot be used: {found}") if isinstance(found, str) else (found, "")
