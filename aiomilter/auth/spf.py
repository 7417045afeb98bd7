"""SPF, the whole of RFC 7208: whether an address may send mail for a domain, without blocking or exceptions."""

import asyncio
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, NamedTuple, TypeAlias

from aiomilter.auth._claims import claims_receiver, names, occurrences
from aiomilter.auth._spf_record import MAX_TERMS, Directive, MacroString, Record, parse_explanation, parse_record
from aiomilter.auth._structured import comment, quote
from aiomilter.auth._waiting import Expired, within
from aiomilter.auth.results import MethodResult, Property
from aiomilter.dns import Answer, IPAddress, RdType, Resolver, client_address, question_name, reverse_name
from aiomilter.exceptions import ResolverError
from aiomilter.mail.display import visible
from aiomilter.mail.domain import ascii_name

__all__ = ["Identity", "Result", "SpfResult", "check_host", "forged_received_spf"]

Result: TypeAlias = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]
"""The results of RFC 7208 section 2.6."""

Identity: TypeAlias = Literal["mailfrom", "helo"]
"""The identities of RFC 7208 sections 2.3 and 2.4."""

# RFC 7208 section 4.6.4.
_MAX_NAMES = 10
# Longer than any local-part or HELO name that an SMTP server lets through; the rest of one is cut off.
_MAX_LOCAL = 256
_MAX_DOMAIN = 1024

_VERSION = re.compile(rb"v=spf1(?: |\Z)", re.IGNORECASE)
_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*", re.ASCII)

_SENTENCES: dict[Result, str] = {
    "pass": "domain of {sender} designates {ip} as permitted sender",
    "fail": "domain of {sender} does not designate {ip} as permitted sender",
    "softfail": "domain of {sender} does not designate {ip} as permitted sender (softfail)",
    "neutral": "domain of {sender} makes no assertion about {ip}",
    "none": "domain of {sender} publishes no SPF policy",
    "temperror": "a temporary error prevented looking up the SPF policy of {domain}",
    "permerror": "the SPF policy of {domain} cannot be interpreted",
}


@dataclass(frozen=True, slots=True)
class SpfResult:
    """The result of SPF for one client and one sender.

    Every text is printable on one line, of bounded length, whatever DNS and the sender held, and ASCII in all but one.

    Args:
        result: The result of RFC 7208.
        domain: The domain that was checked, A-labels; as sent if it is not a domain.
        identity: Whose domain that is: the envelope sender's, or the HELO name's when there is no sender.
        ip: The client's address.
        sender: The sender that was checked; ``postmaster@`` the HELO name when there is none.
        helo: The HELO name.
        mechanism: The term that decided, as published; ``"default"`` when none did, "" when nothing was evaluated.
        explanation: A line for the client: on fail the domain's own if it publishes one, else ours.
        problem: Why the result is temperror, permerror or none; "" otherwise.
        utf8_sender: The sender as it was given where ``sender`` is not all of it, for SMTPUTF8 mail; "" otherwise.
    """

    result: Result
    domain: str
    identity: Identity
    ip: IPAddress
    sender: str
    helo: str
    mechanism: str = ""
    explanation: str = ""
    problem: str = ""
    utf8_sender: str = ""

    @property
    def authenticated_domain(self) -> str | None:
        """The domain that passed, for the null sender that of the HELO name; None if the result is not pass.

        DMARC compares it with the author's domain.  For that it must be the result for the envelope sender: if there is a
        sender, the HELO name does not count.

        Source: RFC 9989 section 4.4.2; RFC 7208 section 2.4.
        """
        return self.domain.lower() if self.result == "pass" else None

    def received_spf(self, *, receiver: str, smtputf8: bool = False) -> str:
        """Return the value of a Received-SPF header field, folded with LF and tab.

        Args:
            receiver: The name of the host that did the check.
            smtputf8: The message is SMTPUTF8 mail, whose header may hold the sender as it is.

        Source: RFC 7208 section 9.1; RFC 6532 section 3.
        """
        sender = self.utf8_sender if smtputf8 and self.utf8_sender else self.sender
        pairs = [
            ("receiver", receiver),
            ("client-ip", str(self.ip)),
            ("envelope-from", sender),
            ("helo", self.helo),
            ("identity", self.identity),
            ("mechanism", self.mechanism),
            ("problem", self.problem),
        ]
        shown = [f"{key}={_value(value, smtputf8)}" for key, value in pairs if value]
        sentence = _sentence(self.result, sender, self.domain, self.ip)
        remark = comment(f"{visible(receiver, 64, smtputf8=smtputf8)}: {sentence}", smtputf8=smtputf8)
        return f"{self.result.capitalize()} {remark}\n\t" + ";\n\t".join(shown)

    def method_result(self) -> MethodResult:
        """Return the result as a part of an Authentication-Results header field.

        Source: RFC 8601 section 2.7.2.
        """
        value = self.utf8_sender or self.sender if self.identity == "mailfrom" else self.helo
        return MethodResult("spf", self.result, (Property("smtp", self.identity, value),), self.problem)


async def check_host(
    ip: IPAddress | str,
    sender: str,
    helo: str,
    *,
    resolver: Resolver,
    receiver: str = "unknown",
    record: str | None = None,
    timeout: float = 20.0,
    max_void_lookups: int = 2,
) -> SpfResult:
    """Check whether a client may send mail for a sender, or for its HELO name when there is no sender.

    Whatever DNS or the sender does is a result, never an exception.  To check the HELO name by itself, pass "" as
    sender.

    Local policy is the caller's: accept trusted relays before asking; and ``record`` evaluates a policy of your own in
    place of the published one, such as a guess for domains that answer ``none`` (``"v=spf1 a/24 mx/24 ptr -all"``) or
    the forwarders you trust for those that answer ``fail`` (``"v=spf1 include:forwarders.example -all"``).

    Args:
        ip: The client's address; IPv4-mapped IPv6 counts as IPv4.
        sender: The envelope sender without brackets; "" for the null sender.
        helo: The HELO or EHLO name as sent.
        resolver: Answers the DNS questions; a :class:`~aiomilter.dns.CachingResolver`, shared by all sessions.
        receiver: The name of the host that checks, for ``%{r}`` in explanations.
        record: The policy to evaluate for the sender's domain, version included; None for the one it publishes.
        timeout: Seconds for the whole; temperror after that.  RFC 7208 wants 20 at least.
        max_void_lookups: Terms that may lead to nothing in DNS before the result is permerror.
    Returns:
        The result.
    Raises:
        AddressError: ``ip`` is a text and not an address.
        ValueError: ``record`` does not begin as a policy does; what is wrong in the rest of one is a permerror.

    Source: RFC 7208 section 4; RFC 8616 section 4.
    """
    own = None if record is None else _own_record(record)
    check = _Check(client_address(ip), sender, helo, resolver, receiver, max_void_lookups)
    try:
        return await within(asyncio.get_running_loop().time() + timeout, check.run(own))
    except Expired:
        return check.result("temperror", problem=f"no result in {timeout:g} s")


def unchecked(ip: IPAddress, sender: str, helo: str, resolver: Resolver, result: Result, problem: str) -> SpfResult:
    """Return the result where nothing was checked, or not to its end."""
    return _Check(ip, sender, helo, resolver, "", 0).result(result, problem=problem)


def forged_received_spf(headers: Iterable[tuple[str, str]], *receivers: str, name: str = "Received-SPF") -> list[int]:
    """Find the Received-SPF fields that claim to come from us, in a message that comes from outside.

    A field is ours if any reader may take its receiver for ours, or the host in its comment where it has no receiver.

    Args:
        headers: Name and value of every field, in the order received.
        receivers: The names we write as receiver, in any letter case, as A-labels or U-labels; ``".example.net"`` is
            example.net and all names below it.
        name: The field to look for; another one of this syntax, such as ``"X-Received-SPF"``.
    Returns:
        The occurrences to delete, from the last to the first: 1 is the first field of that name.
    Raises:
        ValueError: There is no receiver, or one that is not a name.

    Source: RFC 7208 section 9.1.
    """
    ours = names(*receivers)
    return occurrences(headers, name, lambda value: claims_receiver(value, ours))


class _Verdict(Exception):
    """A result on its way out of an evaluation; it never leaves this module."""

    def __init__(self, result: Literal["temperror", "permerror"], problem: str) -> None:
        super().__init__(problem)
        self.result = result
        self.problem = problem


class _Unmatchable(Exception):
    """A term whose name cannot be in DNS, since the local-part is not ASCII: RFC 8616 section 4."""


class _Found(NamedTuple):
    """The outcome of one record: its result, the term that gave it, and where to find an explanation."""

    result: Result
    mechanism: str = ""
    explanation: MacroString | None = None
    domain: str = ""


class _Check:
    """One evaluation: its input, and how much of the limits it has used."""

    def __init__(
        self, ip: IPAddress, sender: str, helo: str, resolver: Resolver, receiver: str, max_void_lookups: int
    ) -> None:
        self._ip = ip
        self._number = int(ip)
        self._rdtype: RdType = "A" if ip.version == 4 else "AAAA"
        self._resolver = resolver
        self._receiver = receiver
        self._max_void_lookups = max_void_lookups
        self._terms = 0
        self._voids = 0
        self._pointers: list[str] | None = None
        self._letters: dict[str, str] = {}
        helo = helo[:_MAX_LOCAL]
        self._helo = ascii_name(helo) or helo.encode("ascii", "replace").decode("ascii")
        self._identity: Identity = "mailfrom" if sender else "helo"
        local, at, domain = sender.rpartition("@")
        if not sender:
            domain = helo
        elif not at:
            # Not an address: what there is of it is a local-part.
            local, domain = sender, ""
        self._local = (local or "postmaster")[:_MAX_LOCAL]
        self._sent_domain = domain[:_MAX_DOMAIN]
        self._domain = (ascii_name(self._sent_domain) or "").removesuffix(".")

    def result(self, result: Result, mechanism: str = "", *, explanation: str = "", problem: str = "") -> SpfResult:
        domain = visible(self._domain or self._sent_domain)
        local = visible(self._local, 128)
        sender = f"{local}@{domain}" if domain else local
        utf8_sender = ""
        if not (self._local.isascii() and self._sent_domain.isascii()):
            local = visible(self._local, 128, smtputf8=True)
            utf8_sender = f"{local}@{visible(self._sent_domain, smtputf8=True)}" if domain else local
        return SpfResult(
            result,
            domain,
            self._identity,
            self._ip,
            sender,
            visible(self._helo),
            visible(mechanism),
            visible(explanation or f"SPF {result}: {_sentence(result, sender, domain, self._ip)}", 512),
            visible(problem),
            "" if utf8_sender == sender else utf8_sender,
        )

    async def run(self, record: bytes | None) -> SpfResult:
        # RFC 7208 section 4.3; an address literal is not a domain.
        if "." not in self._domain or self._domain.startswith("[") or question_name(self._domain) is None:
            return self.result("none", problem=f"{visible(self._sent_domain, 60)!r} is not a domain name")
        try:
            found = await self._evaluate(self._domain, record)
            if found.result == "none":
                return self.result("none", problem=f"{visible(self._domain, 100)} publishes no SPF policy")
            explanation = await self._explain(found) if found.result == "fail" else ""
        except _Verdict as verdict:
            return self.result(verdict.result, problem=verdict.problem)
        return self.result(found.result, found.mechanism, explanation=explanation)

    async def _evaluate(self, domain: str, text: bytes | None = None) -> _Found:
        """Evaluate the record of a domain, and those it redirects to."""
        record = await self._record(domain) if text is None else _readable("policy given for", domain, text)
        while record is not None:
            for directive in record.directives:
                if await self._matches(directive, domain):
                    return _Found(directive.result, directive.text, record.explanation, domain)
            if record.redirect is None:
                return _Found("neutral", "default")
            self._count()
            try:
                domain = await self._expand(record.redirect, domain)
            except _Unmatchable:
                raise _Verdict("permerror", "redirect leads to a name that cannot be in DNS") from None
            record = await self._record(domain)
            if record is None:
                raise _Verdict("permerror", f"redirect to {visible(domain, 100)}, which publishes no SPF policy")
        return _Found("none")

    async def _record(self, domain: str) -> Record | None:
        """Return the record that a domain publishes, or None when it publishes none.

        Source: RFC 7208 sections 4.4 and 4.5.
        """
        answer = await self._lookup(domain, "TXT")
        texts = [text for text in answer.texts if _VERSION.match(text)]
        if not texts:
            return None
        if len(texts) > 1:
            raise _Verdict("permerror", f"{visible(domain, 100)} publishes {len(texts)} SPF policies")
        return _readable("SPF policy of", domain, texts[0])

    async def _matches(self, directive: Directive, domain: str) -> bool:
        match directive.mechanism:
            case "all":
                return True
            case "ip4":
                return self._ip.version == 4 and self._number >> (32 - directive.prefix4) == directive.network
            case "ip6":
                return self._ip.version == 6 and self._number >> (128 - directive.prefix6) == directive.network
        self._count()
        try:
            target = domain if directive.domain is None else await self._expand(directive.domain, domain)
        except _Unmatchable:
            return False
        match directive.mechanism:
            case "include":
                return await self._included(target)
            case "a":
                answer = await self._lookup(target, self._rdtype)
                self._void(not answer)
                return self._within(answer, directive)
            case "mx":
                return await self._exchanged(target, directive)
            case "exists":
                answer = await self._lookup(target, "A")
                self._void(not answer)
                return bool(answer)
            case "ptr":
                return await self._pointed(target)

    async def _included(self, target: str) -> bool:
        found = await self._evaluate(target)
        if found.result == "none":
            raise _Verdict("permerror", f"include of {visible(target, 100)}, which publishes no SPF policy")
        return found.result == "pass"

    async def _exchanged(self, target: str, directive: Directive) -> bool:
        answer = await self._lookup(target, "MX")
        exchanges = answer.exchanges
        if len(exchanges) > _MAX_NAMES:
            raise _Verdict("permerror", f"{visible(target, 100)} has more than {_MAX_NAMES} mail exchangers")
        void = True
        for exchange in exchanges:
            if not exchange.exchange:
                continue  # the null MX of RFC 7505
            addresses = await self._lookup(exchange.exchange, self._rdtype)
            if self._within(addresses, directive):
                return True
            void = void and not addresses
        self._void(void)
        return False

    async def _pointed(self, target: str) -> bool:
        target = target.lower()
        for name in await self._pointer_names():
            if (name == target or name.endswith("." + target)) and await self._points_back(name):
                return True
        return False

    async def _pointer_names(self) -> list[str]:
        """Return the names that the client's address points to, the first ten, lower case."""
        if self._pointers is None:
            try:
                answer = await self._resolver.lookup(reverse_name(self._ip), "PTR")
            except ResolverError:
                answer = Answer("", "PTR")
            self._pointers = [name.lower() for name in answer.names[:_MAX_NAMES]]
        return self._pointers

    async def _points_back(self, name: str) -> bool:
        try:
            answer = await self._resolver.lookup(name, self._rdtype)
        except ResolverError:
            return False
        return self._ip in answer.addresses

    async def _validated_name(self, domain: str) -> str:
        """Return what ``%{p}`` stands for: the domain itself, else a name below it, else any.

        Source: RFC 7208 section 7.3.
        """
        domain = domain.lower()
        names = await self._pointer_names()
        for name in sorted(names, key=lambda name: (name != domain, not name.endswith("." + domain))):
            if await self._points_back(name):
                return name
        return "unknown"

    async def _explain(self, found: _Found) -> str:
        """Return the explanation that the domain publishes; "" for any reason not to have one.

        Source: RFC 7208 section 6.2.
        """
        if found.explanation is None:
            return ""
        try:
            name = await self._expand(found.explanation, found.domain)
            answer = await self._resolver.lookup(name, "TXT")
        except (_Unmatchable, ResolverError):
            return ""
        explanation = parse_explanation(answer.texts[0]) if len(answer.texts) == 1 else None
        if explanation is None:
            return ""
        values = await self._values(explanation, found.domain)
        return explanation.text(values.__getitem__)

    async def _expand(self, spec: MacroString, domain: str) -> str:
        if not spec.letters:
            return spec.name
        if not self._local.isascii() and spec.letters & {"s", "l"}:
            raise _Unmatchable
        values = await self._values(spec, domain)
        return spec.domain(values.__getitem__)

    async def _values(self, spec: MacroString, domain: str) -> dict[str, str]:
        """Return what the macro letters stand for.

        Source: RFC 7208 sections 7.2 and 7.3.
        """
        if not self._letters:
            four = isinstance(self._ip, IPv4Address)
            self._letters = {
                "s": f"{self._local}@{self._domain}",
                "l": self._local,
                "o": self._domain,
                "i": str(self._ip) if four else ".".join(f"{self._number:032X}"),
                "v": "in-addr" if four else "ip6",
                "h": self._helo,
                "c": str(self._ip),
                "r": self._receiver,
                "t": str(int(time.time())),
            }
        values = {**self._letters, "d": domain}
        if "p" in spec.letters:
            values["p"] = await self._validated_name(domain)
        return values

    def _within(self, answer: Answer, directive: Directive) -> bool:
        if self._rdtype == "A":
            family: type[IPAddress] = IPv4Address
            shift = 32 - directive.prefix4
        else:
            family, shift = IPv6Address, 128 - directive.prefix6
        network = self._number >> shift
        return any(isinstance(record, family) and int(record) >> shift == network for record in answer.records)

    async def _lookup(self, name: str, rdtype: RdType) -> Answer:
        try:
            return await self._resolver.lookup(name, rdtype)
        except ResolverError as error:
            raise _Verdict("temperror", str(error)) from error

    def _count(self) -> None:
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise _Verdict("permerror", f"more than {MAX_TERMS} terms that need DNS")

    def _void(self, void: bool) -> None:
        self._voids += void
        if self._voids > self._max_void_lookups:
            raise _Verdict("permerror", f"more than {self._max_void_lookups} terms that lead to nothing in DNS")


def _sentence(result: Result, sender: str, domain: str, ip: IPAddress) -> str:
    return _SENTENCES[result].format(sender=sender, domain=domain, ip=ip)


def _own_record(text: str) -> bytes:
    record = text.encode("utf-8", "backslashreplace") if isinstance(text, str) else b""
    if not _VERSION.match(record):
        raise ValueError(f"record: expected a policy that begins with 'v=spf1' and a space, found {text[:40]!r}")
    return record


def _readable(what: str, domain: str, text: bytes) -> Record:
    record = parse_record(text)
    if isinstance(record, str):
        raise _Verdict("permerror", f"{what} {visible(domain, 100)}: {record}")
    return record


def _value(text: str, smtputf8: bool) -> str:
    return text if _DOT_ATOM.fullmatch(text) else quote(text, always=True, smtputf8=smtputf8)
