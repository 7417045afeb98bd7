"""The chain of one message, verified while the message comes.

Source: RFC 8617 section 5.2.
"""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiomilter.auth.arc._chain import Chain, ChainSet
from aiomilter.auth.arc._sets import ArcSet, Sets, broken, message_tags, read_sets, seal_tags
from aiomilter.auth.dkim._body import BodyDigest, BodyHashes
from aiomilter.auth.dkim._canonical import header_input
from aiomilter.auth.dkim._checking import (
    CanonicalHeader,
    Policy,
    Verdict,
    check_body,
    check_digest,
    check_times,
)
from aiomilter.auth.dkim._crypto import require
from aiomilter.auth.dkim._incoming import MAX_BODY_HASHES, Incoming
from aiomilter.auth.dkim._questions import KeyQuestions
from aiomilter.auth.dkim._signature import Tags, Unusable
from aiomilter.dns import Resolver
from aiomilter.mail.headers import MAX_FIELDS, MAX_SIZE, HeaderSection, split_message

__all__ = ["Verifier", "verify"]

_MAX_QUESTIONS: Final = 20
_MAX_SIGNATURES: Final = 10
"""Signatures of the message (not seals) that are verified, from the newest on."""
# Sets that are read, and seals that are verified, before others have their turn.
_AT_ONCE: Final = 4
_NO_POLICY: Final = Policy()
_NO_CHAIN: Final = Chain("none")
_NO_SETS: Final = Sets()


@dataclass(slots=True)
class _Check:
    """One signature of the message under way."""

    arc_set: ArcSet
    tags: Tags
    digest: BodyDigest


class Verifier(Incoming):
    """Verifies the chain of one message: takes its header, then its body in chunks, and keeps no body.

    DNS is asked for all keys at the end of the header, and awaited by :meth:`finish` alone.

    Args:
        resolver: Who answers the DNS questions.
        policy: What counts of what can be verified, as for DKIM; its number of signatures and SHA-1 are not for ARC.
        oldest_pass: Whether to find since which set the message is unchanged, for which older signatures are verified.
        key_timeout: Seconds for each key, > 0; the chain fails after that, as a temporary failure.
        leading_space: Whether fields come with exactly the blanks that followed their colon.  Without, signatures of simple
            canonicalisation may not match.
        now: Seconds since 1970; None is the time at the end of the header.
        max_fields: Header fields that are kept at most.
        max_header_size: Octets of header that are kept at most; with more, the chain fails, as a temporary failure.
    Raises:
        ImportError: The library cryptography is not installed.

    Source: RFC 8617 section 5.2.
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        policy: Policy = _NO_POLICY,
        oldest_pass: bool = True,
        key_timeout: float = 5.0,
        leading_space: bool = True,
        now: float | None = None,
        max_fields: int = MAX_FIELDS,
        max_header_size: int = MAX_SIZE,
    ) -> None:
        require()
        headers = HeaderSection(max_fields=max_fields, max_size=max_header_size)
        super().__init__(headers, BodyHashes(MAX_BODY_HASHES))
        self._policy = policy
        self._oldest_pass = oldest_pass
        self._leading_space = leading_space
        self._now = now
        self._questions = KeyQuestions(resolver, timeout=key_timeout, limit=_MAX_QUESTIONS)
        self._sets = _NO_SETS
        self._end: Unusable | None = None
        # From the newest on: the signatures of the message, and the seals of all sets.
        self._signatures: list[_Check] = []
        self._seals: list[Tags] = []

    def end_of_headers(self) -> None:
        """Take it that the header has ended: read the sets, and ask for their keys.

        To be called in a running event loop.
        """
        super().end_of_headers()
        if not self.headers.complete:
            self._end = Unusable("temperror", "the header is too large")
            return
        self._sets = read_sets(self.headers)
        if not self._sets.highest and not self._sets.problem:
            return
        if self._now is None:
            self._now = time.time()
        if problem := broken(self._sets):
            self._end = Unusable("permerror", problem)
            return
        try:
            self._begin(self._sets.complete)
        except Unusable as end:
            self._end = end
            self._questions.cancel()

    def body(self, chunk: bytes) -> None:
        """Take the next octets of the body, cut anywhere; line ends are CRLF.

        Raises:
            RuntimeError: The header has not ended.
        """
        if self._end is None:
            super().body(chunk)

    async def finish(self) -> Chain:
        """Wait for the keys and return what the chain is worth; once.

        Whatever sealers and DNS did is a result, never an exception.

        Raises:
            RuntimeError: The header has not ended.
        """
        self._expect_ended("finish")
        if not self._sets.complete and self._end is None:
            return _NO_CHAIN
        sets = await self._claims()
        highest = self._sets.highest
        try:
            if self._end is not None:
                raise self._end
            self._hashes.finish()
            header = CanonicalHeader(self.headers)
            await self._check_signature(self._signatures[0], header)
            await self._check_seals(self._sets.complete, header)
            oldest_pass = await self._oldest(header) if self._oldest_pass else None
        except Unusable as end:
            return Chain("fail", highest, None, sets, end.problem, end.result == "temperror")
        finally:
            self._questions.cancel()
        return Chain("pass", highest, oldest_pass, sets)

    async def _claims(self) -> tuple[ChainSet, ...]:
        """Return what all sets claim; names in scripts of the world take time, so others have their turn in between."""
        found = []
        for number, each in enumerate(self._sets.complete, 1):
            found.append(each.claims())
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return tuple(found)

    @property
    def answered(self) -> bool:
        """Whether all keys are there, so that :meth:`finish` waits for none."""
        return self._questions.answered

    def cancel(self) -> None:
        """Give the message up: no question goes on."""
        self._questions.cancel()

    def _begin(self, sets: Sequence[ArcSet]) -> None:
        """Read all signatures and begin what has to be done for them.

        Raises:
            Unusable: One that is needed is not to be checked.
        """
        if not sets:
            return
        newest, *older = reversed(sets)
        self._signatures.append(self._begin_signature(newest))
        for each in (newest, *older):
            try:
                tags = seal_tags(each.seal_tags)
                self._begin_key(tags)
            except Unusable as end:
                raise _of(end, f"seal {each.instance}") from None
            self._seals.append(tags)
        if not self._oldest_pass:
            return
        for each in older[: _MAX_SIGNATURES - 1]:
            try:
                self._signatures.append(self._begin_signature(each))
            except Unusable:
                break

    def _begin_signature(self, each: ArcSet) -> _Check:
        try:
            tags = message_tags(each.signature_tags)
            digest = self._hashes.want(tags.hash_name, tags.body_form, tags.length)
            if digest is None:
                raise Unusable("policy", "too many different hashes of the body")
            self._begin_key(tags)
        except Unusable as end:
            raise _of(end, f"message signature {each.instance}") from None
        return _Check(each, tags, digest)

    def _begin_key(self, tags: Tags) -> None:
        """Ask for the key of a signature or seal.

        Raises:
            Unusable: What is known of it already decides.
        """
        if tags.hash_name == "sha1":
            raise Unusable("policy", "made with SHA-1")
        assert self._now is not None
        check_times(tags, self._policy, self._now)
        if not self._questions.ask(tags.domain, tags.selector):
            raise Unusable("policy", "too many different keys")

    async def _check_signature(self, check: _Check, header: CanonicalHeader) -> None:
        """Check one signature of the message.

        Raises:
            Unusable: It does not pass.

        Source: RFC 8617 section 5.2 step 4.
        """
        tags = check.tags
        try:
            check_body(tags, check.digest, self._hashes)
            in_part = tags.length is not None and tags.length < self._hashes.size(tags.body_form)
            if in_part and not self._policy.allow_length:
                raise Unusable("policy", "the body is signed in part")
            records = await self._questions.records(tags.domain, tags.selector)
            digest = await header.digest(tags.hash_name, tags.names, check.arc_set.signature, tags.header_form)
            verdict = check_digest(tags, digest, records, self._policy)
            if verdict.result == "fail" and tags.header_form == "simple" and not self._leading_space:
                raise Unusable("fail", "the header's octets are not known exactly (no leading space)")
            _demand(verdict)
        except Unusable as end:
            raise _of(end, f"message signature {check.arc_set.instance}") from None

    async def _check_seals(self, sets: Sequence[ArcSet], header: CanonicalHeader) -> None:
        """Check all seals, the newest first.

        Raises:
            Unusable: One does not pass.

        Source: RFC 8617 section 5.2 step 6 and section 5.1.1.
        """
        digests = []
        # Each seal covers all sets up to its own: hashed once, from the oldest on.
        covered = hashlib.sha256(usedforsecurity=False)
        for each in sets:
            await header.feed(covered, (each.results, each.signature), "relaxed")
            sealed = covered.copy()
            sealed.update(header_input((), each.seal, "relaxed"))
            digests.append(sealed.digest())
            await header.feed(covered, (each.seal,), "relaxed")
        for number, (each, tags, digest) in enumerate(
            zip(reversed(sets), self._seals, reversed(digests), strict=True), 1
        ):
            try:
                records = await self._questions.records(tags.domain, tags.selector)
                _demand(check_digest(tags, digest, records, self._policy))
            except Unusable as end:
                raise _of(end, f"seal {each.instance}") from None
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _oldest(self, header: CanonicalHeader) -> int:
        """Return the lowest instance from which on all signatures of the message pass; 0 if all do.

        Source: RFC 8617 section 5.2 step 5.
        """
        oldest = self._signatures[0].arc_set.instance
        for check in self._signatures[1:]:
            try:
                await self._check_signature(check, header)
            except Unusable:
                break
            oldest = check.arc_set.instance
        return 0 if oldest == 1 else oldest


def _demand(verdict: Verdict) -> None:
    if verdict.result != "pass":
        raise Unusable(verdict.result, verdict.problem)


def _of(end: Unusable, what: str) -> Unusable:
    """Return why a chain fails: what was found, and where."""
    return Unusable(end.result, f"{what}: {end.problem}")


async def verify(
    message: bytes,
    *,
    resolver: Resolver,
    policy: Policy = _NO_POLICY,
    oldest_pass: bool = True,
    now: float | None = None,
    key_timeout: float = 5.0,
) -> Chain:
    """Verify the chain of a message at hand.

    Args:
        message: All of it, line ends as CRLF.
        resolver: Who answers the DNS questions.
        policy: What counts of what can be verified.
        oldest_pass: Whether to find since which set the message is unchanged.
        now: Seconds since 1970; None is now.
        key_timeout: Seconds for each key, > 0.
    Raises:
        ImportError: The library cryptography is not installed.

    Source: RFC 8617 section 5.2.
    """
    section, begin = split_message(message)
    verifier = Verifier(resolver, policy=policy, oldest_pass=oldest_pass, key_timeout=key_timeout, now=now)
    try:
        await verifier._take(section, message, begin)
        return await verifier.finish()
    finally:
        verifier.cancel()
