"""DKIM signatures of one message, verified while the message comes.

Source: RFC 6376 section 6.
"""

import time
from dataclasses import dataclass
from functools import partial
from typing import Final

from aiomilter.auth.dkim._body import BodyDigest, BodyHashes
from aiomilter.auth.dkim._checking import CanonicalHeader, Policy, check_body, check_digest, check_times
from aiomilter.auth.dkim._crypto import require
from aiomilter.auth.dkim._incoming import MAX_BODY_HASHES, Incoming
from aiomilter.auth.dkim._questions import KeyQuestions
from aiomilter.auth.dkim._signature import Signature, Tags, Unusable, claims, duplicates, parse_tags, read_tags
from aiomilter.dns import Resolver
from aiomilter.mail.headers import MAX_FIELDS, MAX_SIZE, Field, HeaderSection, split_message

__all__ = ["Verifier", "verify"]

_MAX_QUESTIONS: Final = 10
_NO_POLICY: Final = Policy()


@dataclass(slots=True)
class _Check:
    """One signature under way: how to check it, and what makes the result of what is found."""

    field: Field
    made: "partial[Signature]"
    tags: Tags
    digest: BodyDigest


class Verifier(Incoming):
    """Verifies the signatures of one message: takes its header, then its body in chunks, and keeps no body.

    DNS is asked for all keys at the end of the header, and awaited by :meth:`finish` alone.

    Args:
        resolver: Who answers the DNS questions.
        policy: What counts of what can be verified.
        key_timeout: Seconds for each key, > 0; temperror after that.
        leading_space: Whether fields come with exactly the blanks that followed their colon, as an MTA that agreed to
            ``leading_space`` sends them.  Without, signatures of simple canonicalisation are ``approximate``, and neutral if
            they do not match.
        now: Seconds since 1970; None is the time at the end of the header.
        max_fields: Header fields that are kept at most.
        max_header_size: Octets of header that are kept at most; with more, all is temperror.
    Raises:
        ImportError: The library cryptography is not installed.

    Source: RFC 6376 section 6; RFC 8301; RFC 8463.
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        policy: Policy = _NO_POLICY,
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
        self._leading_space = leading_space
        self._now = now
        self._questions = KeyQuestions(resolver, timeout=key_timeout, limit=_MAX_QUESTIONS)
        # Those that are decided already are there as they are.
        self._checks: list[_Check | Signature] = []

    def end_of_headers(self) -> None:
        """Take it that the header has ended: read the signatures, and ask for their keys.

        To be called in a running event loop.
        """
        super().end_of_headers()
        if self._now is None:
            self._now = time.time()
        self._checks = []
        if not self.headers.complete:
            return
        repeated = duplicates(self.headers)
        for field in self.headers.get_all("DKIM-Signature"):
            if len(self._checks) < self._policy.max_signatures:
                self._checks.append(self._begin(field, repeated))
            else:
                self._checks.append(Signature("policy", "too many signatures", duplicates=repeated))

    async def finish(self) -> tuple[Signature, ...]:
        """Wait for the keys and return what each signature is worth, from top to bottom; once.

        Whatever sender and DNS did is a result, never an exception.

        Returns:
            One for each DKIM-Signature field; none if the message is not signed.  If the header was too large to be kept, one
            that says so.
        Raises:
            RuntimeError: The header has not ended.
        """
        self._expect_ended("finish")
        if not self.headers.complete:
            return (Signature("temperror", "the header is too large"),)
        self._hashes.finish()
        header = CanonicalHeader(self.headers)
        try:
            return tuple(
                [
                    check if isinstance(check, Signature) else await self._finished(check, header)
                    for check in self._checks
                ]
            )
        finally:
            self._questions.cancel()

    @property
    def answered(self) -> bool:
        """Whether all keys are there, so that :meth:`finish` waits for none."""
        return self._questions.answered

    def cancel(self) -> None:
        """Give the message up: no question goes on."""
        self._questions.cancel()

    def _begin(self, field: Field, repeated: tuple[str, ...]) -> _Check | Signature:
        """Read one signature and begin what has to be done for it."""
        tags, parsed = read_tags(field), None
        try:
            parsed = parse_tags(tags)
            if parsed.hash_name == "sha1" and not self._policy.allow_sha1:
                raise Unusable("policy", "the signature is made with SHA-1")
            assert self._now is not None
            check_times(parsed, self._policy, self._now)
            digest = self._hashes.want(parsed.hash_name, parsed.body_form, parsed.length)
            if digest is None:
                raise Unusable("policy", "too many different hashes of the body")
            if not self._questions.ask(parsed.domain, parsed.selector):
                raise Unusable("policy", "too many different keys")
        except Unusable as end:
            return claims(tags or {}, parsed, result=end.result, problem=end.problem, duplicates=repeated)
        approximate = parsed.header_form == "simple" and not self._leading_space
        made = partial(claims, tags or {}, parsed, duplicates=repeated, approximate=approximate)
        return _Check(field, made, parsed, digest)

    async def _finished(self, check: _Check, header: CanonicalHeader) -> Signature:
        """Return what a signature is worth."""
        tags = check.tags
        try:
            check_body(tags, check.digest, self._hashes)
            records = await self._questions.records(tags.domain, tags.selector)
        except Unusable as end:
            return check.made(result=end.result, problem=end.problem)
        octets = await header.digest(tags.hash_name, tags.names, check.field, tags.header_form)
        verdict = check_digest(tags, octets, records, self._policy)
        result, problem = verdict.result, verdict.problem
        if result == "fail" and tags.header_form == "simple" and not self._leading_space:
            result, problem = "neutral", "the header's octets are not known exactly (no leading space)"
        elif result == "pass" and self._covers_less(tags) and not self._policy.allow_length:
            result, problem = "policy", "the body is signed in part"
        return check.made(result=result, problem=problem, key_bits=verdict.key_bits, testing=verdict.testing)

    def _covers_less(self, tags: Tags) -> bool:
        """Whether a signature covers the beginning of the body alone."""
        return tags.length is not None and tags.length < self._hashes.size(tags.body_form)


async def verify(
    message: bytes,
    *,
    resolver: Resolver,
    policy: Policy = _NO_POLICY,
    now: float | None = None,
    key_timeout: float = 5.0,
) -> tuple[Signature, ...]:
    """Verify the signatures of a message at hand.

    Args:
        message: All of it, line ends as CRLF.
        resolver: Who answers the DNS questions.
        policy: What counts of what can be verified.
        now: Seconds since 1970; None is now.
        key_timeout: Seconds for each key, > 0; temperror after that.
    Returns:
        One for each DKIM-Signature field, from top to bottom; none if the message is not signed.
    Raises:
        ImportError: The library cryptography is not installed.

    Source: RFC 6376 section 6.
    """
    section, begin = split_message(message)
    verifier = Verifier(resolver, policy=policy, key_timeout=key_timeout, now=now)
    try:
        await verifier._take(section, message, begin)
        return await verifier.finish()
    finally:
        verifier.cancel()
