"""What the chain of a message is worth, as a value.

Source: RFC 8617 sections 4.4, 5.2 and 6.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from aiomilter.auth.dkim._signature import domain_name, is_below
from aiomilter.auth.results import AuthenticationResults, MethodResult, Property, parse

__all__ = ["Chain", "ChainSet", "Result"]

Result: TypeAlias = Literal["none", "pass", "fail"]
"""The validation status of a chain (RFC 8617 section 4.4)."""


@dataclass(frozen=True, slots=True)
class ChainSet:
    """What the three fields of one ARC set claim, as far as they can be read.

    Only in a chain that passes is it more than a claim: there the domain has sealed it.

    Args:
        instance: Its number ``i=``, 1..50; 1 is the oldest.
        domain: The domain that sealed it, lower case, A-labels; "" if it cannot be read.
        selector: The selector of its key, the same.
        status: ``cv=`` of the seal, the chain as the sealer found it.
        signer: The domain that signed the message (ARC-Message-Signature).
        value: The value of ARC-Authentication-Results, as it is written.
        timestamp: When it was sealed, in seconds since 1970; None if it does not say.
    """

    instance: int
    domain: str
    selector: str
    status: str
    signer: str
    value: str
    timestamp: int | None = None

    @property
    def results(self) -> AuthenticationResults | None:
        """What the sealer found, read anew each time; None if it cannot be read."""
        return parse(self.value)


@dataclass(frozen=True, slots=True)
class Chain:
    """What the chain of ARC sets of a message is worth.

    Args:
        result: none: there are no sets; pass: every seal holds, and the newest signature of the message; fail: treat the
            message as one without a chain.
        instance: The highest instance found; 0 if there is none, 50 if there are too many sets to look at, or too large ones.
        oldest_pass: The lowest instance since which the message has not been changed; 0 if it never was; None if the chain
            does not pass, or this was not asked for.
        sets: The complete sets, oldest first.
        problem: Why it fails; "" if it does not.
        temporary: It fails because DNS could not say, or the header was too large to be kept: a later try may pass, so
            answer 4xx rather than seal this.

    Source: RFC 8617 sections 4.4 and 5.2.
    """

    result: Result
    instance: int = 0
    oldest_pass: int | None = None
    sets: tuple[ChainSet, ...] = ()
    problem: str = ""
    temporary: bool = False

    @property
    def sealers(self) -> tuple[str, ...]:
        """The domains that sealed the sets, oldest first."""
        return tuple(each.domain for each in self.sets)

    @property
    def sealed_as_failed(self) -> bool:
        """Whether the newest seal says that the chain had failed already: nothing is added to such a chain."""
        return bool(self.sets) and self.sets[-1].instance == self.instance and self.sets[-1].status == "fail"

    def trusted_by(self, domains: Iterable[str]) -> bool:
        """Whether the chain passes, and all who sealed the message as it is now are trusted.

        These are the sealers from :attr:`oldest_pass` on; all of them, if that is 0 or not known.

        Args:
            domains: Who is trusted; ``".example.net"`` is example.net and all names below it.

        Source: RFC 8617 sections 7.2.1 and 9.4.
        """
        since = self.oldest_pass or 1
        trusted = tuple(domains)
        return self.result == "pass" and all(_among(each.domain, trusted) for each in self.sets[since - 1 :])

    def assessment(self, domains: Iterable[str]) -> AuthenticationResults | None:
        """Return what the first of the trusted sealers found; None if the chain is not :meth:`trusted_by` the domains.

        It is the oldest set with none but trusted ones after it: sets below are a stranger's word, and count for nothing.

        Args:
            domains: Who is trusted.
        """
        trusted = tuple(domains)
        if not self.trusted_by(trusted):
            return None
        oldest = self.sets[-1]
        for each in reversed(self.sets):
            if not _among(each.domain, trusted):
                break
            oldest = each
        return oldest.results

    def method_result(self, remote_ip: str | None = None) -> MethodResult:
        """Return the part that the chain has in an Authentication-Results header field.

        Args:
            remote_ip: The address of the SMTP client.

        Source: RFC 8617 sections 6 and 10.
        """
        properties = [Property("smtp", "remote-ip", remote_ip)] if remote_ip else []
        if self.oldest_pass is not None:
            properties.append(Property("header", "oldest-pass", str(self.oldest_pass)))
        comment = f"i={self.instance}: {', '.join(each or '?' for each in self.sealers)}" if self.sets else ""
        return MethodResult("arc", self.result, tuple(properties), self.problem, comment)


def _among(domain: str, trusted: Iterable[str]) -> bool:
    """Whether a domain is one of those trusted."""
    for each in trusted:
        name = domain_name(each.removeprefix("."))
        if name is not None and (domain == name or (each.startswith(".") and is_below(domain, name))):
            return True
    return False
