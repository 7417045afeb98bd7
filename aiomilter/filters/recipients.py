"""Refusals of single recipients: who is exempt, and how many there may be in one message."""

from collections.abc import Collection
from typing import Final

from aiomilter.context import Context
from aiomilter.filters.domains import domain_name
from aiomilter.filters.site import Site
from aiomilter.mail.envelope import domain as domain_of
from aiomilter.mail.envelope import local_part
from aiomilter.wire.replies import Reply

__all__ = ["EXEMPT", "Exempt", "defers", "is_full"]

EXEMPT: Final = ("postmaster", "abuse")
"""Who has to be reachable, whoever asks (RFC 2142)."""
_MOST: Final = 10
_KEY: Final = "deferred recipients"


class Exempt:
    """Recipients that are never refused.

    Args:
        given: Addresses, or local-parts of our own domains.
        site: Whose domains; without any, all are taken for ours.
        name: Of the setting.

    Raises:
        ValueError: One is not an address.
    """

    def __init__(self, given: Collection[str], site: Site, name: str = "exempt_recipients") -> None:
        self._site = site
        self._exempt: set[str] = set()
        for each in given:
            local, at, domain = each.lower().rpartition("@")
            name_of = domain_name(domain) if at else ""
            if name_of is None or not (local if at else domain):
                raise ValueError(f"{name}: expected addresses or local-parts, found {each!r:.80}")
            self._exempt.add(f"{local}@{name_of}" if at else domain)

    def __contains__(self, address: str) -> bool:
        """Return whether an address, without brackets, is one of them."""
        local, domain = local_part(address).lower(), domain_of(address)
        if f"{local}@{domain_name(domain) or ''}" in self._exempt:
            return True
        ours = not domain or not self._site.own_domains or self._site.is_own(domain)
        return ours and local in self._exempt

    def all(self, ctx: Context) -> bool:
        """Return whether a message is for them alone."""
        recipients = ctx.recipients
        return bool(recipients) and all(each.address in self for each in recipients)


def defers(ctx: Context, reply: Reply) -> Reply | None:
    """Return the refusal of a recipient; None from the eleventh on, for DATA to refuse the message with :func:`is_full`.

    Postfix hangs up at the 20th error of a client, at each of its tries (``smtpd_hard_error_limit``).
    """
    found = ctx.notes[_KEY] = ctx.notes.get(_KEY, 0) + 1
    return reply if found <= _MOST else None


def is_full(ctx: Context) -> bool:
    """Return whether recipients were let through only because too many had been refused."""
    return bool(ctx.notes.get(_KEY, 0) > _MOST)
