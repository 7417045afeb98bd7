"""Several filters behind one connection: each event is shown to them, and what they answer becomes one answer."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiomilter.compose.asking import Asking
from aiomilter.compose.authors import authors_of
from aiomilter.compose.edits import CheckEdits, apply
from aiomilter.compose.filters import ComposedFilter
from aiomilter.compose.messages import MessageKeeper
from aiomilter.compose.plan import Plan
from aiomilter.compose.readiness import lacking
from aiomilter.context import Context, EndOfMessageContext
from aiomilter.message import Message
from aiomilter.message.outgoing import queue_edits
from aiomilter.observe import Edit
from aiomilter.results import Results
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Connect, Header, Helo, Mail, Negotiate, Rcpt, Unknown
from aiomilter.wire.negotiation import Wants
from aiomilter.wire.replies import ACCEPT, CONTINUE, SKIP

__all__ = ["Composed"]


class Composed:
    """The :class:`aiomilter.handler.Handler` of a composition, for one connection.

    Args:
        plan: The composition.
    """

    def __init__(self, plan: Plan) -> None:
        # Each filter has its own; what is left to the server is what concerns none of them.
        self.on_error: None = None
        self.on_timeout: None = None
        self._plan = plan
        self._filters: list[ComposedFilter] = [ComposedFilter(seat) for seat in plan.seats]
        self._edits: list[ComposedFilter] = [self._filters[seat.place] for seat in plan.edits]
        self._asking = Asking(plan, self._filters)

    @property
    def acting(self) -> str:
        """The name of the filter that is called, or that has given the answer; "" for none."""
        return self._asking.acting

    @property
    def results(self) -> Results:
        """What the filters have found."""
        return self._asking.results

    @property
    def failed(self) -> Sequence[str]:
        """The names of those that have failed with the message."""
        return self._asking.failed

    @property
    def durations(self) -> Mapping[str, float]:
        """Seconds that callbacks took which waited, or which saw the end of the message, by the name of the filter."""
        return {each.name: each.seconds for each in self._filters if each.seconds}

    def authors(self, edits: Sequence[Edit]) -> list[str]:
        """Return the names of the filters that have asked for edits of the message, one for each; "" if none did.

        Args:
            edits: As they were sent.
        """
        return authors_of(edits, self._filters, self._asking.given)

    async def ready(self) -> str | None:
        """Return what the filters lack that have a method of this name, in a line; None for nothing."""
        return await lacking((each.name, (each.seat.make, each.milter)) for each in self._filters)

    @property
    def wants(self) -> Wants:
        """What all filters want together."""
        return self._plan.wants

    # --------------------------------------------------------------------------------------------- of the connection

    async def negotiate(self, ctx: Context, offer: Negotiate, /) -> None:
        """Show the offer to all."""
        self._connected(ctx)
        for each in self._filters:
            self._asking.acting = each.name
            context = each.new_context(Context)
            try:
                await each.milter.negotiate(context, offer)
            finally:
                context._transaction = None
        self._asking.acting = ""

    def _connected(self, ctx: Context) -> None:
        transaction = ctx._live()
        for each in self._filters:
            each.connected(transaction.source, transaction)
            assert each.transaction is not None
            each.transaction.results, each.transaction.failed = self._asking.results, self._asking.failed

    async def connect(self, ctx: Context, connect: Connect, /) -> Any:
        """Ask all."""
        self._connected(ctx)
        return await self._asking.ask(Stage.CONNECT, connect)

    async def helo(self, ctx: Context, helo: Helo, /) -> Any:
        """Ask all."""
        self._connected(ctx)
        return await self._asking.ask(Stage.HELO, helo)

    async def unknown(self, ctx: Context, unknown: Unknown, /) -> Any:
        """Ask all."""
        self._connected(ctx)
        return await self._asking.ask(Stage.UNKNOWN, unknown)

    async def close(self, ctx: Context, /) -> None:
        """Have all clean up."""
        self._connected(ctx)
        try:
            await self._asking.ready()
            await self._asking.tell("close", self._filters)
        finally:
            self._asking.end()

    # ------------------------------------------------------------------------------------------------ of the message

    async def _begin(self, ctx: Context) -> None:
        """Begin a message, once all is done that the one before has left."""
        await self._asking.ready()
        self._begin_now(ctx)

    def _begin_now(self, ctx: Context) -> None:
        self._asking.in_message = True
        self._connected(ctx)
        ctx.on_end(self._ended)
        transaction = ctx._live()
        self._asking.failed[:] = self._asking.failed_before
        for each in self._filters:
            each.begin(transaction)
        if self._edits:
            self._asking.message = MessageKeeper(self._edits)

    def _ended(self) -> None:
        """Forget the message, as far as nothing is left to do for it."""
        self._asking.in_message = False
        self._asking.given.clear()
        message, self._asking.message = self._asking.message, None
        if message is not None:
            message.close()
        cleanup = self._asking.cleanup
        if cleanup is None or cleanup.done():
            self._asking.forget()

    async def envfrom(self, ctx: Context, mail: Mail, /) -> Any:
        """Ask all."""
        if not self._asking.in_message:
            await self._begin(ctx)
        return await self._asking.ask(Stage.MAIL, mail)

    async def envrcpt(self, ctx: Context, rcpt: Rcpt, /) -> Any:
        """Ask all; a recipient that one refuses is not shown to the next."""
        if not self._asking.in_message:
            await self._begin(ctx)
        # Macro {rcpt_mailer} is "error" for a recipient that the MTA refuses.
        self._asking.rejected = self._plan.wants.rejected_recipients and ctx.macro("rcpt_mailer") == "error"
        return await self._asking.ask(Stage.RCPT, rcpt)

    async def data(self, ctx: Context, /) -> Any:
        """Ask all."""
        if not self._asking.in_message:
            await self._begin(ctx)
        return await self._asking.ask(Stage.DATA)

    async def header(self, ctx: Context, header: Header, /) -> Any:
        """Keep the field, and ask all."""
        asking = self._asking
        if not asking.in_message:
            await self._begin(ctx)
        if asking.message is not None:
            asking.message.add_field(header)
        pending = asking.begin(Stage.HEADER, header) if self._plan.asked[Stage.HEADER] else None
        return None if pending is None else await pending

    def _begin_fields(self, ctx: Context, fields: Sequence[Header], /) -> int:
        """Keep fields that have come together, and ask all, as far as they say nothing; return how many are done with.

        For the next one callbacks may have begun; :meth:`header` ends what they do.
        """
        asking = self._asking
        if not asking.is_ready:
            return 0
        if not asking.in_message:
            self._begin_now(ctx)
        done = asking.begin_fields(fields) if self._plan.asked[Stage.HEADER] else len(fields)
        if asking.message is not None:
            asking.message.add_fields(fields if done == len(fields) else fields[:done])
        return done

    async def eoh(self, ctx: Context, /) -> Any:
        """Ask all."""
        if not self._asking.in_message:
            await self._begin(ctx)
        return await self._asking.ask(Stage.EOH)

    async def body(self, ctx: Context, chunk: bytes, /) -> Any:
        """Keep the piece, and ask all."""
        if not self._asking.in_message:
            await self._begin(ctx)
        if self._asking.message is not None:
            try:
                await self._asking.message.add_chunk(chunk)
            except OSError as error:
                await self._asking.ready()
                if (answer := self._not_kept(error)) is not None:
                    return answer
        if not self._plan.asked[Stage.BODY]:
            return None
        answer = await self._asking.ask(Stage.BODY, chunk)
        return SKIP if answer is None and self._all_skipped() else answer

    def _all_skipped(self) -> bool:
        if self._asking.message is not None and self._asking.message.keeping:
            return False
        asked = [self._filters[seat.place] for seat in self._plan.asked[Stage.BODY]]
        return all(each.skipped or not each.is_open for each in asked)

    def _not_kept(self, error: OSError) -> Any:
        """Have the edits fail whose message cannot be kept, and return the first answer of theirs that refuses it."""
        assert self._asking.message is not None
        for each in self._asking.message.keeping:
            self._asking.acting = each.name
            response = self._asking.answer_failure(each, f"{type(error).__name__} left the spool", error)
            if self._asking.applies(each, Stage.BODY, response, failed=True):
                return self._asking.decided(Stage.BODY, each)
            each.leaves()
        return None

    async def eom(self, ctx: EndOfMessageContext, /) -> Any:
        """Ask the checks, then give the message to the edits; the changes of all leave together."""
        if not self._asking.in_message:
            await self._begin(ctx)
        edits = ctx._edits()
        self._asking.began = asyncio.get_running_loop().time()
        for each in self._filters:
            assert each.transaction is not None
            each.transaction.edits = None if each.seat.is_edit else CheckEdits(edits)
        answer = await self._asking.ask(Stage.EOM)
        if answer not in (None, CONTINUE, ACCEPT):
            return answer
        of_filters = [each.transaction.edits for each in self._filters if each.transaction is not None]
        checks = [each for each in of_filters if isinstance(each, CheckEdits)]
        if self._asking.message is None or not any(each.is_open for each in self._edits):
            for each_edits in checks:
                each_edits.replay(edits, ctx.recipients)
            self._asking.leave_failed()
            return answer
        message = self._asking.message.message(ctx)
        apply(checks, message)
        return await self._edit(ctx, message)

    async def _edit(self, ctx: EndOfMessageContext, message: Message) -> Any:
        """Give the message to the edits, each of which sees what those before it have made."""
        actions = ctx._edits().actions
        for number, each in enumerate(self._edits):
            if each.is_open:
                to_come = sum(other.is_open for other in self._edits[number + 1 :])
                message, refused = await self._asking.give(each, message, actions, to_come)
                if refused:
                    return self._asking.decided(Stage.EOM, each)
        self._asking.acting = ""
        queue_edits(ctx, message)
        self._asking.leave_failed()
        return self._asking.passing(Stage.EOM)

    async def abort(self, ctx: Context, /) -> None:
        """Have those clean up that have not answered."""
        await self._asking.ready()
        await self._asking.tell("abort", self._asking.unanswered())
