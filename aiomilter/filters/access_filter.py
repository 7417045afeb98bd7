"""The filter ``access``: what its settings say of a message, at each stage."""

import re
from collections.abc import Callable, Sequence
from typing import ClassVar, Final, NamedTuple, TypeAlias, cast

from aiomilter.auth import Authentication
from aiomilter.auth.spf import SpfResult
from aiomilter.compose.sparing import Spared
from aiomilter.context import Context, EndOfMessageContext
from aiomilter.failures import is_local
from aiomilter.filters.access_lists import AccessLists
from aiomilter.filters.access_rules import AccessRule, Seen
from aiomilter.filters.access_settings import AccessSettings
from aiomilter.filters.actions import Action, act, is_refusal, refusal
from aiomilter.filters.domains import covers, domain_name
from aiomilter.filters.site import Site, is_in
from aiomilter.handler import Milter, no_reply
from aiomilter.mail.envelope import domain as domain_of
from aiomilter.mail.envelope import local_part
from aiomilter.policy import Traps
from aiomilter.wire.events import Header, Helo, Mail, Rcpt
from aiomilter.wire.replies import Reply, Response

__all__ = ["AccessFilter", "AccessWithHeaders", "SparingAccess", "SparingAccessWithHeaders"]

_ADDRESS: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}\.?")


class _Found(NamedTuple):
    """What is to be done, and why."""

    action: Action
    reason: str
    text: str

    def reply(self) -> Reply:
        return refusal(self.action, self.text, reason=self.reason)


_Rules: TypeAlias = Sequence[tuple[AccessRule, Callable[[Seen], bool | None]]]


class AccessFilter(Milter):
    """Looks at client, HELO, sender and recipients; :class:`AccessWithHeaders` looks at the header, too."""

    reads: ClassVar[tuple[type, ...]] = (Authentication,)
    provides: ClassVar[tuple[type, ...]] = ()

    def __init__(
        self, settings: AccessSettings, site: Site, lists: AccessLists, rules: _Rules, bans: Traps | None
    ) -> None:
        self.settings = settings
        self.site = site
        self.lists = lists
        self.rules = rules
        self.bans = bans
        self.most: int = banning[0] if (banning := settings.banning()) is not None else 0
        self.by_recipient: bool = any(rule.recipient for rule, _ in rules)
        self._found: list[_Found] = []
        self.seen: Seen = Seen()
        self.stop: int = 0

    def _is_ours(self, ctx: Context) -> bool:
        return ctx.auth is not None or self.site.is_internal(ctx) or self.site.is_trusted_relay(ctx)

    async def _demerit(self, ctx: Context) -> None:
        if self.bans is not None and not self._is_ours(ctx):
            await self.bans.note(ctx.client.ip)

    async def helo(self, ctx: Context, helo: Helo) -> None:
        """Count a client that says that it is us."""
        if domain_name(helo.name) in self.lists.own_names:
            await self._demerit(ctx)

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        """Find what is to be done for client and sender; refusals wait for the recipients."""
        self.seen = Seen(
            ctx.client.ip or "", ctx.client.hostname, ctx.helo, ctx.auth.login if ctx.auth else "", mail.address
        )
        self._found = [*self._about_client(ctx), *self._about_sender(ctx, mail.address)]
        if self.bans is not None and not self._is_ours(ctx):
            caught = await self.bans.caught(ctx.client.ip)
            if caught.count >= self.most:
                self._found.insert(0, _Found("reject", "banned", "this client was refused too often"))
        # A rule about header fields counts where none before it has.
        self.stop = self._first(about_header=False)
        if Spared in self.provides:
            self._spare(ctx)
        if not self.by_recipient:
            self._found += self._rule(self.stop)
        return None

    def _spare(self, ctx: Context) -> None:
        """Say which filters are not asked about this message."""
        rule = self.rules[self.stop][0] if self.stop < len(self.rules) else None
        if rule is None or not rule.spares:
            return
        spf = ctx.results.get(SpfResult)
        if not rule.needs_proof or (
            spf is not None and spf.authenticated_domain == (domain_name(domain_of(self.seen.sender or "")) or "?")
        ):
            ctx.results.put(Spared(frozenset(rule.skip) or None))

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
        if rule is None or rule.action in ("note", "accept") or rule.skip:
            return []
        return [_Found(cast(Action, rule.action), "access_rule", rule.reply or "refused by a rule of this site")]

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        """Refuse a recipient, for what it is or for what was found before."""
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
        refused = next((each.reply() for each in (*self._found, *rule) if is_refusal(each.action)), None)
        self._found += [each for each in rule if refused is None and each not in self._found]
        return refused

    async def data(self, ctx: Context) -> Response | None:
        """Refuse a bounce to too many."""
        most, sender = self.settings.bounce_recipients, ctx.sender
        if most is not None and sender is not None and not sender.address and len(ctx.recipients) > most:
            return Reply(550, "5.7.1", "a bounce goes to the one who has sent the message", reason="bounce_recipients")
        return None

    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        """Ask for the proof of our own domain, and take the actions that do not refuse."""
        sender = ctx.sender.address if ctx.sender is not None else ""
        domain = domain_name(domain_of(sender)) or ""
        asks = self.settings.own_sender == "authenticated" and self.site.is_own(domain) and not self._is_ours(ctx)
        if asks and not _is_proven(domain, ctx.results.get(Authentication)) and not self.lists.exempt.all(ctx):
            return Reply(550, "5.7.1", "mail from this domain is signed, or comes from here", reason="own_sender")
        for each in self._found:
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


class AccessWithHeaders(AccessFilter):
    """The same where rules look at header fields."""

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        """Begin with no fields."""
        self.fields: list[tuple[str, str]] = []
        return await super().envfrom(ctx, mail)

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        """Keep the fields that rules are about."""
        name = header.name.lower()
        if any(rule.header.lower() == name for rule, _ in self.rules):
            self.fields.append((name, header.text))

    async def eoh(self, ctx: Context) -> Response | None:
        """Find the rules about the header that hold."""
        for each in self.fields:
            self.seen.header = each
            number = self._first(about_header=True)
            found = self._rule(number) if number < self.stop else []
            if any(is_refusal(one.action) for one in found) and not self.lists.exempt.all(ctx):
                return found[0].reply()
            self._found += found
        return None


class SparingAccess(AccessFilter):
    """The same where rules let mail by other filters, which wait for it then."""

    provides: ClassVar[tuple[type, ...]] = (Spared,)


class SparingAccessWithHeaders(AccessWithHeaders):
    """Both."""

    provides: ClassVar[tuple[type, ...]] = (Spared,)
