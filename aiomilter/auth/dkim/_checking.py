"""The check of one signature, once header and body are known: what DKIM and ARC have in common.

Source: RFC 6376 section 6.1.
"""

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from hmac import compare_digest
from typing import Final, NamedTuple

from aiomilter.auth.dkim._body import BodyDigest, BodyHashes
from aiomilter.auth.dkim._canonical import Form, canonical_field, canonical_pieces, header_input
from aiomilter.auth.dkim._crypto import new_hash
from aiomilter.auth.dkim._record import KeyRecord
from aiomilter.auth.dkim._signature import Result, Tags, Unusable
from aiomilter.mail.headers import Field, HeaderSection

__all__ = ["CanonicalHeader", "Policy", "Verdict", "check_body", "check_digest", "check_times"]

_GRACE: Final = 60
"""Seconds that clocks of senders may be behind (x=)."""
_SKEW: Final = 300
"""Seconds that clocks of senders may be ahead (t=)."""
_LEAST_BITS: Final = 512
_TURN: Final = 131_072
"""Octets that are hashed before others have their turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What we accept of what can be verified; the defaults are those of the RFCs.

    Args:
        min_rsa_bits: Size of an RSA key that counts, at least; 512..8192.  RFC 8301 wants 1024.
        allow_sha1: Whether rsa-sha1 counts.  RFC 8301 forbids it.
        allow_length: Whether a signature of the beginning of a body (``l=``) counts: anybody may have added to it.
        allow_future: Whether a signature counts that says it was made more than 300 seconds from now.
        max_signatures: How many signatures of a message are looked at, from the top; 1..50.
    Raises:
        ValueError: A number is not in its range.

    Source: RFC 8301 section 3; RFC 6376 sections 3.5 and 8.2.
    """

    min_rsa_bits: int = 1_024
    allow_sha1: bool = False
    allow_length: bool = False
    allow_future: bool = False
    max_signatures: int = 10

    def __post_init__(self) -> None:
        for name, least, most in (("min_rsa_bits", _LEAST_BITS, 8_192), ("max_signatures", 1, 50)):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"{name}: expected {least} to {most}, found {value!r}")


class Verdict(NamedTuple):
    """What the check of a signature with one key says."""

    result: Result
    problem: str = ""
    key_bits: int = 0
    testing: bool = False


class CanonicalHeader:
    """The fields of a header as signatures cover them, each made once per form.

    Args:
        section: The header.
    """

    __slots__ = ("_made", "_waiting", "section")

    def __init__(self, section: HeaderSection) -> None:
        self.section: HeaderSection = section
        self._made: dict[tuple[int, Form], bytes] = {}
        # Octets since others had their turn.
        self._waiting = 0

    def field(self, field: Field, form: Form) -> bytes:
        """Return one field of the section as it is hashed."""
        key = (id(field), form)
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = canonical_field(field, form)
        return found

    def input(self, names: Iterable[str], signature: Field, form: Form) -> bytes:
        """Return what the hash of a signature is made of.

        Args:
            names: The fields it covers, as ``h=`` names them.
            signature: Its own field.
            form: The canonicalisation.
        """
        fields = self.section.from_below(names, without=signature)
        return header_input([self.field(field, form) for field in fields], signature, form)

    async def digest(self, algorithm: str, names: Iterable[str], signature: Field, form: Form) -> bytes:
        """Return the hash that a signature is made of; in a large header others have their turn in between.

        Args:
            algorithm: Its name for :mod:`hashlib`.
            names: See :meth:`input`, as the next two.
            signature: Its own field.
            form: The canonicalisation.
        """
        made = new_hash(algorithm)
        await self.feed(made, self.section.from_below(names, without=signature), form)
        made.update(header_input((), signature, form))
        return made.digest()

    async def feed(self, made: "hashlib._Hash", fields: Iterable[Field], form: Form) -> None:
        """Give fields to a hash as they are hashed; in large ones, and between many, others have their turn.

        Args:
            made: The hash.
            fields: Of the section.
            form: The canonicalisation.
        """
        for field in fields:
            if len(field.raw) > _TURN:
                for piece in canonical_pieces(field, form, _TURN):
                    made.update(piece)
                    await asyncio.sleep(0)
                continue
            octets = self.field(field, form)
            made.update(octets)
            self._waiting += len(octets)
            if self._waiting > _TURN:
                self._waiting = 0
                await asyncio.sleep(0)


def check_times(tags: Tags, policy: Policy, now: float) -> None:
    """Check when a signature was made and when it ends.

    Raises:
        Unusable: It has ended, or is of the future.

    Source: RFC 6376 section 3.5 (t=, x=).
    """
    if tags.expiration is not None and now > tags.expiration + _GRACE:
        raise Unusable("fail", "the signature has expired")
    if tags.timestamp is not None and tags.timestamp > now + _SKEW and not policy.allow_future:
        raise Unusable("fail", "the signature was made in the future")


def check_body(tags: Tags, digest: BodyDigest, hashes: BodyHashes) -> None:
    """Check the hash of the body.

    Raises:
        Unusable: The body is not the one that was signed.

    Source: RFC 6376 section 6.1.3.
    """
    if tags.length is not None and tags.length > hashes.size(tags.body_form):
        raise Unusable("fail", "the body is shorter than l= says")
    if not compare_digest(digest.digest(), tags.body_hash):
        raise Unusable("fail", "the body was changed")


def check_digest(tags: Tags, digest: bytes, records: Iterable[KeyRecord], policy: Policy) -> Verdict:
    """Check a signature of a header with the keys that its selector has.

    Args:
        tags: The signature's tags.
        digest: The hash that it is a signature of, see :meth:`CanonicalHeader.digest`.
        records: The key records, one at least: one that verifies it is enough.
        policy: What counts.

    Source: RFC 6376 sections 6.1.2 and 6.1.3.
    """
    verdicts = [_check_with(record, tags, digest, policy) for record in records]
    # Of several, one whose key could be used says more than one whose key could not.
    for result in ("pass", "policy", "fail"):
        for verdict in verdicts:
            if verdict.result == result:
                return verdict
    return verdicts[0]


def _check_with(record: KeyRecord, tags: Tags, digest: bytes, policy: Policy) -> Verdict:
    if problem := record.refuses(tags.key_type, tags.hash_name, subdomain=tags.subdomain):
        return Verdict("permerror", problem, testing=record.testing)
    key = record.key
    assert key is not None
    if key.type == "rsa" and key.bits < policy.min_rsa_bits:
        problem = f"the key has {key.bits} bits, fewer than {policy.min_rsa_bits}"
        return Verdict("policy", problem, key.bits, record.testing)
    if not key.verify(tags.signature, digest, tags.hash_name):
        return Verdict("fail", "the signature does not match the header", key.bits, record.testing)
    return Verdict("pass", "", key.bits, record.testing)
