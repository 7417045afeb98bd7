"""``traps``: addresses that no one writes to honestly; they tell who sends what no one has asked for."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from aiomilter import policy
from aiomilter.context import EndOfMessageContext
from aiomilter.filters.ready import ReadyFilter
from aiomilter.filters.reputation import Judged
from aiomilter.filters.site import Site
from aiomilter.filters.units import seconds
from aiomilter.handler import Milter
from aiomilter.policy.traps import Caught
from aiomilter.wire.replies import DISCARD, Reply, Response

__all__ = ["Traps"]


@dataclass(frozen=True, kw_only=True)
class Traps(ReadyFilter):
    """Learn from mail to addresses that no one writes to honestly, and do not deliver it there.

    If there are other recipients, they get the message, with a mark, and reputation counts it as bad; one for traps alone ends
    here, and is not counted.  The client is remembered.

    Args:
        addresses: The traps: addresses, or ``@example.org`` for a whole domain.
        action: What is done with a message for traps alone.  discard: take it, and drop it, so that its sender goes on; reject.
        header: The field that marks a message for others.
        keep: The time for which a client is remembered, after the last message.
    """

    name: ClassVar[str] = "traps"
    unless: ClassVar[tuple[str, ...]] = ("internal", "authenticated")
    reasons: ClassVar[Mapping[str, str]] = {"trap": "the message is for traps alone"}
    stores: ClassVar[str] = "the addresses of clients that have written to a trap, for keep"
    example: ClassVar[str] = '[[filter]]\nuse = "traps"\naddresses = ["spam-me@corp.example"]\n'

    addresses: Collection[str]
    action: Literal["discard", "reject"] = "discard"
    header: str = "X-Spam-Flag"
    keep: float | str = "7 d"

    def __post_init__(self) -> None:
        if isinstance(self.addresses, str) or not self.addresses:
            raise ValueError("addresses: expected addresses or @domains")
        for each in self.addresses:
            if "@" not in each:
                raise ValueError(f"addresses: expected an address or an @domain, found {each!r:.80}")
        seconds("keep", self.keep)

    @asynccontextmanager
    async def start(self, site: Site, asked: frozenset[str]) -> AsyncIterator[Callable[[], Milter]]:
        """Open the store."""
        async with site.open_store() as store:
            traps = policy.Traps(store, self.addresses, keep=seconds("keep", self.keep))
            yield partial(_Traps, self, traps)


class _Traps(Milter):
    provides = (Judged, Caught)

    def __init__(self, settings: Traps, traps: policy.Traps) -> None:
        self.settings = settings
        self.traps = traps

    # A trap is taken at RCPT like any other address: a refusal there would tell which are traps.
    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        caught = [each for each in ctx.recipients if self.traps.is_trap(each.address)]
        if not caught:
            return None
        ctx.results.put(await self.traps.note(ctx.client.ip))
        ctx.results.put(Judged(good=False))
        if len(caught) == len(ctx.recipients):
            ctx.reason("trap")
            return DISCARD if self.settings.action == "discard" else Reply(550, "5.1.1", "No such user", reason="trap")
        for each in caught:
            ctx.delete_recipient(each.path)
        ctx.insert_header(self.settings.header, "YES")
        return None
