"""The results of all checks of one message, as a value."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from aiomilter.auth.arc import Chain
from aiomilter.auth.dkim import Signature, method_results
from aiomilter.auth.dmarc import Disposition, DmarcRecord, DmarcResult, Override, SignatureResult
from aiomilter.auth.iprev import IprevResult
from aiomilter.auth.results import AuthenticationResults, MethodResult
from aiomilter.auth.spf import SpfResult
from aiomilter.dns import IPAddress

__all__ = ["METHODS", "Authentication"]

METHODS: Final = ("iprev", "spf", "dkim", "arc", "dmarc")
"""The methods there are, in the order they are written in."""

_PLACES: Final = {method: at for at, method in enumerate(("auth", "iprev", "spf", "dkim", "arc", "dmarc"))}
# More is nobody's to read, and MTAs cut or refuse long fields.
_MAX_SIZE: Final = 4096


_NO_CHAIN: Final = Chain("none")
_NO_DMARC: Final = DmarcResult("none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Authentication:
    """The results of all checks of one message.

    A check that was not made has the result "none".

    Args:
        authserv_id: Our name.
        methods: The checks that were made, of "iprev", "spf", "dkim", "arc" and "dmarc".
        ip: The address of the client that counts: behind a relay of ours, the one that it names; None if it is not known.
        sender_domain: The domain of the envelope sender; "" for the null sender.
        iprev: The client's reverse name.
        spf: The envelope sender, or the HELO name if there is none.
        helo_spf: The HELO name.
        dkim: The signatures, from top to bottom.
        arc: The ARC chain.
        dmarc: The author's domain.
        forged: The Authentication-Results fields that claim to be ours, from the last to the first; 1 is the first one.
    """

    authserv_id: str
    methods: frozenset[str]
    ip: IPAddress | None
    sender_domain: str
    iprev: IprevResult
    spf: SpfResult
    helo_spf: SpfResult
    dkim: tuple[Signature, ...] = ()
    arc: Chain = _NO_CHAIN
    dmarc: DmarcResult = _NO_DMARC
    forged: tuple[int, ...] = ()

    @property
    def temporary(self) -> bool:
        """Whether DNS did not answer, so that another result may come later."""
        every = (self.iprev.result, self.spf.result, self.dmarc.result, *(each.result for each in self.dkim))
        return "temperror" in every or self.arc.temporary

    def results(self, authserv_id: str | None = None, extra: Iterable[MethodResult] = ()) -> AuthenticationResults:
        """Return the value of the one Authentication-Results field to put above the message.

        It is under 4,096 octets: if need be, signatures that neither pass nor had DNS fail are left out, the last ones
        first, and counted in a comment.

        Args:
            authserv_id: Our name; None for the one of the Authenticator or client.
            extra: Results of other methods, such as ``auth``.

        Source: RFC 8601 sections 2.2 and 2.7.
        """
        name = self.authserv_id if authserv_id is None else authserv_id
        others = [*extra]
        if "iprev" in self.methods:
            others.append(self.iprev.method_result())
        if "spf" in self.methods:
            others.append(self.spf.method_result())
        if "arc" in self.methods:
            # The client matters to whoever reads of a chain.
            address = str(self.ip) if self.ip is not None and self.arc.result != "none" else None
            others.append(self.arc.method_result(address))
        if "dmarc" in self.methods:
            others.append(self.dmarc.method_result())
        signatures = method_results(self.dkim) if "dkim" in self.methods else ()
        found = AuthenticationResults(name, _ordered([*others, *signatures]))
        kept = _by_worth(signatures)
        while kept and _at_most(found) >= _MAX_SIZE and _size(found) >= _MAX_SIZE:
            kept.pop()
            found = AuthenticationResults(name, _ordered([*others, *_counted(signatures, set(kept))]))
        return found

    def dmarc_record(self, *, done: Disposition | None = None, reasons: Iterable[Override] = ()) -> DmarcRecord | None:
        """Return what the author's domain may be told of this message; None if it publishes no policy.

        Args:
            done: What was done with a message that failed; None for ``dmarc.disposition``.
            reasons: Why, where that is not what the policy says.
        """
        if self.ip is None:
            return None
        return DmarcRecord.of(
            self.dmarc,
            source_ip=self.ip,
            envelope_from=self.sender_domain,
            signatures=[SignatureResult(each.domain, each.selector, each.result, each.problem) for each in self.dkim],
            spf_domain=self.spf.domain if "spf" in self.methods else "",
            spf_result=self.spf.result,
            done=done,
            reasons=reasons,
        )


def _ordered(results: Sequence[MethodResult]) -> tuple[MethodResult, ...]:
    """Return results in the order that people expect, those of one method in their own."""
    return tuple(sorted(results, key=_place))


def _place(result: MethodResult) -> int:
    return _PLACES.get(result.method, len(_PLACES))


def _at_most(found: AuthenticationResults) -> float:
    """Return what a field cannot have more octets than, without writing it: of most fields that is enough to know."""
    texts = [found.authserv_id]
    for each in found.results:
        texts += (each.method, each.result, each.reason, each.comment)
        for named in each.properties:
            texts += named
    text = "".join(texts)
    # In ASCII an octet may be escaped, and round each text there are a few signs, as in ``reason=""``.
    return 2 * len(text) + 12 * len(texts) if text.isascii() else math.inf


def _size(found: AuthenticationResults) -> int:
    return max(len(str(found)), len(found.value(smtputf8=True).encode()))


def _by_worth(signatures: Sequence[MethodResult]) -> list[int]:
    """Return the places of signatures, those worth most first."""
    worth = {"pass": 0, "temperror": 1}
    return sorted(range(len(signatures)), key=lambda at: (worth.get(signatures[at].result, 2), at))


def _counted(signatures: Sequence[MethodResult], kept: set[int]) -> list[MethodResult]:
    """Return the signatures that are kept, with the number of the others in the last one's comment."""
    found = [each for at, each in enumerate(signatures) if at in kept]
    left = f"{len(signatures) - len(kept)} more signatures"
    if not found:
        return [MethodResult("dkim", "none", comment=left)]
    last = found[-1]
    return [*found[:-1], replace(last, comment=f"{last.comment}, {left}" if last.comment else left)]
