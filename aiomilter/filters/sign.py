"""``sign``: DKIM signatures on what leaves, by the domain in From."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import format_datetime, localtime, make_msgid
from functools import partial
from typing import ClassVar, Final, Literal

from aiomilter.auth import dkim
from aiomilter.context import Context
from aiomilter.filters.actions import refusal
from aiomilter.filters.hashing import HashingEdit
from aiomilter.filters.keys import Keys, key_ring
from aiomilter.filters.ready import ReadyEdit
from aiomilter.filters.site import Site
from aiomilter.filters.units import seconds
from aiomilter.mail.envelope import domain as domain_of
from aiomilter.mail.headers import HeaderSection
from aiomilter.message import Message, MessageMilter
from aiomilter.wire.replies import Response

__all__ = ["Sign"]

_MISSING: Final = ("Date", "Message-ID")


@dataclass(frozen=True, kw_only=True)
class Sign(ReadyEdit):
    """Sign mail by DKIM, with all keys of the domain in From, after all other edits.

    Say whom to sign for with ``when``: without, whatever comes through is signed if there is a key for its From.

    Args:
        keys: The file of keys, see ``aiomilter help dkim``; or its table ``[keys]`` itself.
        mismatch: What is done with mail whose From has no key: note (it leaves unsigned), reject or tempfail.
        oversign: "default", or the names of fields that must not be added later.
        add_missing: Fields that are added where they are absent, of Date and Message-ID: some MTAs add them after signing.
        expire: The time that signatures hold; for ever if it is not set.
    """

    name: ClassVar[str] = "sign"
    reasons: ClassVar[Mapping[str, str]] = {
        "no_key": "the domain in From has no key, and mismatch says not to let it leave"
    }
    mta: ClassVar[str] = "non_smtpd_milters, for mail that does not come by SMTP"
    example: ClassVar[str] = '[[filter]]\nuse = "sign"\nwhen = ["authenticated", "internal"]\nkeys = "keys.toml"\n'

    keys: Keys
    mismatch: Literal["note", "reject", "tempfail"] = "note"
    oversign: Literal["default"] | Collection[str] = "default"
    add_missing: Collection[Literal["Date", "Message-ID"]] = _MISSING
    expire: float | str | None = None

    def __post_init__(self) -> None:
        if unknown := set(self.add_missing) - set(_MISSING):
            raise ValueError(f"add_missing: expected some of {', '.join(_MISSING)}, found {sorted(unknown)[0]!r}")
        self.options()

    def options(self) -> dkim.Options:
        """Return what is signed.

        Raises:
            ValueError: A setting is not as described.
        """
        expire = None if self.expire is None else max(1, round(seconds("expire", self.expire)))
        oversign = dkim.OVERSIGN if isinstance(self.oversign, str) else tuple(self.oversign)
        try:
            return dkim.Options(oversign=oversign, expire=expire)
        except ValueError as error:
            raise ValueError(f"oversign: {error}") from None

    def check(self, site: Site) -> None:
        """Read the keys."""
        key_ring(self.keys, site)

    @asynccontextmanager
    async def start(self, site: Site, asked: frozenset[str]) -> AsyncIterator[Callable[[], MessageMilter]]:
        """Read the keys."""
        yield partial(_Sign, self, site, key_ring(self.keys, site))


class _Sign(HashingEdit):
    def __init__(self, settings: Sign, site: Site, keys: dkim.KeyRing) -> None:
        self.settings = settings
        self.site = site
        self.keys = keys
        self.options = settings.options()
        super().__init__()

    async def message(self, ctx: Context, message: Message) -> Response | None:
        author = next(iter(message.headers.addresses("From")), "")
        sender = ctx.sender.address if ctx.sender is not None else ""
        keys = await self.keys.keys(author, sender, ctx.auth.login if ctx.auth is not None else None)
        if not keys:
            if self.settings.mismatch == "note":
                return None
            text = f"mail of {domain_of(author) or 'no domain'} is not signed here, and does not leave"
            return refusal(self.settings.mismatch, text, reason="no_key")
        self._add_missing(ctx, message)
        signing = dkim.Signer(keys, self.options).start()
        signing.share(HeaderSection(message.headers), self.hashes)
        signing.end_of_headers()
        for value in reversed(await signing.finish()):
            message.headers.prepend("DKIM-Signature", value)
        return None

    def _add_missing(self, ctx: Context, message: Message) -> None:
        if "Date" in self.settings.add_missing and message.headers.get("Date") is None:
            message.headers.append("Date", format_datetime(localtime()))
        if "Message-ID" in self.settings.add_missing and message.headers.get("Message-ID") is None:
            message.headers.append("Message-ID", make_msgid(domain=self.site.name(ctx)))
