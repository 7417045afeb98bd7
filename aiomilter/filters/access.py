"""``access``: rules about client, HELO, sender, recipients and header fields, and bans of those who break them."""

import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar, Final, Literal, NamedTuple

from aiomilter.auth import Authentication
from aiomilter.context import Context, EndOfMessageContext
from aiomilter.failures import is_local
from aiomilter.filters.access_rules import AccessRule, Seen, compiled, names_of, rules_of
from aiomilter.filters.actions import Action, act, is_refusal, refusal
from aiomilter.filters.domains import covers, domain_name, key
from aiomilter.filters.ready import ReadyFilter
from aiomilter.filters.recipients import EXEMPT, Exempt
from aiomilter.filters.site import Site, is_in, networks_of
from aiomilter.filters.units import seconds
from aiomilter.handler import Milter, no_reply
from aiomilter.mail.envelope import domain as domain_of
from aiomilter.mail.envelope import local_part
from aiomilter.policy import Traps
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Header, Helo, Mail, Rcpt
from aiomilter.wire.replies import Reply, Response

__all__ = ["Access"]

_ADDRESS: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}\.?")


@dataclass(frozen=True, kw_only=True)
class Access(ReadyFilter):
    """Refuse mail by who the client says it is, by its envelope, and by words in its header.

    The rules about HELO names, bans and own_sender are for clients that are neither ours nor our relays, nor have logged in.

    Args:
        rules: Tables, the first of which that holds counts: client, hostname, helo, login, sender, recipient, and header with
            words or regex, say what they are about; action what is done (reject), reply the text of a refusal.
        table: A file with more of them, as [[rule]] tables.
        false_localhost: What is done with clients from elsewhere whose name is localhost.
        helo_address: The same of a HELO name that is an IPv4 address without brackets.
        helo_own: Names of ours, that no other client may use in HELO.
        helo_required: Refuse mail without HELO.
        inside_sender: "own": clients in our networks may only send from own_domains.
        own_sender: Whether others may send from own_domains: any; if SPF or a signature of the domain passes (authenticated,
            which needs authenticate); or never.
        null_sender_from: Networks of ours that may send bounces; all, if there are none here.
        login_sender: Which addresses or domains a login may send from; "*" is for logins without a line of their own.
        no_recipients: Addresses, or local-parts of our domains, that get no mail.
        recipients: Domains whose valid local-parts are listed.
        inside_only_recipients: Domains that only our own may write to.
        bounce_recipients: Refuse bounces to more recipients.
        ban: after: so many refused recipients or own names in HELO, the client is refused; for: so long.
        exempt_recipients: Addresses, or local-parts of our domains, whose mail is not refused for what the client has done.
        header: The field that marks a message, for the action header.
    """

    name: ClassVar[str] = "access"
    reasons: ClassVar[Mapping[str, str]] = {
        "access_rule": "one of rules, or of the table, says so",
        "false_localhost": "the client is from elsewhere, and its name is localhost",
        "helo_address": "the HELO name is an address",
        "helo_own": "the HELO name is one of ours",
        "helo_missing": "there was no HELO",
        "inside_sender": "a client in our networks sends from a domain that is not ours",
        "own_sender": "a client from elsewhere sends from our domain",
        "null_sender": "this client may send no bounces",
        "login_sender": "this login may not send from there",
        "no_recipient": "the recipient gets no mail, or is not a valid one",
        "inside_only": "only our own may write to the recipient",
        "bounce_recipients": "a bounce to several recipients",
        "banned": "the client was refused too often",
    }
    stores: ClassVar[str] = "with ban: a count for each client that was refused, as long as the ban is"
    example: ClassVar[str] = (
        '[[filter]]\nuse = "access"\nfalse_localhost = "reject"\nhelo_address = "reject"\nhelo_own = ["mx.example.net"]\n'
        'rules = [{ header = "Subject", words = ["rolex"] }, { sender = [".bad.example"], action = "tempfail" }]\n'
    )

    rules: Sequence[AccessRule] = ()
    table: Path | str | None = None
    false_localhost: Action = "note"
    helo_address: Action = "note"
    helo_own: Sequence[str] = ()
    helo_required: bool = False
    inside_sender: Literal["any", "own"] = "any"
    own_sender: Literal["any", "authenticated", "never"] = "any"
    null_sender_from: Collection[str] = ()
    login_sender: Mapping[str, Collection[str]] = field(default_factory=dict)
    no_recipients: Collection[str] = ()
    recipients: Mapping[str, Collection[str]] = field(default_factory=dict)
    inside_only_recipients: Sequence[str] = ()
    bounce_recipients: int | None = None
    ban: Mapping[str, int | float | str] | None = None
    exempt_recipients: Collection[str] = EXEMPT
    header: str = "X-Spam-Flag"

    def __post_init__(self) -> None:
        _Lists(self, Site())
        self.banning()

    def banning(self) -> tuple[int, float] | None:
        """Return after how many a client is banned, and for how many seconds; None for never.

        Raises:
            ValueError: It is not as described.
        """
        if self.ban is None:
            return None
        after = self.ban.get("after", 3)
        if set(self.ban) - {"after", "for"} or not isinstance(after, int) or not 0 < after <= 10_000:
            raise ValueError('ban: expected { after = 3, for = "30d" }')
        return after, seconds("ban", self.ban.get("for", "30d"))

    @property
    def first_stage(self) -> Stage:
        """It looks at senders."""
        return Stage.MAIL

    @property
    def needs(self) -> tuple[str, ...]:
        """It asks for results if own_sender does."""
        return ("authenticate",) if self.own_sender == "authenticated" else ()

    def check(self, site: Site) -> None:
        """Read the table."""
        self._all_rules()

    def _all_rules(self) -> list[AccessRule]:
        try:
            return [*self.rules, *(rules_of(self.table) if self.table is not None else ())]
        except ValueError as error:
            raise ValueError(f"table: {error}") from None

    @asynccontextmanager
    async def start(self, site: Site, asked: frozenset[str]) -> AsyncIterator[Callable[[], Milter]]:
        """Read the table, and open the store if clients are banned."""
        rules, banning = self._all_rules(), self.banning()
        async with AsyncExitStack() as stack:
            bans = None
            if banning is not None:
                bans = Traps(await stack.enter_async_context(site.open_store()), (), keep=banning[1], kind="ban")
            made = [(rule, compiled(rule)) for rule in rules]
            kind = _WithHeaders if any(rule.header for rule in rules) else _Access
            yield partial(kind, self, site, _Lists(self, site), made, bans)


class _Lists:
    """What is listed in settings, as it is looked up: made once, however many connections there are.

    Raises:
        TypeError, ValueError: A setting is not as described; the text begins with its name.
    """

    def __init__(self, settings: Access, site: Site) -> None:
        self.exempt = Exempt(settings.exempt_recipients, site)
        self.refused = Exempt(settings.no_recipients, site, "no_recipients")
        self.own_names = names_of("helo_own", settings.helo_own)
        self.inside_only = names_of("inside_only_recipients", settings.inside_only_recipients)
        names_of("recipients", list(settings.recipients))
        self.valid = {
            domain_name(name): {each.lower() for each in given} for name, given in settings.recipients.items()
        }
        self.null_senders = networks_of("null_sender_from", settings.null_sender_from)
        try:
            self.logins = {login: frozenset(map(key, given)) for login, given in settings.login_sender.items()}
        except ValueError as error:
            raise ValueError(f"login_sender: {error}") from None


class _Found(NamedTuple):
    """What is to be done, and why."""

    action: Action
    reason: str
    text: str

    def reply(self) -> Reply:
        return refusal(self.action, self.text, reason=self.reason)


_Rules = Sequence[tuple[AccessRule, Callable[[Seen], bool | None]]]


class _Access(Milter):
    reads = (Authentication,)

    def __init__(self, settings: Access, site: Site, lists: _Lists, rules: _Rules, bans: Traps | None) -> None:
        self.settings = settings
        self.site = site
        self.lists = lists
        self.rules = rules
        self.bans = bans
        self.most = banning[0] if (banning := settings.banning()) is not None else 0
        self.by_recipient = any(rule.recipient for rule, _ in rules)
        self.found: list[_Found] = []
        self.seen = Seen()
        self.stop = 0

    def _is_ours(self, ctx: Context) -> bool:
        return ctx.auth is not None or self.site.is_internal(ctx) or self.site.is_trusted_relay(ctx)

    async def _demerit(self, ctx: Context) -> None:
        if self.bans is not None and not self._is_ours(ctx):
            await self.bans.note(ctx.client.ip)

    async def helo(self, ctx: Context, helo: Helo) -> None:
        if domain_name(helo.name) in self.lists.own_names:
            await self._demerit(ctx)

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        self.seen = Seen(
            ctx.client.ip or "", ctx.client.hostname, ctx.helo, ctx.auth.login if ctx.auth else "", mail.address
        )
        self.found = [*self._about_client(ctx), *self._about_sender(ctx, mail.address)]
        if self.bans is not None and not self._is_ours(ctx):
            caught = await self.bans.caught(ctx.client.ip)
            if caught.count >= self.most:
                self.found.insert(0, _Found("reject", "banned", "this client was refused too often"))
        # A rule about header fields counts where none before it has.
        self.stop = self._first(about_header=False)
        if not self.by_recipient:
            self.found += self._rule(self.stop)
        return None

    def _about_client(self, ctx: Context) -> list[_Found]:
        settings, found = self.settings, []
        if _is_elsewhere(ctx) and ctx.client.hostname.lower() in ("localhost", "."):
            found.append(_Found(settings.false_localhost, "false_localhost", "localhost is not your name"))
        if self._is_ours(ctx):
            return found
        if settings.helo_required and not ctx.helo:
            found.append(_Found("reject", "helo_missing", "say HELO first"))
        if _ADDRESS.fullmatch(ctx.helo):
            found.append(_Found(settings.helo_address, "helo_address", "an address in HELO stands in brackets"))
        if ctx.helo and domain_name(ctx.helo) in self.lists.own_names:
            found.append(_Found("reject", "helo_own", f"{domain_name(ctx.helo)} is our name"))
        return found

    def _about_sender(self, ctx: Context, sender: str) -> list[_Found]:
        settings, own = self.settings, self.site.is_own(domain_of(sender))
        internal = ctx.auth is None and self.site.is_internal(ctx) and _is_elsewhere(ctx)
        found = []
        if ctx.auth is not None and not self._may_send(ctx.auth.login, sender):
            found.append(_Found("reject", "login_sender", "your login may not send from this address"))
        if internal and sender and settings.inside_sender == "own" and not own:
            found.append(_Found("reject", "inside_sender", "this machine sends from our own domains"))
        networks = self.lists.null_senders
        if internal and not sender and networks and not is_in(ctx.client.ip, networks):
            found.append(_Found("reject", "null_sender", "this machine sends no bounces"))
        if own and settings.own_sender == "never" and not self._is_ours(ctx):
            found.append(_Found("reject", "own_sender", "mail from this domain comes from here"))
        return found

    def _may_send(self, login: str, sender: str) -> bool:
        table = self.lists.logins
        keys = table.get(login, table.get("*"))
        return keys is None or bool(keys and not sender) or covers(keys, sender)

    def _first(self, *, about_header: bool) -> int:
        """Return the number of the first rule that holds, of those about header fields or of the others."""
        numbers = (
            number
            for number, (rule, holds) in enumerate(self.rules)
            if bool(rule.header) == about_header and holds(self.seen) is True
        )
        return next(numbers, len(self.rules))

    def _rule(self, number: int) -> list[_Found]:
        """Return what a rule says."""
        rule = self.rules[number][0] if number < len(self.rules) else None
        if rule is None or rule.action == "note":
            return []
        return [_Found(rule.action, "access_rule", rule.reply or "refused by a rule of this site")]

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        reply = self._about_recipient(ctx, rcpt.address)
        if reply is None:
            return None
        await self._demerit(ctx)
        return reply

    def _about_recipient(self, ctx: Context, address: str) -> Reply | None:
        local, domain = local_part(address), domain_name(domain_of(address)) or ""
        if address in self.lists.refused or (
            domain in self.lists.valid and local.lower() not in self.lists.valid[domain]
        ):
            return Reply(550, "5.1.1", "no such mailbox", reason="no_recipient")
        if domain in self.lists.inside_only and not self._is_ours(ctx):
            return Reply(550, "5.7.1", "only our own may write to this domain", reason="inside_only")
        rule = []
        if self.by_recipient:
            self.seen.recipient = address
            rule = self._rule(self._first(about_header=False))
            self.seen.recipient = None
        if address in self.lists.exempt:
            return None
        refused = next((each.reply() for each in (*self.found, *rule) if is_refusal(each.action)), None)
        self.found += [each for each in rule if refused is None and each not in self.found]
        return refused

    async def data(self, ctx: Context) -> Response | None:
        most, sender = self.settings.bounce_recipients, ctx.sender
        if most is not None and sender is not None and not sender.address and len(ctx.recipients) > most:
            return Reply(550, "5.7.1", "a bounce goes to the one who has sent the message", reason="bounce_recipients")
        return None

    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        sender = ctx.sender.address if ctx.sender is not None else ""
        domain = domain_name(domain_of(sender)) or ""
        asks = self.settings.own_sender == "authenticated" and self.site.is_own(domain) and not self._is_ours(ctx)
        if asks and not _is_proven(domain, ctx.results.get(Authentication)) and not self.lists.exempt.all(ctx):
            return Reply(550, "5.7.1", "mail from this domain is signed, or comes from here", reason="own_sender")
        for each in self.found:
            if not is_refusal(each.action):
                answer = act(ctx, each.action, each.text, reason=each.reason, header=self.settings.header)
                if answer is not None:
                    return answer
        return None


def _is_elsewhere(ctx: Context) -> bool:
    """Return whether a client has an address, and that of another machine."""
    return ctx.client.ip is not None and not is_local(ctx.client)


def _is_proven(domain: str, found: Authentication | None) -> bool:
    """Return whether SPF or a signature says that a message is of a domain."""
    if found is None:
        return False
    signed = {each.aligned_identifier for each in found.dkim}
    return found.spf.authenticated_domain == domain or any(
        domain == each or domain.endswith(f".{each}") for each in signed if each
    )


class _WithHeaders(_Access):
    """The same where rules look at header fields."""

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        self.fields: list[tuple[str, str]] = []
        return await super().envfrom(ctx, mail)

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        name = header.name.lower()
        if any(rule.header.lower() == name for rule, _ in self.rules):
            self.fields.append((name, header.text))

    async def eoh(self, ctx: Context) -> Response | None:
        for each in self.fields:
            self.seen.header = each
            number = self._first(about_header=True)
            found = self._rule(number) if number < self.stop else []
            if any(is_refusal(one.action) for one in found) and not self.lists.exempt.all(ctx):
                return found[0].reply()
            self.found += found
        return None
