"""Two filters behind one connection: a handler that is no Milter, on :class:`aiomilter.handler.Handler` alone."""

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from aiomilter import CONTINUE, Context, EndOfMessageContext, Milter
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Connect, Header, Helo, Mail, Negotiate, Rcpt, Unknown
from aiomilter.wire.negotiation import Wants

Ask = Callable[[Milter], Awaitable[Any]]


class TwoFilters:
    """Asks the first filter, and the second unless the first has answered something else than CONTINUE.

    Args:
        first: Makes the first.
        second: Makes the second.
    """

    on_error: ClassVar[None] = None
    on_timeout: ClassVar[None] = None

    def __init__(self, first: type[Milter], second: type[Milter]) -> None:
        self.filters = (first(), second())
        wants = [each.wants for each in self.filters]
        self._wants = Wants(
            stages=wants[0].stages | wants[1].stages,
            # A stage is without an answer if that is enough for both.
            no_reply=frozenset(
                stage for stage in Stage if all(stage in each.no_reply or stage not in each.stages for each in wants)
            ),
            ends=any(each.ends for each in wants),
            leading_space=any(each.leading_space for each in wants),
        )

    @property
    def wants(self) -> Wants:
        """What either wants."""
        return self._wants

    async def _ask(self, stage: Stage, ask: Ask) -> Any:
        for each in self.filters:
            if stage in each.wants.stages:
                answer = await ask(each)
                if answer is not None and answer is not CONTINUE:
                    return answer
        return None

    async def negotiate(self, ctx: Context, offer: Negotiate, /) -> None:
        """Show it to both."""
        for each in self.filters:
            await each.negotiate(ctx, offer)

    async def connect(self, ctx: Context, connect: Connect, /) -> Any:
        """Ask both."""
        return await self._ask(Stage.CONNECT, lambda each: each.connect(ctx, connect))

    async def helo(self, ctx: Context, helo: Helo, /) -> Any:
        """Ask both."""
        return await self._ask(Stage.HELO, lambda each: each.helo(ctx, helo))

    async def envfrom(self, ctx: Context, mail: Mail, /) -> Any:
        """Ask both."""
        return await self._ask(Stage.MAIL, lambda each: each.envfrom(ctx, mail))

    async def envrcpt(self, ctx: Context, rcpt: Rcpt, /) -> Any:
        """Ask both."""
        return await self._ask(Stage.RCPT, lambda each: each.envrcpt(ctx, rcpt))

    async def data(self, ctx: Context, /) -> Any:
        """Ask both."""
        return await self._ask(Stage.DATA, lambda each: each.data(ctx))

    async def header(self, ctx: Context, header: Header, /) -> Any:
        """Ask both."""
        return await self._ask(Stage.HEADER, lambda each: each.header(ctx, header))

    async def eoh(self, ctx: Context, /) -> Any:
        """Ask both."""
        return await self._ask(Stage.EOH, lambda each: each.eoh(ctx))

    async def body(self, ctx: Context, chunk: bytes, /) -> Any:
        """Ask both."""
        return await self._ask(Stage.BODY, lambda each: each.body(ctx, chunk))

    async def eom(self, ctx: EndOfMessageContext, /) -> Any:
        """Ask both; the edits of both leave together."""
        return await self._ask(Stage.EOM, lambda each: each.eom(ctx))

    async def unknown(self, ctx: Context, unknown: Unknown, /) -> Any:
        """Ask both."""
        return await self._ask(Stage.UNKNOWN, lambda each: each.unknown(ctx, unknown))

    async def abort(self, ctx: Context, /) -> None:
        """Tell both."""
        for each in self.filters:
            await each.abort(ctx)

    async def close(self, ctx: Context, /) -> None:
        """Tell both."""
        for each in self.filters:
            await each.close(ctx)
