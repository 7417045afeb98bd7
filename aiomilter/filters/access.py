"""``access``: rules about client, HELO, sender, recipients and header fields, and bans of those who break them."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import ClassVar, Final

from aiomilter.filters.access_filter import AccessFilter, AccessWithHeaders, SparingAccess, SparingAccessWithHeaders
from aiomilter.filters.access_lists import AccessLists
from aiomilter.filters.access_rules import AccessRule, compiled, rules_of
from aiomilter.filters.access_settings import AccessSettings
from aiomilter.filters.ready import ReadyFilter
from aiomilter.filters.site import Site
from aiomilter.handler import Milter
from aiomilter.policy import Traps
from aiomilter.wire.constants import Stage

__all__ = ["Access"]

_KINDS: Final[Mapping[tuple[bool, bool], type[AccessFilter]]] = {
    (False, False): AccessFilter,
    (True, False): AccessWithHeaders,
    (False, True): SparingAccess,
    (True, True): SparingAccessWithHeaders,
}
"""By whether rules are about header fields, and whether they let mail by other filters."""


@dataclass(frozen=True, kw_only=True)
class Access(AccessSettings, ReadyFilter):
    """Refuse mail by who the client says it is, by its envelope, and by words in its header.

    The rules about HELO names, bans and own_sender are for clients that are neither ours nor our relays, nor have logged in.

    Args:
        rules: Tables, the first of which that holds counts: client, hostname, helo, login, sender, recipient, and header with
            words or regex, say what they are about; action what is done (reject), reply the text of a refusal.  With accept
            the checks of other filters are not asked, and what authenticate and reputation find out has no consequences;
            with note, and skip, the filters named there are not asked.  By sender, without client or login, these two hold
            if SPF passes.
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

    def __post_init__(self) -> None:
        AccessLists(self, Site())
        self.banning()

    @property
    def first_stage(self) -> Stage:
        """It looks at senders."""
        return Stage.MAIL

    @property
    def needs(self) -> tuple[str, ...]:
        """It asks for results if own_sender does, or a rule that lets a sender by."""
        return ("authenticate",) if self.own_sender == "authenticated" or "spf_pass" in self.asks else ()

    @property
    def asks(self) -> frozenset[str]:
        """SPF at MAIL if a rule needs it there, and no refusals before who is let by is known."""
        try:
            rules = [rule for rule in self._all_rules if rule.spares]
        except ValueError:  # it is told of by the check, and by the start
            return frozenset()
        proof = {"spf_pass"} if any(rule.needs_proof for rule in rules) else set()
        return frozenset({*proof, "accept"} if rules else ())

    @property
    def skips(self) -> frozenset[str]:
        """The names of other filters that its rules leave out."""
        try:
            return frozenset(name for rule in self._all_rules for name in rule.skip)
        except ValueError:
            return frozenset()

    def check(self, site: Site) -> None:
        """Read the table."""
        self._all_rules  # noqa: B018 - it raises

    @cached_property
    def _all_rules(self) -> list[AccessRule]:
        # Kept: a table of 10,000 rules takes two seconds to read, and a start asks for it five times.
        try:
            return [*self.rules, *(rules_of(self.table) if self.table is not None else ())]
        except ValueError as error:
            raise ValueError(f"table: {error}") from None

    @asynccontextmanager
    async def start(self, site: Site, asked: frozenset[str]) -> AsyncIterator[Callable[[], Milter]]:
        """Read the table, and open the store if clients are banned."""
        rules, banning = self._all_rules, self.banning()
        async with AsyncExitStack() as stack:
            bans = None
            if banning is not None:
                bans = Traps(await stack.enter_async_context(site.open_store()), (), keep=banning[1], kind="ban")
            made = [(rule, compiled(rule)) for rule in rules]
            kind = _KINDS[any(rule.header for rule in rules), any(rule.spares for rule in rules)]
            yield partial(kind, self, site, AccessLists(self, site), made, bans)
