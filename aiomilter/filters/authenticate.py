"""``authenticate``: where mail comes from, by SPF, reverse name, DKIM, ARC and DMARC, in one Authentication-Results field."""

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Final, Literal, NamedTuple

from aiomilter.auth import Authentication, Authenticator, ClientCheck, MessageCheck, dkim
from aiomilter.auth.results import MethodResult, Property
from aiomilter.auth.spf import SpfResult, forged_received_spf
from aiomilter.compose import known_at
from aiomilter.compose.conditions import GIVEN, Predicate
from aiomilter.context import Context, EndOfMessageContext
from aiomilter.filters.actions import Action, accepted, act, is_refusal
from aiomilter.filters.domains import domain_name
from aiomilter.filters.ready import ReadyFilter
from aiomilter.filters.recipients import EXEMPT, Exempt
from aiomilter.filters.site import Site, networks_of
from aiomilter.filters.spf_rules import DomainRules, Rule, RuleTable, SpfRules
from aiomilter.handler import Milter, no_reply
from aiomilter.wire.events import Connect, Header, Mail, Rcpt
from aiomilter.wire.replies import Response

__all__ = ["Authenticate", "HeloSpf"]

_FIELD: Final = "Authentication-Results"
_TIMEOUT: Final = 10.0


class HeloSpf(NamedTuple):
    """The result of SPF for the HELO name, for other filters."""

    found: SpfResult


_METHODS: Final = ("spf", "helo_spf", "dkim", "arc", "dmarc")


def _word(word: str) -> Predicate:
    """Return the predicate of a word such as ``spf_fail``."""
    method, _, result = word.rpartition("_")

    @known_at(GIVEN[word])
    def holds(ctx: Context) -> bool:
        return _holds(ctx, method, result)

    return holds


def _holds(ctx: Context, method: str, result: str) -> bool:
    if method == "spf":
        spf = ctx.results.get(SpfResult)
        return spf is not None and spf.result == result
    if method == "helo_spf":
        helo = ctx.results.get(HeloSpf)
        return helo is not None and helo.found.result == result
    found = ctx.results.get(Authentication)
    if found is None:
        return False
    if method == "dkim":
        passes = "dkim" in found.dmarc.aligned  # it says who, not that anybody else has signed
        results = {"pass"} if passes else {each.result for each in found.dkim} - {"pass"} or {"none"}
        return result in results
    return result == (found.arc.result if method == "arc" else found.dmarc.result)


_WORDS: Final = {word: _word(word) for word in GIVEN if word.rpartition("_")[0] in _METHODS}


@dataclass(frozen=True, kw_only=True)
class Authenticate(SpfRules, ReadyFilter):
    """Check where mail comes from, write one Authentication-Results field, and remove those that claim to be ours.

    Clients in our networks, and those that have logged in, are not judged: their field says ``auth=pass`` where they have
    logged in, and else ``none``; forged fields go all the same.

    Args:
        spf_*: What is done with mail by the result of SPF for its sender: spf_pass, spf_fail, spf_softfail, spf_neutral,
            spf_none, spf_temperror, spf_permerror.  A hard fail alone refuses forwarded mail that DKIM would save.
        helo_spf_*: The same by the result for the HELO name, if the sender does not pass.
        domains: Other actions for single senders, by address, domain (with those below, unless ``subdomains = false``), or
            ``.domain`` for those below alone; the most exact one counts.
        at: Where refusals by SPF are told: for each recipient, or at MAIL.
        exempt_recipients: Addresses, or local-parts of our domains, whose mail is not refused.
        dmarc: off; report: only say the result; quarantine: treat what is to be rejected so, too; enforce: as published.
        dmarc_quarantine: What quarantine means: mark the message with ``header``, or have the MTA hold it.
        ambiguous_from: What is done with mail whose From names no author, or authors of several domains.
        trusted_sealers: Domains whose ARC seals may overrule DMARC.
        dkim_min_bits: Smaller RSA keys do not count.
        header: The field that marks a message; those that were there before are removed.
        received_spf: Also write a Received-SPF field.
        show_login: Write the login itself, too.
    """

    name: ClassVar[str] = "authenticate"
    gives: ClassVar[Mapping[str, Predicate]] = _WORDS
    takes_conditions: ClassVar[bool] = False
    reasons: ClassVar[Mapping[str, str]] = {
        "spf_RESULT": "what spf_RESULT is set to, for the result of SPF for the sender",
        "helo_spf_RESULT": "the same for the HELO name",
        "dmarc_reject": "the author's domain wants such mail rejected",
        "dmarc_quarantine": "the author's domain wants such mail set apart, or rejected",
        "ambiguous_from": "the From field names no author, or several",
    }
    mta: ClassVar[str] = "macro j, if hostname and authserv_id are not set"
    example: ClassVar[str] = '[[filter]]\nuse = "authenticate"\nspf_fail = "reject"\ndmarc = "enforce"\n'

    domains: Mapping[str, DomainRules] = field(default_factory=dict)
    at: Literal["rcpt", "mail"] = "rcpt"
    exempt_recipients: Collection[str] = EXEMPT
    dmarc: Literal["off", "report", "quarantine", "enforce"] = "quarantine"
    dmarc_quarantine: Literal["header", "quarantine"] = "header"
    ambiguous_from: Action = "reject"
    trusted_sealers: Collection[str] = ()
    dkim_min_bits: int = 1024
    header: str = "X-Spam-Flag"
    received_spf: bool = False
    show_login: bool = False

    def __post_init__(self) -> None:
        RuleTable(self, self.domains)
        Exempt(self.exempt_recipients, Site())
        if not 512 <= self.dkim_min_bits <= 4096:
            raise ValueError(f"dkim_min_bits: expected 512 to 4096, found {self.dkim_min_bits}")

    @asynccontextmanager
    async def start(self, site: Site, asked: frozenset[str]) -> AsyncIterator[Callable[[], Milter]]:
        """Make what checks, once for the process."""
        async with site.open_resolver() as resolver:
            ids = [name] if (name := site.authserv_id or site.hostname) else []
            judging = Authenticator(
                resolver,
                authserv_ids=ids,
                methods={"iprev", "spf", "dkim", "arc", "dmarc"} - ({"dmarc"} if self.dmarc == "off" else set()),
                dkim=dkim.Policy(min_rsa_bits=self.dkim_min_bits),
                trusted_sealers=self.trusted_sealers,
                trusted_relays=networks_of("trusted_relays", site.trusted_relays),
            )
            cleaning = Authenticator(resolver, authserv_ids=ids, methods=())
            rules, exempt = RuleTable(self, self.domains), Exempt(self.exempt_recipients, site)
            yield partial(_Authenticate, self, site, asked, judging, cleaning, rules, exempt)


class _Authenticate(Milter):
    leading_space = True  # signatures may cover the blanks after a colon
    provides = (SpfResult, HeloSpf, Authentication)

    def __init__(
        self,
        settings: Authenticate,
        site: Site,
        asked: frozenset[str],
        judging: Authenticator,
        cleaning: Authenticator,
        rules: RuleTable,
        exempt: Exempt,
    ) -> None:
        self.settings = settings
        self.site = site
        self.judging, self.cleaning = judging, cleaning
        self.rules = rules
        self.exempt = exempt
        early = any(word.startswith(("spf_", "helo_spf_")) for word in asked)
        # Who is let by is known behind MAIL.
        self.tells_at_mail = settings.at == "mail" and "accept" not in asked
        self.at_mail = early or (self.rules.matter and self.tells_at_mail)
        self.at_rcpt = self.rules.matter or "spf" in asked
        self.internal: bool | None = None
        """Whether the client is, which is so for all of its messages; None until it is known."""
        self.client: ClientCheck | None = None
        self.check: MessageCheck
        self.rule: Rule | None
        self.judged = self.early = self.knows_spf = False

    def _begin(self, ctx: Context, auth: Authenticator) -> ClientCheck:
        name = self.site.authserv_id or self.site.hostname
        return auth.client(
            ctx.client.ip, authserv_ids=() if name else (domain_name(self.site.name(ctx)) or "localhost",)
        )

    async def connect(self, ctx: Context, connect: Connect) -> None:
        self.internal = self.site.is_internal(ctx)
        if not self.internal:
            self.client = self._begin(ctx, self.judging)

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        if self.internal is None:
            self.internal = self.site.is_internal(ctx)
        judged = not self.internal and ctx.auth is None
        if judged and self.client is None:
            self.client = self._begin(ctx, self.judging)
        client = self.client if judged and self.client is not None else self._begin(ctx, self.cleaning)
        self.judged, self.knows_spf, self.rule = judged, False, None
        self.check = client.message(sender=mail.address, helo=ctx.helo)
        # Behind a relay of ours the sender's client is known at the end of the header only.
        self.early = judged and not client.is_relay
        ctx.on_end(self.check.cancel)
        if self.at_mail and self.early:
            rule = await self._find_spf(ctx, mail.address)
            if self.tells_at_mail and rule is not None and is_refusal(rule.action):
                return rule.reply()
        return None

    async def _find_spf(self, ctx: Context, sender: str) -> Rule | None:
        self.knows_spf = True
        spf, helo = await self.check.spf(), await self.check.helo_spf()
        ctx.results.put(spf)
        ctx.results.put(HeloSpf(helo))
        self.rule = self.rules.rule(spf, helo, sender)
        return self.rule

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        if self.at_rcpt and self.early and not self.knows_spf:
            await self._find_spf(ctx, ctx.sender.address if ctx.sender is not None else "")
        if (
            self.rule is not None
            and is_refusal(self.rule.action)
            and rcpt.address not in self.exempt
            and not accepted(ctx)
        ):
            return self.rule.reply()
        return None

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        self.check.header(header.raw)

    @no_reply
    async def eoh(self, ctx: Context) -> None:
        self.check.end_of_headers()

    @no_reply
    async def body(self, ctx: Context, chunk: bytes) -> None:
        self.check.body(chunk)

    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        found = await self.check.finish(_TIMEOUT)
        for occurrence in found.forged:
            ctx.delete_header(_FIELD, occurrence)
        extra, auth = list(ctx.results.all(MethodResult)), ctx.auth
        if auth is not None:
            login = (Property("smtp", "auth", auth.login),) if self.settings.show_login else ()
            extra.append(MethodResult("auth", "pass", login))
        ctx.insert_header(_FIELD, str(found.results(extra=extra)))  # that nothing was done is said, too
        return self._judge(ctx, found) if self.judged else None

    def _judge(self, ctx: EndOfMessageContext, found: Authentication) -> Response | None:
        settings, late = self.settings, not self.knows_spf
        sender = ctx.sender.address if ctx.sender is not None else ""
        if late:
            ctx.results.put(found.spf)
            ctx.results.put(HeloSpf(found.helo_spf))
            self.rule = self.rules.rule(found.spf, found.helo_spf, sender)
        ctx.results.put(found)
        if settings.received_spf:
            self._write_received_spf(ctx, found)
        for occurrence in range(len(self.check.headers.get_all(settings.header)), 0, -1):
            ctx.delete_header(settings.header, occurrence)
        if accepted(ctx):
            return None
        for action, text, reason, detail in self._verdicts(found, late=late):
            if is_refusal(action) and self.exempt.all(ctx):
                continue
            answer = act(ctx, action, text, reason=reason, header=settings.header, detail=detail)
            if answer is not None:
                return answer
        return None

    def _verdicts(self, found: Authentication, *, late: bool) -> Iterator[tuple[Action, str, str, str]]:
        """Yield what is to be done: the action, why, the same in a word, and the detail of the enhanced code."""
        settings, dmarc = self.settings, found.dmarc
        if self.rule is not None and (late or not is_refusal(self.rule.action)):
            yield self.rule.action, self.rule.text(), self.rule.reason, self.rule.detail
        if settings.dmarc != "off" and dmarc.result == "permerror":
            yield settings.ambiguous_from, f"the author is not clear: {dmarc.problem}", "ambiguous_from", "7.1"
        if settings.dmarc in ("off", "report") or dmarc.disposition == "none":
            return
        text = f"the DMARC policy of {dmarc.domain} does not allow this message"
        if settings.dmarc == "enforce" and dmarc.disposition == "reject":
            yield "reject", text, "dmarc_reject", "7.1"
        else:
            yield settings.dmarc_quarantine, text, "dmarc_quarantine", "7.1"

    def _write_received_spf(self, ctx: EndOfMessageContext, found: Authentication) -> None:
        receiver = domain_name(self.site.name(ctx)) or "localhost"
        fields = [(field.name, field.value) for field in self.check.headers]
        for occurrence in forged_received_spf(fields, receiver):
            ctx.delete_header("Received-SPF", occurrence)
        ctx.insert_header("Received-SPF", found.spf.received_spf(receiver=receiver))

    async def close(self, ctx: Context) -> None:
        if self.client is not None:
            self.client.cancel()
