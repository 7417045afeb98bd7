"""``srs``: what is sent on elsewhere gets a sender of ours, and bounces to that find their way back."""

import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Final, Literal

from aiomilter.context import Context, EndOfMessageContext
from aiomilter.filters.domains import domain_name
from aiomilter.filters.ready import ReadyFilter
from aiomilter.filters.recipients import EXEMPT, Exempt
from aiomilter.filters.site import Site
from aiomilter.filters.units import seconds
from aiomilter.handler import Milter
from aiomilter.mail.envelope import domain as domain_of
from aiomilter.mail.envelope import local_part
from aiomilter.mail.srs import Rewriter, SrsError
from aiomilter.secret import Secret
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Mail, Rcpt
from aiomilter.wire.replies import Reply, Response

__all__ = ["Srs"]

_DAY: Final = 86_400
_SHORT: Final = 16
_LARGEST: Final = 16 * 1024 * 1024
_TAGS: Final = ("srs0", "srs1")


@dataclass(frozen=True, kw_only=True)
class Srs(ReadyFilter):
    """Send mail on with a sender of ours, by the Sender Rewriting Scheme, and let only true bounces back.

    The sender is rewritten if a recipient is not in ``local_domains``, or is in ``forwards``, since a milter does not see what
    aliases become.  Null senders and our own stay as they are.  ``aiomilter help srs`` has more.

    Args:
        domain: What new senders end in: a domain whose mail comes here.
        secrets: The first one makes addresses, all of them verify.  Use 16 octets or more.
        max_age: The time for which bounces are taken, in whole days.
        hash_length: Characters of a hash, 4 to 20; shorter ones are refused.
        forwards: A file of our addresses that are sent on elsewhere, one a line; @example.org is all of a domain.
        local_domains: Domains whose mail stays here, with those below; own_domains if there are none.
        reverse_domains: More domains, whose SRS addresses were made with these secrets.
        sign_domains: Our domains whose senders are rewritten, too, when mail leaves, so that bounces to them are known.
        unsigned_bounce: What is done with a bounce to an address in sign_domains itself: accept or reject.
        bounce_senders: Local-parts whose mail counts as a bounce, besides the null sender.
        forged: What is done with a bounce to an SRS address that is forged, or too old: reject or accept.
        mixed: What is done with mail for recipients here and elsewhere, which have one sender: rewrite or keep.
        exempt_recipients: Addresses, or local-parts of our domains, whose bounces are not refused.
    """

    name: ClassVar[str] = "srs"
    only_judges: ClassVar[bool] = False
    reasons: ClassVar[Mapping[str, str]] = {
        "srs_forged": "none of the secrets has made the address that the bounce is for",
        "srs_stale": "the address is older than max_age",
        "srs_malformed": "it begins like an SRS address, and has another form",
        "unsigned_bounce": "we have sent nothing that it could be a bounce of",
    }
    mta: ClassVar[str] = "domain among those that it takes mail for, for any recipient that begins with SRS0 or SRS1"
    example: ClassVar[str] = (
        '[[filter]]\nuse = "srs"\ndomain = "fwd.example.net"\nsecrets = ["at least sixteen octets"]\n'
        'local_domains = ["corp.example"]\n'
    )

    domain: str
    secrets: Collection[Secret]
    max_age: float | str = "21 d"
    hash_length: int = 4
    forwards: Path | None = None
    local_domains: Collection[str] = ()
    reverse_domains: Collection[str] = ()
    sign_domains: Collection[str] = ()
    unsigned_bounce: Literal["accept", "reject"] = "accept"
    bounce_senders: Collection[str] = ()
    forged: Literal["reject", "accept"] = "reject"
    mixed: Literal["rewrite", "keep"] = "rewrite"
    exempt_recipients: Collection[str] = EXEMPT

    def __post_init__(self) -> None:
        self.rewriter()
        for name in ("local_domains", "sign_domains"):
            _own(name, getattr(self, name))
        Exempt(self.exempt_recipients, Site())

    def rewriter(self) -> Rewriter:
        """Return what rewrites.

        Raises:
            ValueError: A setting is not as described.
        """
        age = round(seconds("max_age", self.max_age) / _DAY)
        if not 1 <= age <= 1000:
            raise ValueError(f"max_age: expected 1 d to 1000 d, found {self.max_age}")
        return Rewriter(
            [each.value for each in self.secrets],
            self.domain,
            own_domains=self.reverse_domains,
            max_age=age,
            hash_length=self.hash_length,
            clock=time.time,
        )

    def doubts(self) -> Iterator[tuple[str, str]]:
        """Short secrets can be found out from the hash in an address."""
        short = [
            len(octets)
            for each in self.secrets
            if len(octets := each.value.encode("utf-8", "surrogateescape")) < _SHORT
        ]
        if short:
            yield (
                "secrets",
                f"one has {min(short)} octets; write {_SHORT} or more of chance, as 'openssl rand -hex 16' prints",
            )

    def check(self, site: Site) -> None:
        """Read the file of addresses."""
        if not self.local_domains and not site.own_domains:
            raise ValueError("local_domains: expected domains whose mail stays here, or own_domains of the site")
        _forwards(self.forwards)

    @property
    def first_stage(self) -> Stage:
        """It begins with MAIL."""
        return Stage.MAIL

    @asynccontextmanager
    async def start(self, site: Site, asked: frozenset[str]) -> AsyncIterator[Callable[[], Milter]]:
        """Read the file of addresses."""
        self.check(site)
        lists = _Lists(self, site)
        yield partial(_Srs, self, site, lists, self.rewriter(), _forwards(self.forwards))


class _Lists:
    """What is listed in settings, as it is looked up."""

    def __init__(self, settings: Srs, site: Site) -> None:
        self.local = _own("local_domains", settings.local_domains) if settings.local_domains else site
        self.signed = _own("sign_domains", settings.sign_domains)
        self.exempt = Exempt(settings.exempt_recipients, site)


class _Srs(Milter):
    def __init__(self, settings: Srs, site: Site, lists: _Lists, rewriter: Rewriter, forwards: frozenset[str]) -> None:
        self.settings = settings
        self.site = site
        self.rewriter = rewriter
        self.forwards = forwards
        self.local, self.signed, self.exempt = lists.local, lists.signed, lists.exempt
        self.is_bounce = self.may_refuse = False

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        local = local_part(mail.address).lower()
        self.is_bounce = not mail.address or local in {each.lower() for each in self.settings.bounce_senders}
        self.may_refuse = ctx.auth is None and not self.site.is_internal(ctx) and not self.site.is_trusted_relay(ctx)

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        if not self.is_bounce:
            return None
        refuses = self.may_refuse and rcpt.address not in self.exempt
        try:
            sent_on = self.rewriter.reverse(rcpt.address)
        except SrsError as error:
            if error.reason != "not ours" and refuses and self.settings.forged == "reject":
                text = f"This is not an address that we have sent from: {error.reason}"
                return Reply(550, "5.7.1", text, reason=f"srs_{error.reason}")
            unsigned = error.reason == "not ours" and self.signed.is_own(domain_of(rcpt.address))
            if unsigned and refuses and self.settings.unsigned_bounce == "reject":
                return Reply(550, "5.7.1", "We have not sent what this is a bounce of", reason="unsigned_bounce")
            return None
        ctx.notes.setdefault("reversed", {})[rcpt.address] = sent_on
        return None

    async def eom(self, ctx: EndOfMessageContext) -> None:
        if self.is_bounce:
            turned: dict[str, str] = ctx.notes.get("reversed", {})
            kept = {each.address for each in ctx.recipients}
            for old in turned.keys() & kept:
                ctx.delete_recipient(old)
            for new in dict.fromkeys(turned[each.address] for each in ctx.recipients if each.address in turned):
                if new not in kept - turned.keys():
                    ctx.add_recipient(new)
            return
        sender = ctx.sender.address if ctx.sender is not None else ""
        domain = domain_of(sender)
        if not self._leaves(ctx) or (self.local.is_own(domain) and not self.signed.is_own(domain)):
            return
        try:
            new = self.rewriter.forward(sender)
        except SrsError:
            return  # nothing that could be rewritten
        if new != sender:
            ctx.change_sender(new)

    def _leaves(self, ctx: Context) -> bool:
        """Return whether a message is sent on elsewhere."""
        leaves = [self._is_elsewhere(each.address) for each in ctx.recipients]
        return any(leaves) if self.settings.mixed == "rewrite" else bool(leaves) and all(leaves)

    def _is_elsewhere(self, address: str) -> bool:
        domain = domain_name(domain_of(address)) or ""
        if local_part(address)[:4].lower() in _TAGS and domain == self.rewriter.domain.lower():
            return False
        sent_on = f"{local_part(address).lower()}@{domain}" in self.forwards or f"@{domain}" in self.forwards
        return sent_on or (bool(domain) and not self.local.is_own(domain))


def _own(name: str, domains: Collection[str]) -> Site:
    """Return a site whose domains these are."""
    try:
        return Site(own_domains=domains)
    except (TypeError, ValueError) as error:
        raise ValueError(str(error).replace("own_domains", name, 1)) from None


def _forwards(path: Path | None) -> frozenset[str]:
    """Return the addresses in a file."""
    if path is None:
        return frozenset()
    found = []
    try:
        with path.open(encoding="utf-8") as file:
            lines = file.read(_LARGEST + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"forwards: {str(path)!r} cannot be read: {error}") from None
    if len(lines) > _LARGEST:
        raise ValueError(f"forwards: expected a file of at most {_LARGEST} octets")
    for number, line in enumerate(lines.splitlines(), 1):
        text = line.partition("#")[0].strip().lower()
        local, at, domain = text.rpartition("@")
        name = domain_name(domain)
        if text and (not at or name is None):
            raise ValueError(f"forwards: line {number}: expected an address, or @ and a domain, found {text!r:.80}")
        if text:
            found.append(f"{local}@{name}")
    return frozenset(found)
