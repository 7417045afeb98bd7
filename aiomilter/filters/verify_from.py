"""``verify_from``: the author in From has to be one of ours."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final, Literal

from aiomilter.auth import Authentication
from aiomilter.context import Context, EndOfMessageContext
from aiomilter.filters.actions import Action, act
from aiomilter.filters.domains import domain_name
from aiomilter.filters.ready import ReadyFilter
from aiomilter.filters.site import Site
from aiomilter.handler import Milter, no_reply
from aiomilter.mail.addresses import addresses
from aiomilter.mail.envelope import domain as domain_of
from aiomilter.mail.envelope import local_part
from aiomilter.wire.events import Header, Mail
from aiomilter.wire.replies import Response

__all__ = ["VerifyFrom"]

_MOST: Final = 100
"""Fields of a name that are looked at."""


@dataclass(frozen=True, kw_only=True)
class VerifyFrom(ReadyFilter):
    """Refuse or mend mail whose From does not belong to the user, the envelope, or domains of ours.

    Say whom it is for with ``when``, such as authenticated.  The Sender field never excuses From.

    Args:
        domains: Whose mail may leave; own_domains if there are none.  With match = "address", whole addresses.
        subdomains: Whether domains below them are ours, too.
        match: What each author in From has to agree with.  domain: its domain is one of ``domains``; address: it is one of them
            as a whole; envelope: its domain is that of the envelope sender; login: it is the login, or that at one of
            ``domains``.
        invert: Refuse those that do belong to ``domains``, in mail from outside, unless DMARC passes.
        action: What is done with other mail.  reject; mend: the envelope sender becomes From, and the old From Reply-To, if
            there is none; quarantine; note: nothing.
        ambiguous: The same where there is no From, there are several, or one without an address: reject, quarantine or note.
    """

    name: ClassVar[str] = "verify_from"
    reasons: ClassVar[Mapping[str, str]] = {
        "foreign_from": "an author in From is not what match asks for",
        "own_from": "an author in From is of our domains, and DMARC does not pass",
        "unclear_from": "there is no From, there are several, or it has no address",
    }
    example: ClassVar[str] = (
        '[[filter]]\nuse = "verify_from"\nwhen = "authenticated"\ndomains = ["corp.example"]\naction = "reject"\n'
    )

    domains: Collection[str] = ()
    subdomains: bool = True
    match: Literal["domain", "address", "envelope", "login"] = "domain"
    invert: bool = False
    action: Literal["reject", "mend", "quarantine", "note"] = "reject"
    ambiguous: Literal["reject", "quarantine", "note"] = "reject"

    def __post_init__(self) -> None:
        if isinstance(self.domains, str):
            raise TypeError(f"domains: expected several, found a text; write ({self.domains!r},)")
        for each in self.domains:
            local, at, domain = each.rpartition("@")
            if domain_name(domain) is None or bool(at) != (self.match == "address") or bool(local) != bool(at):
                what = "addresses" if self.match == "address" else "domain names"
                raise ValueError(f"domains: expected {what}, found {each!r:.80}")
        if self.match == "address" and not self.domains:
            raise ValueError("domains: expected addresses, found none")
        if self.invert and (self.action == "mend" or self.match not in ("domain", "address")):
            raise ValueError("invert: expected no mend, and a match of domain or address")

    def check(self, site: Site) -> None:
        """Look whether it knows any domains."""
        if self.match in ("domain", "login") and not self.domains and not site.own_domains:
            raise ValueError("domains: expected domains, or own_domains of the site")

    @asynccontextmanager
    async def start(self, site: Site, asked: frozenset[str]) -> AsyncIterator[Callable[[], Milter]]:
        """Look whether it knows any domains."""
        self.check(site)
        if self.match == "address":
            yield partial(_VerifyFrom, self, site, frozenset(map(_normal, self.domains)))
        else:
            ours = Site(own_domains=self.domains) if self.domains else site
            yield partial(_VerifyFrom, self, ours, frozenset(map(domain_name, ours.own_domains)))


class _VerifyFrom(Milter):
    reads = (Authentication,)

    def __init__(self, settings: VerifyFrom, ours: Site, exact: frozenset[str | None]) -> None:
        self.settings = settings
        self.ours = ours
        self.exact = exact
        self.authors: list[str] = []
        self.answers_elsewhere = False

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        self.authors, self.answers_elsewhere = [], False

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        name = header.name.lower()
        if name == "from" and len(self.authors) < _MOST:
            self.authors.append(header.value)
        elif name == "reply-to":
            self.answers_elsewhere = True

    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        settings = self.settings
        named = addresses(self.authors[0]) if len(self.authors) == 1 else ()
        if not named or not all(_normal(each) for each in named):
            if settings.ambiguous == "note":
                return None
            return self._act(ctx, settings.ambiguous, "The author in From is not clear", reason="unclear_from")
        sender = ctx.sender.address if ctx.sender is not None else ""
        found = [self._belongs(ctx, each, sender) for each in named]
        if settings.invert:
            return self._refuse_own(ctx) if any(found) else None
        if all(found) or settings.action == "note":
            return None
        text = f"{named[found.index(False)]:.200} in From is not an address that you may write from"
        if settings.action != "mend":
            return self._act(ctx, settings.action, text, "foreign_from")
        if not sender:
            return None  # a bounce names another author than its sender
        if not self._belongs(ctx, sender, sender):
            return self._act(ctx, "reject", text, "foreign_from")
        ctx.change_header("From", 1, f"<{sender}>")
        if not self.answers_elsewhere:
            ctx.insert_header("Reply-To", self.authors[0].lstrip())
        return None

    def _act(self, ctx: EndOfMessageContext, action: Action, text: str, reason: str) -> Response | None:
        printable = text.encode("ascii", "replace").decode()
        if action == "quarantine":
            ctx.reason(reason)
        return act(ctx, action, printable, reason=reason, header="")

    def _refuse_own(self, ctx: EndOfMessageContext) -> Response | None:
        checked, action = ctx.results.get(Authentication), self.settings.action
        if action == "mend" or (checked is not None and checked.dmarc.result == "pass"):
            return None
        text = "From names one of our domains, and nothing proves that the message is from it"
        return self._act(ctx, action, text, "own_from")

    def _belongs(self, ctx: Context, address: str, sender: str) -> bool:
        """Return whether an author is one that the settings ask for."""
        domain = domain_of(address)
        match = self.settings.match
        if match == "address":
            return _normal(address) in self.exact
        if match == "envelope":
            return not sender or domain_name(domain) == domain_name(domain_of(sender))
        if match == "domain":
            return self._is_ours(domain)
        login = ctx.auth.login if ctx.auth is not None else ""
        if "@" in login:
            return _normal(address) == _normal(login)
        return bool(login) and local_part(address).lower() == login.lower() and self._is_ours(domain)

    def _is_ours(self, domain: str) -> bool:
        if self.settings.subdomains:
            return self.ours.is_own(domain)
        name = domain_name(domain)
        return name is not None and name in self.exact


def _normal(address: str) -> str:
    """Return an address in the form that is compared; "" if it is none."""
    local, domain = local_part(address).lower(), domain_name(domain_of(address))
    return f"{local}@{domain}" if local and domain else ""
