"""ARC sets, made while a message comes.

Source: RFC 8617 section 5.1.
"""

import hashlib
import time
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Final

from aiomilter.auth.arc._chain import Chain, Result
from aiomilter.auth.arc._recorded import aar_value
from aiomilter.auth.arc._sets import AAR, AMS, AS, MAX_SETS, Sets, broken, read_sets
from aiomilter.auth.dkim._body import BodyDigest, BodyHashes
from aiomilter.auth.dkim._canonical import header_input
from aiomilter.auth.dkim._checking import CanonicalHeader
from aiomilter.auth.dkim._crypto import require
from aiomilter.auth.dkim._incoming import Incoming
from aiomilter.auth.dkim._key import Key
from aiomilter.auth.dkim._layout import Layout
from aiomilter.auth.dkim._problems import Problems
from aiomilter.auth.dkim._signature import MAX_NAMES
from aiomilter.auth.dkim._signer import SIGN as DKIM_SIGN
from aiomilter.auth.dkim._signer import names_to_sign, signed
from aiomilter.auth.results import AuthenticationResults
from aiomilter.mail.headers import MAX_FIELDS, MAX_SIZE, Field, HeaderSection, split_message

__all__ = ["SIGN", "Sealer", "Sealing", "seal"]

SIGN: Final = (*DKIM_SIGN, "DKIM-Signature")
"""Names of the fields to sign, where a message has them (RFC 8617 section 4.1.2)."""

_NEVER: Final = ("arc-", "authentication-results")
# A signature stands on one line, as in the conformance suite, unless its key is so long that a line could not hold it.
_LINE: Final = 900


class Sealer:
    """Seals messages with a key: one for the process.

    Args:
        key: The key; it makes both signatures of a set.
        authserv_id: The name of this host, or of all hosts that trust each other; None is that of the results.
        headers: Names of the fields to sign where a message has them; each as often as it is there.
    Raises:
        ImportError: The library cryptography is not installed.
        ValueError: One of the fields must not be signed, or is no name.

    Source: RFC 8617 section 5.1.
    """

    def __init__(self, key: Key, *, authserv_id: str | None = None, headers: Sequence[str] = SIGN) -> None:
        require()
        self.key: Key = key
        """The key."""
        self.authserv_id: str | None = authserv_id
        """The name of this host; None is that of the results."""
        self.headers: tuple[str, ...] = tuple(headers)
        """Names of the fields to sign."""
        for name in self.headers:
            if name.lower().startswith(_NEVER):
                raise ValueError(f"headers: {name} must not be signed")
            Field.made(name, "")

    def start(
        self,
        chain: Chain | None = None,
        results: AuthenticationResults | None = None,
        *,
        now: float | None = None,
        max_fields: int = MAX_FIELDS,
        max_header_size: int = MAX_SIZE,
    ) -> "Sealing":
        """Begin with a message.

        Args:
            chain: The chain as the message arrived with it; None if that is known at :meth:`Sealing.finish` only.
            results: What was found on arrival; None if that is known at :meth:`Sealing.finish` only, or nothing.
            now: Seconds since 1970; None is the time at its end.
            max_fields: Header fields that are kept at most.
            max_header_size: Octets of header that are kept at most; a message with more is not sealed.
        """
        section = HeaderSection(max_fields=max_fields, max_size=max_header_size)
        return Sealing(self, section, chain, results, now)


class Sealing(Incoming):
    """One message that is being sealed: takes its header, then its body in chunks, and keeps no body.

    A seal is of the message as it leaves: :meth:`delete_headers` and :meth:`insert_header` say what else is done to it.
    Authentication-Results fields that name this host are taken for its own word.
    """

    def __init__(
        self,
        sealer: Sealer,
        section: HeaderSection,
        chain: Chain | None,
        results: AuthenticationResults | None,
        now: float | None,
    ) -> None:
        super().__init__(section, BodyHashes(1))
        self._sealer = sealer
        self._chain = chain
        self._results = results
        self._now = now
        self._problems = Problems()
        self._digest: BodyDigest | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """What may break the seal on its way, or has kept it from being made; complete after :meth:`finish`."""
        return self._problems.found()

    def end_of_headers(self) -> None:
        """Take it that the header has ended."""
        super().end_of_headers()
        self._digest = self._hashes.want("sha256", "relaxed")
        self._problems.header(self.headers)

    def body(self, chunk: bytes) -> None:
        """Take the next octets of the body, cut anywhere; line ends are CRLF.

        Raises:
            RuntimeError: The header has not ended.
        """
        super().body(chunk)
        self._problems.body(chunk)

    def delete_headers(self, name: str, occurrences: Iterable[int]) -> None:
        """Take it that fields are deleted, before :meth:`finish`.

        Args:
            name: The name of the fields, in any letter case.
            occurrences: Which of them, 1 is the first, as :func:`aiomilter.auth.results.forged` counts them.
        """
        fields = self.headers.get_all(name)
        gone = {id(fields[each - 1]) for each in occurrences if 0 < each <= len(fields)}
        self._edit([field for field in self.headers if id(field) not in gone])

    def insert_header(self, name: str, value: str) -> None:
        """Take it that a field is inserted on top, before :meth:`finish`: a DKIM-Signature of our own, for one.

        Args:
            name: Its name.
            value: Its value, folds as LF before a blank.
        Raises:
            ValueError: Name or value is not one.
        """
        self._edit([Field.made(name, value), *self.headers])

    def _edit(self, fields: list[Field]) -> None:
        if self.headers.complete:
            max_fields, max_size = self.headers.max_fields, self.headers.max_size
            self.headers: HeaderSection = HeaderSection(fields, max_fields=max_fields, max_size=max_size)

    async def finish(
        self, chain: Chain | None = None, results: AuthenticationResults | None = None
    ) -> list[tuple[str, str]]:
        """Return the fields of the set, name and value each; once.

        ARC-Seal comes first, then ARC-Message-Signature, then ARC-Authentication-Results, as they stand in the message.
        Folds are LF and a space, as :meth:`aiomilter.EndOfMessageContext.insert_header` takes them.

        Args:
            chain: See :meth:`Sealer.start`.
            results: See :meth:`Sealer.start`.
        Returns:
            The fields; none if the chain was sealed as failed already, has 50 sets, or the header was too large to be kept.
        Raises:
            RuntimeError: The header has not ended.
            ValueError: There is no chain, or neither results nor sealer name this host.

        Source: RFC 8617 section 5.1.
        """
        self._expect_ended("finish")
        chain, results = chain or self._chain, results or self._results
        authserv_id = self._sealer.authserv_id or (results.authserv_id if results is not None else "")
        if chain is None:
            raise ValueError("expected the chain as the message arrived with it, at start() or finish()")
        if not authserv_id:
            raise ValueError("expected an authserv-id, of the sealer or of the results")
        if not self.headers.complete:
            return []
        sets = read_sets(self.headers)
        instance = max(sets.highest, chain.instance) + 1
        if chain.sealed_as_failed or sets.sealed_as_failed:
            self._problems.add("the chain was sealed as failed: nothing is added to it")
            return []
        if instance > MAX_SETS:
            self._problems.add(f"the chain has {MAX_SETS} sets: nothing is added to it")
            return []
        self._hashes.finish()
        value, omitted = aar_value(instance, authserv_id, results, self.headers)
        if omitted:
            self._problems.add("more results than fit: the others are not recorded")
        now = int(time.time() if self._now is None else self._now)
        found = Field.made(AAR, value)
        signature = Field.made(AMS, await self._signature(instance, now))
        status = _status(chain, sets)
        covered = [found, signature]
        if status == "pass":
            covered[:0] = [field for each in sets.complete for field in (each.results, each.signature, each.seal)]
        seal = await self._seal(instance, now, status, covered)
        return [(AS, seal), (AMS, signature.value), (AAR, value)]

    async def _signature(self, instance: int, now: int) -> str:
        """Return the value of ARC-Message-Signature.

        Source: RFC 8617 section 4.1.2.
        """
        assert self._digest is not None
        names = names_to_sign(self.headers, self._sealer.headers, ())
        if len(names) > MAX_NAMES:
            names = names[:MAX_NAMES]
            self._problems.add(f"more than {MAX_NAMES} fields to sign: the others are not signed")
        # A message without any of the fields has nothing else to name.
        names = names or ["From"]
        key = self._sealer.key
        layout = Layout("")
        layout.word(f"bh={b64encode(self._digest.digest()).decode()};")
        layout.word("c=relaxed/relaxed;")
        layout.word(f"d={key.domain};")
        layout.names("h", names)
        layout.word(f"i={instance};")
        layout.word(f"s={key.selector};")
        layout.word(f"t={now}")
        field = Field.made(AMS, _with_signature(key, "", layout))
        digest = await CanonicalHeader(self.headers).digest("sha256", names, field, "relaxed")
        return _with_signature(key, b64encode(await signed(key.private, digest)).decode(), layout)

    async def _seal(self, instance: int, now: int, status: Result, covered: Sequence[Field]) -> str:
        """Return the value of ARC-Seal.

        Source: RFC 8617 sections 4.1.3 and 5.1.1.
        """
        key = self._sealer.key
        layout = Layout("")
        for tag in (f"cv={status};", f"d={key.domain};", f"i={instance};", f"s={key.selector};", f"t={now}"):
            layout.word(tag)
        digest = hashlib.sha256(usedforsecurity=False)
        await CanonicalHeader(self.headers).feed(digest, covered, "relaxed")
        digest.update(header_input((), Field.made(AS, _with_signature(key, "", layout)), "relaxed"))
        return _with_signature(key, b64encode(await signed(key.private, digest.digest())).decode(), layout)


def _with_signature(key: Key, signature: str, tags: Layout) -> str:
    """Return the value of a field.

    Its tags are in the order of their names, as the conformance suite writes them: what is made is the same, octet by octet.
    ``b=`` has lines of its own, so that no fold depends on it.
    """
    lines = [signature[at : at + _LINE] for at in range(0, len(signature), _LINE)]
    return "\n ".join((f"a={key.algorithm};", "b=" + "\n ".join(lines) + ";", str(tags)))


def _status(chain: Chain, sets: Sets) -> Result:
    """Return what a seal says of the chain: what it was worth on arrival, if it is still that chain.

    Source: RFC 8617 section 5.1 step 4.
    """
    if chain.sets != tuple(each.claims() for each in sets.complete) or broken(sets):
        return "fail"
    return chain.result


async def seal(
    message: bytes,
    key: Key,
    *,
    chain: Chain,
    authserv_id: str | None = None,
    results: AuthenticationResults | None = None,
    headers: Sequence[str] = SIGN,
    now: float | None = None,
) -> list[str]:
    """Return the fields of an ARC set for a message at hand, to stand above it.

    Authentication-Results fields of the message that name this host are taken for its own word: leave out those that
    :func:`aiomilter.auth.results.forged` finds.

    Args:
        message: All of it as it leaves, line ends as CRLF.
        key: What to seal with.
        chain: The chain as the message arrived with it.
        authserv_id: The name of this host; None is that of the results.
        results: What was found on arrival; None for nothing but what the message's own fields say.
        headers: Names of the fields to sign where the message has them.
        now: Seconds since 1970; None is now.
    Returns:
        ``"ARC-Seal: ..."``, ``"ARC-Message-Signature: ..."`` and ``"ARC-Authentication-Results: ..."``, folds as LF and a
        space, no line end at the end; none if the chain was sealed as failed already, has 50 sets, or the header is too large.
    Raises:
        ImportError: The library cryptography is not installed.
        ValueError: Neither authserv_id nor results name this host, or one of the fields must not be signed.

    Source: RFC 8617 section 5.1.
    """
    sealer = Sealer(key, authserv_id=authserv_id, headers=headers)
    section, begin = split_message(message)
    sealing = Sealing(sealer, section, chain, results, now)
    await sealing._take(section, message, begin)
    return [f"{name}: {value}" for name, value in await sealing.finish()]
