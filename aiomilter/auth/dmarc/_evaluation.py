"""The evaluation of a message: whether SPF or a signature agrees with its From field, and what the domain asks for if not.

Source: RFC 9989 sections 4.4, 4.10 and 5.3.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias, get_args

from aiomilter.auth.dmarc._author import author_domains
from aiomilter.auth.dmarc._record import Alignment, Disposition, Record
from aiomilter.auth.dmarc._walk import Level, Lookups, Walk
from aiomilter.auth.results import MethodResult, Property
from aiomilter.auth.spf import SpfResult
from aiomilter.dns import Resolver, question_name
from aiomilter.exceptions import AddressError, ResolverError
from aiomilter.mail.display import visible

__all__ = [
    "MAX_LOOKUPS",
    "Discovery",
    "DmarcResult",
    "Override",
    "OverrideType",
    "Policy",
    "PublicSuffixes",
    "Result",
    "Signature",
    "evaluate",
    "organizational_domain",
    "walk",
]

Result: TypeAlias = Literal["none", "pass", "fail", "temperror", "permerror"]
"""The results of RFC 9989 section 4.11, as Authentication-Results has them."""

OverrideType: TypeAlias = Literal["local_policy", "mailing_list", "other", "policy_test_mode", "trusted_forwarder"]
"""The kinds of reasons not to follow a policy, as RFC 9990 names them."""

# Of one message there are a hundred questions at most, SPF's and DKIM's among them.
MAX_LOOKUPS: Final = 60
_MAX_IDENTIFIERS: Final = 11
_MAX_AUTHORS: Final = 3

_STRENGTH: Final = get_args(Disposition)


class Signature(Protocol):
    """What DMARC needs to know about a DKIM signature; :class:`aiomilter.auth.dkim.Signature` has it."""

    @property
    def result(self) -> str:
        """The result of RFC 8601 section 2.7.1."""
        ...

    @property
    def domain(self) -> str:
        """The domain that signed (d=)."""
        ...

    @property
    def aligned_identifier(self) -> str | None:
        """That domain if the signature passes and covers the whole body; else None."""
        ...


class PublicSuffixes(Protocol):
    """A public suffix list, such as ``publicsuffixlist.PublicSuffixList()``."""

    def privatesuffix(self, domain: str, /) -> str | None:
        """Return the part of a domain name that was registered; None if nothing of it was."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The receiver's choices in DMARC.

    Args:
        several_authors: The result for a message with authors of several domains: ``"permerror"``; or ``"strictest"``:
            each domain is evaluated (three at most), and the strictest policy of those that fail counts.
        fallback: A public suffix list that says where the Organizational Domain is if no record on the way does
            (psd=y, psd=n), as in RFC 7489; None for the tree walk alone, as in RFC 9989.

    Source: RFC 9989 sections 4.10.2 and 11.5.
    """

    several_authors: Literal["permerror", "strictest"] = "permerror"
    fallback: PublicSuffixes | None = None

    def __post_init__(self) -> None:
        if self.several_authors not in ("permerror", "strictest"):
            raise ValueError(f"several_authors: expected 'permerror' or 'strictest', found {self.several_authors!r}")


@dataclass(frozen=True, slots=True)
class Override:
    """The reason why a message was not treated as its author's domain asks.

    Args:
        type: The kind of reason.
        comment: More about it; "" for none.

    Source: RFC 9990 section 3.1.1.
    """

    type: OverrideType
    comment: str = ""


@dataclass(frozen=True, slots=True)
class DmarcResult:
    """The result of DMARC for one message.

    Args:
        result: pass: SPF or a signature agrees with the author's domain; fail: none does; none: the domain publishes no
            policy; permerror: the From fields name no author, or several; temperror: DNS did not answer.
        author_domain: The domain of the From field, A-labels; "" if there is none, or none that can be told.
        domain: The domain whose record was used: the author's or one above it; "" if none was.
        organizational_domain: The author's Organizational Domain; "" if it could not be found out.
        policy: What the domain asks for if mail fails, the one of p, sp and np that is for this author, and one level
            less with t=y; None without a record.
        aligned: What agrees with the author's domain: ``"spf"``, ``"dkim"``, both, or nothing.
        aligned_signatures: The places of the signatures that agree, counted from 0 in those given.
        record: The record that was used, if one was.
        published: What ``policy`` would be without t=y.
        discovery_method: How the organizational_domain was found: by the tree walk, or by a public suffix list.
        override: The reason not to follow the policy; None if there is none.
        problem: Why the result is none, temperror or permerror; or what is wrong with the record; "" otherwise.
    """

    result: Result
    author_domain: str = ""
    domain: str = ""
    organizational_domain: str = ""
    policy: Disposition | None = None
    aligned: tuple[str, ...] = ()
    aligned_signatures: tuple[int, ...] = ()
    record: Record | None = None
    published: Disposition | None = None
    discovery_method: Literal["psl", "treewalk"] = "treewalk"
    override: Override | None = None
    problem: str = ""

    @property
    def disposition(self) -> Disposition:
        """What the domain asks for this message; "none" if it passes, or if there is an override.

        Do not reject solely because of it: mailing lists break signatures.

        Source: RFC 9989 sections 5.4 and 7.4.
        """
        if self.result != "fail" or self.override is not None or self.policy is None:
            return "none"
        return self.policy

    def overridden(self, override: Override) -> "DmarcResult":
        """Return the result with a reason not to follow the policy."""
        return replace(self, override=override)

    def method_result(self) -> MethodResult:
        """Return the part that DMARC has in an Authentication-Results header field.

        Source: RFC 9989 section 9.1; RFC 8601 section 2.7.
        """
        properties = [Property("header", "from", self.author_domain)] if self.author_domain else []
        remark = ""
        if self.policy is not None and self.record is not None:
            properties.append(Property("policy", "dmarc", self.policy))
            said = [("p", self.record.p), ("sp", self.record.sp), ("np", self.record.np), ("dis", self.disposition)]
            remark = " ".join(f"{name}={value}" for name, value in said if value)
            if self.override is not None:
                remark += f" {self.override.type}: {self.override.comment}".rstrip(": ")
        return MethodResult("dmarc", self.result, tuple(properties), self.problem, remark)


async def evaluate(
    from_fields: Iterable[str],
    *,
    spf: SpfResult | None = None,
    dkim: Sequence[Signature] = (),
    resolver: Resolver,
    policy: Policy | None = None,
    timeout: float = 20.0,
) -> DmarcResult:
    """Evaluate DMARC for one message.

    Whatever DNS or the message holds is a result, never an exception.  What to do with the message is up to the caller:
    see :attr:`DmarcResult.disposition`.

    Args:
        from_fields: The values of all From fields, folded or not.
        spf: The result of SPF for the envelope sender; None if it was not checked.
        dkim: The results of all signatures.
        resolver: Answers the DNS questions.
        policy: The receiver's choices; None for the defaults.
        timeout: Seconds for the whole; temperror after that.
    Returns:
        The result.

    Source: RFC 9989 sections 4.10 and 5.3.
    """
    fields = (from_fields,) if isinstance(from_fields, str) else tuple(from_fields)
    discovery = Discovery(fields, resolver, policy)
    try:
        async with asyncio.timeout(timeout) as deadline:
            await discovery.walk()
            return await discovery.result(spf, dkim)
    except TimeoutError:
        if not deadline.expired():
            raise
        return discovery.timed_out(timeout)


async def organizational_domain(domain: str, *, resolver: Resolver, policy: Policy | None = None) -> str:
    """Return the Organizational Domain of a domain, found by the tree walk.

    Args:
        domain: The domain, in any letter case, with A-labels or U-labels.
        resolver: Answers the DNS questions, eight at most.
        policy: May name a public suffix list; None for the tree walk alone.
    Raises:
        AddressError: The domain is no domain name.
        ResolverError: DNS did not answer.

    Source: RFC 9989 section 4.10.2.
    """
    found = await walk(domain, resolver=resolver)
    if found.error:
        raise ResolverError(found.error)
    return _organizational(found, policy or Policy())


async def walk(domain: str, *, resolver: Resolver) -> Walk:
    """Walk up from a domain, and return every record on the way.

    Args:
        domain: The domain, in any letter case, with A-labels or U-labels.
        resolver: Answers the DNS questions, eight at most; an error is in the last level.
    Raises:
        AddressError: The domain is no domain name.

    Source: RFC 9989 section 4.10.
    """
    name = question_name(domain)
    if name is None:
        raise AddressError(f"expected a domain name, found {visible(domain, 100)!r}")
    return (await Lookups(resolver, MAX_LOOKUPS).walk([name]))[name]


class Discovery:
    """The evaluation of one message in two parts: what needs the header alone, and the rest once SPF and DKIM are known.

    Args:
        from_fields: The values of all From fields.
        resolver: Answers the DNS questions.
        policy: The receiver's choices; None for the defaults.
    """

    def __init__(self, from_fields: Sequence[str], resolver: Resolver, policy: Policy | None = None) -> None:
        self._policy = policy or Policy()
        self._lookups = Lookups(resolver, MAX_LOOKUPS)
        self._walks: dict[str, Walk] = {}
        self._problem = ""
        found = author_domains(from_fields)
        self._authors = () if isinstance(found, str) else found
        if isinstance(found, str):
            self._problem = found
        elif len(found) > 1 and self._policy.several_authors == "permerror":
            self._problem = f"From addresses of {len(found)} domains"
        elif len(found) > _MAX_AUTHORS:
            self._problem = f"From addresses of more than {_MAX_AUTHORS} domains"

    def recall(self) -> bool:
        """Do what :meth:`walk` does if all answers to it are in memory; False if it has to ask."""
        walks = {domain: self._lookups.known(domain) for domain in self._authors} if not self._problem else {}
        found = {domain: walk for domain, walk in walks.items() if walk is not None}
        if len(found) < len(walks):
            return False
        self._walks = found
        return True

    async def walk(self) -> None:
        """Find the records of the author's domain and of those above it."""
        if not self._problem:
            self._walks = await self._lookups.walk(self._authors)

    @property
    def walked(self) -> bool:
        """Whether :meth:`walk` has returned, or has nothing to do."""
        return bool(self._problem or self._walks)

    async def result(self, spf: SpfResult | None, dkim: Sequence[Signature]) -> DmarcResult:
        """Return the result, once :meth:`walk` has returned."""
        if self._problem:
            return DmarcResult("permerror", self._authors[0] if len(self._authors) == 1 else "", problem=self._problem)
        found = [await self._author(domain, spf, dkim) for domain in self._authors]
        return found[0] if len(found) == 1 else _strictest(found)

    def timed_out(self, timeout: float) -> DmarcResult:
        """Return the result where there was no time to find one."""
        author = self._authors[0] if len(self._authors) == 1 else ""
        return DmarcResult("temperror", author, problem=f"no result in {timeout:g} s")

    async def _author(self, domain: str, spf: SpfResult | None, dkim: Sequence[Signature]) -> DmarcResult:
        """Evaluate one Author Domain."""
        found = self._walks[domain]
        if found.error and found.levels[0].record is None:
            return DmarcResult("temperror", domain, problem=found.error)
        organizational = "" if found.error else _organizational(found, self._policy)
        level = await self._policy_level(found, organizational)
        if level is None or level.record is None:
            return DmarcResult("none", domain, "", organizational, problem=_no_policy(found))
        if not level.applies:
            problem = f"{visible(level.domain, 100)}: {level.record.problem}"
            return DmarcResult("none", domain, "", organizational, problem=problem)
        try:
            published = await self._published(domain, level.domain, level.record)
        except ResolverError as error:
            return DmarcResult("temperror", domain, "", organizational, problem=visible(str(error)))
        made = partial(
            DmarcResult,
            author_domain=domain,
            domain=level.domain,
            organizational_domain=organizational,
            policy=_one_less(published) if level.record.testing else published,
            record=level.record,
            published=published,
            discovery_method="psl" if _by_suffix_list(found, self._policy) else "treewalk",
            problem=level.record.problem,
        )
        return await self._aligned(made, _Author(found, organizational, level.record, self._policy), spf, dkim)

    async def _policy_level(self, found: Walk, organizational: str) -> Level | None:
        level = found.policy_at(organizational)
        if level is None and organizational and all(organizational != each.domain for each in found.levels):
            # A public suffix list may name one that the walk passed over.
            level = await self._lookups.level(organizational)
        return level

    async def _published(self, author: str, domain: str, record: Record) -> Disposition:
        """Return which of p, sp and np is for the author.

        Source: RFC 9989 section 4.7, tags p, sp and np.
        """
        if author == domain:
            return record.p
        if record.np is not None and not await self._lookups.exists(author):
            return record.np
        return record.sp or record.p

    async def _aligned(
        self, made: "partial[DmarcResult]", author: "_Author", spf: SpfResult | None, dkim: Sequence[Signature]
    ) -> DmarcResult:
        """Return the result: with what agrees with the author's domain, and with the rest as ``made`` has it.

        Source: RFC 9989 sections 4.4 and 5.3.5.
        """
        sender = _Identifier(_name(spf.authenticated_domain) if spf is not None else "", author.record.aspf)
        signers = [_Identifier(_name(each.aligned_identifier), author.record.adkim) for each in dkim]
        passing = [sender, *signers]
        await author.learn(passing, self._lookups)
        by_spf = author.matches(sender)
        by_dkim = tuple(at for at, signer in enumerate(signers) if author.matches(signer))
        if by_spf or by_dkim:
            aligned = ("spf",) * by_spf + ("dkim",) * bool(by_dkim)
            return made("pass", aligned=aligned, aligned_signatures=by_dkim)
        # It is not known whether these would have passed.
        unsure = [_Identifier(_name(each.domain), author.record.adkim) for each in dkim if each.result == "temperror"]
        if spf is not None and spf.result == "temperror":
            unsure.append(_Identifier(_name(spf.domain), author.record.aspf))
        await author.learn(unsure, self._lookups)
        problem = author.doubt(passing)
        if not problem and any(map(author.matches, unsure)):
            problem = "SPF or a signature of the author's domain could not be checked"
        return made("temperror", policy=None, problem=problem) if problem else made("fail")


class _Identifier(NamedTuple):
    """A domain that SPF or a signature has checked, "" if none; and how closely it has to match."""

    domain: str
    mode: Alignment


class _Author:
    """The Author Domain, and which other domains match it.

    Args:
        found: The walk up from the Author Domain.
        organizational: Its Organizational Domain; "" if the walk met an error.
        record: The policy record.
        policy: What is ours to decide.
    """

    def __init__(self, found: Walk, organizational: str, record: Record, policy: Policy) -> None:
        self.record = record
        self._found = found
        self._organizational = organizational
        self._policy = policy
        self._walks: dict[str, Walk] = {}

    async def learn(self, identifiers: Iterable[_Identifier], lookups: Lookups) -> None:
        """Walk up from the domains that may have the author's Organizational Domain, where that matters.

        Source: RFC 9989 section 4.10.2.
        """
        below = "." + self._organizational
        domains = [
            each.domain for each in identifiers if self._in_question(each) and ("." + each.domain).endswith(below)
        ]
        if domains and self._organizational:
            self._walks |= await lookups.walk([*dict.fromkeys(domains)][:_MAX_IDENTIFIERS])

    def matches(self, identifier: _Identifier) -> bool:
        """Whether a domain is the author's or, in relaxed mode, has the same Organizational Domain."""
        if identifier.domain == self._found.domain:
            return True
        if not self._in_question(identifier):
            return False
        found = self._walks.get(identifier.domain)
        return found is not None and not found.error and _organizational(found, self._policy) == self._organizational

    def doubt(self, identifiers: Iterable[_Identifier]) -> str:
        """Return the DNS error because of which it is not known whether a domain matches; "" if there is none."""
        for each in filter(self._in_question, identifiers):
            if not self._organizational:
                return self._found.error
            found = self._walks.get(each.domain)
            if found is not None and found.error:
                return found.error
        return ""

    def _in_question(self, identifier: _Identifier) -> bool:
        return identifier.domain not in ("", self._found.domain) and identifier.mode == "r"


def _name(domain: str | None) -> str:
    """Return a domain in the form to compare; "" if it is none."""
    return question_name(domain) or "" if domain else ""


def _organizational(found: Walk, policy: Policy) -> str:
    """Return the Organizational Domain of a walk, by the public suffix list where that is to say."""
    if policy.fallback is None or found.marked:
        return found.organizational_domain
    return _name(policy.fallback.privatesuffix(found.domain)) or found.domain


def _by_suffix_list(found: Walk, policy: Policy) -> bool:
    return policy.fallback is not None and not found.marked


def _one_less(policy: Disposition) -> Disposition:
    """Return the policy to apply in test mode.

    Source: RFC 9989 section 4.7, tag t.
    """
    return "quarantine" if policy == "reject" else "none"


def _no_policy(found: Walk) -> str:
    for level in found.levels:
        if level.records > 1:
            return f"{visible(level.domain, 100)} publishes {level.records} DMARC policies: none counts"
    return f"{visible(found.domain, 100)} publishes no DMARC policy"


def _strictest(found: Sequence[DmarcResult]) -> DmarcResult:
    """Return the one result of several authors: a pass only if all pass.

    Source: RFC 9989 section 11.5.
    """
    failed = [each for each in found if each.result == "fail"]
    if failed:
        return max(failed, key=lambda each: _STRENGTH.index(each.policy or "none"))
    for result in ("temperror", "none"):
        for each in found:
            if each.result == result:
                return each
    return found[0]
