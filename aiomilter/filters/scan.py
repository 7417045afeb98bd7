"""``scan``: what clamd, spamd and rspamd say of a message, and what is done then."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

from aiomilter.context import Context
from aiomilter.exceptions import AddressError
from aiomilter.filters.actions import Action, act_on
from aiomilter.filters.ready import ReadyEdit
from aiomilter.filters.site import Site
from aiomilter.message import Headers, Message, MessageMilter
from aiomilter.scan import (
    Clamd,
    ClamdResult,
    Envelope,
    HeaderChanges,
    Result,
    Rspamd,
    RspamdResult,
    Scanner,
    Spamd,
    SpamdResult,
)
from aiomilter.wire.replies import Response

__all__ = ["Scan"]

_SPAM: Final = frozenset({"reject", "add header", "rewrite subject", "quarantine", "discard"})
_KINDS: Final[Mapping[str, Any]] = {"clamd": Clamd, "spamd": Spamd, "rspamd": Rspamd}


@dataclass(frozen=True, kw_only=True)
class Scan(ReadyEdit):
    """Ask clamd, spamd and rspamd about each message, all at once, and do what is set for what they find.

    Header fields that rspamd asks for are added and removed; its soft reject is a tempfail.

    Args:
        clamd: Where it listens: unix:/run/clamav/clamd.ctl, inet:3310@127.0.0.1.
        spamd: The same of SpamAssassin: inet:783@127.0.0.1.
        rspamd: The same of a normal worker: http://127.0.0.1:11333.
        on_malware: What is done with mail in which one of them finds malware.
        on_spam: The same with spam: what spamd says is, and what rspamd would mark, reject or set apart.
        on_unavailable: What is done while one of them is away, or takes too long.
        on_too_large: The same for mail that is too large for one: a tempfail would come back until it bounces.
        max_size: Octets of a message; larger ones are not scanned.
        header: The field that marks a message; those that were there before are removed.
    """

    name: ClassVar[str] = "scan"
    reasons: ClassVar[Mapping[str, str]] = {
        "malware": "a scanner has found malware",
        "spam": "a scanner says that it is spam",
        "soft_reject": "rspamd wants it to come again later",
        "scanner_away": "a scanner has no answer",
        "scan_too_large": "the message is too large to be scanned",
    }
    example: ClassVar[str] = '[[filter]]\nuse = "scan"\nclamd = "unix:/run/clamav/clamd.ctl"\non_malware = "reject"\n'

    clamd: str = ""
    spamd: str = ""
    rspamd: str = ""
    on_malware: Action = "reject"
    on_spam: Action = "header"
    on_unavailable: Action = "tempfail"
    on_too_large: Action = "note"
    max_size: int = 52_428_800
    header: str = "X-Spam-Flag"

    def __post_init__(self) -> None:
        if not list(self.scanners()):
            raise ValueError("expected at least one of clamd, spamd, rspamd")

    def scanners(self) -> Iterator[Scanner[Result]]:
        """Yield the scanners that are set.

        Raises:
            ValueError: One has no address, or ``max_size`` is not above 0.
        """
        for name, kind in _KINDS.items():
            if address := getattr(self, name):
                try:
                    yield kind(address, max_size=self.max_size)
                except AddressError as error:
                    raise ValueError(f"{name}: {error}") from None
                except ValueError:
                    raise ValueError(f"max_size: expected more than 0, found {self.max_size}") from None

    @asynccontextmanager
    async def start(self, site: Site, asked: frozenset[str]) -> AsyncIterator[Callable[[], MessageMilter]]:
        """Make the scanners, once for the process."""
        async with AsyncExitStack() as stack:
            yield partial(_Scan, self, [await stack.enter_async_context(each) for each in self.scanners()])


class _Scan(MessageMilter):
    provides = (ClamdResult, SpamdResult, RspamdResult)

    def __init__(self, settings: Scan, scanners: Sequence[Scanner[Result]]) -> None:
        self.settings = settings
        self.scanners = scanners

    async def message(self, ctx: Context, message: Message) -> Response | None:
        message.headers.remove_all(self.settings.header)
        envelope = Envelope(
            sender=message.sender.address if message.sender is not None else None,
            recipients=tuple(each.address for each in ctx.recipients),
            ip=ctx.client.ip,
            hostname=ctx.client.hostname,
            helo=ctx.helo,
            login=ctx.auth.login if ctx.auth is not None else "",
            queue_id=ctx.queue_id or "",
            mta_name=ctx.mta.name,
        )
        found = await asyncio.gather(*(each.scan(message.octets(), envelope=envelope) for each in self.scanners))
        for each in found:
            ctx.results.put(each)
            if isinstance(each, RspamdResult):
                _change(message.headers, each)
        for action, text, reason in self._verdicts(found):
            answer = act_on(ctx, message, action, text, reason=reason, header=self.settings.header)
            if answer is not None:
                return answer
        return None

    def _verdicts(self, found: Sequence[Result]) -> Iterator[tuple[Action, str, str]]:
        """Yield what is to be done, the worst first: the action, why, and the same in a word."""
        settings = self.settings
        for each in found:
            if isinstance(each, ClamdResult) and each.infected:
                yield settings.on_malware, f"malware found: {each.name}", "malware"
        spam = [each for each in found if _is_spam(each)]
        if spam:
            yield settings.on_spam, "this message looks like spam", "spam"
        if any(isinstance(each, RspamdResult) and each.action == "soft reject" for each in found):
            yield "tempfail", "try again later", "soft_reject"
        if any(each.too_large for each in found):
            yield settings.on_too_large, "this message is too large to be scanned", "scan_too_large"
        if any(each.problem and not each.too_large for each in found):
            yield settings.on_unavailable, "a scanner has no answer now", "scanner_away"


def _is_spam(found: Result) -> bool:
    return (isinstance(found, SpamdResult) and found.spam) or (
        isinstance(found, RspamdResult) and found.action in _SPAM
    )


def _change(headers: Headers, found: RspamdResult) -> None:
    """Change the header section as rspamd asks."""
    changes: HeaderChanges = found.headers
    for removed in changes.remove:
        fields, number = headers.get_all(removed.name), removed.occurrence
        first = number - 1 if number > 0 else number
        for field in fields if number == 0 else fields[first : first + 1 or None]:
            headers.remove(field)
    for added in changes.add:
        if added.order is not None and 0 <= added.order < len(headers):
            headers.insert_before(headers[added.order], added.name, added.value)
        else:
            headers.append(added.name, added.value)
    if found.subject:
        headers.set_text("Subject", found.subject)
