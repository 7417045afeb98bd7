"""``copy``: other recipients for some mail: an archive, a colleague, an address that takes the place of another."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Final

from aiomilter.context import EndOfMessageContext
from aiomilter.filters.domains import covers, domain_name, key
from aiomilter.filters.ready import ReadyFilter
from aiomilter.filters.site import Site
from aiomilter.handler import Milter
from aiomilter.mail.envelope import domain as domain_of
from aiomilter.mail.envelope import local_part
from aiomilter.wire.replies import DISCARD, Response

__all__ = ["Copy", "CopyRule"]

_MOST: Final = 100
"""Addresses of one rule."""


@dataclass(frozen=True, kw_only=True)
class CopyRule:
    """One rule: it holds if the sender and one of the recipients are as it says; all rules that hold count.

    Args:
        sender: Envelope senders: addresses, domains, or ``.domain`` for those below one; none for all.
        recipient: Envelope recipients, in the same way.
        to: Addresses that get the message, too.
        instead: They get it in place of the recipients of the rule.
        discard: No one gets it who is a recipient of the rule.
    """

    sender: Collection[str] | str = ()
    recipient: Collection[str] | str = ()
    to: Collection[str] | str = ()
    instead: bool = False
    discard: bool = False

    def __post_init__(self) -> None:
        for name in ("sender", "recipient"):
            for each in _texts(getattr(self, name)):
                try:
                    key(each.removeprefix("@"))
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None
        to = _texts(self.to)
        for each in to:
            if not local_part(each) or domain_name(domain_of(each)) is None or any(ord(one) < 33 for one in each):
                raise ValueError(f"to: expected addresses, found {each!r:.80}")
        if len(to) > _MOST:
            raise ValueError(f"to: expected at most {_MOST} addresses, found {len(to)}")
        if self.discard and (to or self.instead):
            raise ValueError("discard: expected no to and no instead, which deliver the message")
        if not to and not self.discard:
            raise ValueError("to: expected addresses, or discard = true")
        if self.instead and not self.recipient:
            raise ValueError("instead: expected a recipient, whose place is taken")


@dataclass(frozen=True, kw_only=True)
class Copy(ReadyFilter):
    """Give mail to further recipients by rule, in place of others or besides them; each is told in the log.

    Whether users may be watched so, and who has to know of it, is a matter of law and consent: it is the operator's affair.

    Args:
        rules: The rules.
    """

    name: ClassVar[str] = "copy"
    only_judges: ClassVar[bool] = False
    reasons: ClassVar[Mapping[str, str]] = {"copy_discard": "a rule leaves no recipient"}
    mta: ClassVar[str] = "non_smtpd_milters, for mail that does not come by SMTP"
    example: ClassVar[str] = (
        '[[filter]]\nuse = "copy"\nrules = [{ sender = "sales@corp.example", to = ["archive@corp.example"] }]\n'
    )

    rules: Sequence[CopyRule] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError("rules: expected at least one")

    @asynccontextmanager
    async def start(self, site: Site, asked: frozenset[str]) -> AsyncIterator[Callable[[], Milter]]:
        """Read the rules."""
        yield partial(_Copy, [_Compiled(rule) for rule in self.rules])


class _Compiled:
    """A rule whose addresses are found by look-up, however many there are."""

    def __init__(self, rule: CopyRule) -> None:
        self.senders, self.recipients = _keys(rule.sender), _keys(rule.recipient)
        self.to = _texts(rule.to)
        self.replaces = rule.instead or rule.discard

    def concerned(self, sender: str, recipients: Sequence[str]) -> list[str]:
        """Return the recipients that the rule is about; none if it does not hold."""
        if self.senders and not covers(self.senders, sender):
            return []
        return [each for each in recipients if not self.recipients or covers(self.recipients, each)]


class _Copy(Milter):
    def __init__(self, rules: Sequence[_Compiled]) -> None:
        self.rules = rules

    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        sender = ctx.sender.address if ctx.sender is not None else ""
        paths = {each.address: each.path for each in ctx.recipients}
        added: dict[str, None] = {}
        removed: dict[str, None] = {}
        for rule in self.rules:
            if found := rule.concerned(sender, list(paths)):
                added.update(dict.fromkeys(rule.to))
                removed.update(dict.fromkeys(found if rule.replaces else ()))
        stays = [each for each in removed if each in added]
        new = [each for each in added if each not in paths]
        gone = [each for each in removed if each not in stays]
        if not new and not gone:
            return None
        ctx.log.info("recipients: added %s, removed %s", ", ".join(new) or "none", ", ".join(gone) or "none")
        if not new and len(gone) == len(paths):
            ctx.reason("copy_discard")
            return DISCARD
        for each in new:
            ctx.add_recipient(each)
        for each in gone:
            ctx.delete_recipient(paths[each])
        return None


def _texts(given: Collection[str] | str) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _keys(given: Collection[str] | str) -> frozenset[str]:
    return frozenset(key(each.removeprefix("@")) for each in _texts(given))
