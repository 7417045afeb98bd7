"""A composition with shadows: all that happens is recorded for them; what the others answer is not touched."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, cast

from aiomilter.compose.asking import Asking
from aiomilter.compose.edits import CheckEdits
from aiomilter.compose.filters import ComposedFilter
from aiomilter.compose.handler import Composed
from aiomilter.compose.plan import Plan
from aiomilter.compose.shadow_asking import ShadowSource
from aiomilter.compose.shadow_filters import ShadowFilter, ShadowPool
from aiomilter.compose.shadow_messages import EVENT_SIZE, End, Event, Play, ShadowMessage, Tell
from aiomilter.context import Context, EndOfMessageContext
from aiomilter.message import Message
from aiomilter.observe import MessageEnded
from aiomilter.results import Results
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Connect, Header, Helo, Mail, Rcpt, Unknown
from aiomilter.wire.macros import MacroStore

__all__ = ["ShadowedComposed"]

_LOGGER: Final = logging.getLogger("aiomilter")
_ALWAYS: Final = frozenset({Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT, Stage.EOM})
_CONTENT: Final = frozenset({Stage.HEADER, Stage.BODY})


class _SourceMaker(Protocol):
    """The source of a filter's contexts, which can make one for a shadow."""

    def for_shadow(self) -> ShadowSource:
        """Return the same for a filter whose answers are not sent."""
        ...


class _Recorder:
    """Records what happens on one connection, for its shadows.

    Args:
        plan: The composition.
        pool: The shadows of all connections.
        results: What the filters have found whose answers are sent.
    """

    def __init__(self, plan: Plan, pool: ShadowPool, results: Results) -> None:
        self._results = results
        self._seats = plan.shadows
        self._pool = pool
        self._shadows: list[ShadowFilter] = []
        self._message: ShadowMessage | None = None
        self.open: list[tuple[Play, ShadowFilter]] = []
        """The shadows that have not done with the message at hand."""
        self._found: list[Any] = []
        self._number = 0
        # What one of them waits for has to be shown to the other, too.
        waits = any(seat.after for seat in plan.shadows)
        self._needs = [frozenset(Stage) if waits else _ALWAYS | seat.wants.stages for seat in plan.shadows]
        self._macros: MacroStore | None = None
        self._last = b""
        self._live: tuple[object, ...] | None = None

    def _made(self, ctx: Context) -> list[ShadowFilter]:
        """Return the shadows, made at the first event."""
        if not self._shadows:
            source = ctx._live().source
            for seat in self._seats:
                maker = cast(_SourceMaker, source.for_filter(seat.name))
                self._shadows.append(ShadowFilter(seat, maker.for_shadow(), self._found, self._pool))
        return self._shadows

    def _event(self, stage: Stage | None, args: tuple[Any, ...], size: int) -> Event:
        current = self._shadows[0].source.current
        if self._macros is None or stage not in _CONTENT or current.last is not self._last:
            self._macros, self._last = current.copy(), current.last
        if self._live is None or self._results.count != len(self._live):
            self._live = self._results.found()
        self._number += 1
        recipients = 0 if self._message is None else len(self._message.recipients)
        return Event(stage, args, self._macros, self._live, recipients, self._number, size)

    def of_connection(self, ctx: Context, stage: Stage, what: object) -> None:
        """Record an event of the connection."""
        shadows = self._made(ctx)
        event = self._event(stage, (what,), EVENT_SIZE)
        taken = [shadow for play, shadow in self.open if self._add(play, shadow, event)]
        for shadow in shadows:
            if shadow not in taken:
                shadow.remember(event)

    def begin(self, ctx: Context) -> None:
        """Record that a message has begun."""
        transaction = ctx._live()
        message = self._message = ShadowMessage(transaction, self._made(ctx)[0].source.current_details)
        self.open, self._live = [], None
        for shadow in self._made(ctx):
            member = shadow.seat.member
            taken = member.share.takes(shadow.seat.name, transaction.client, ())
            if taken is False:
                continue
            play = Play(message, shadow.seat)
            play.taken = taken
            message.plays.append(play)
            if self._pool.full:
                play.conclude("dropped", answer="too many messages at once")
                play.end()
                continue
            if taken:
                shadow.take(play)
            self.open.append((play, shadow))

    def add(self, stage: Stage, args: tuple[Any, ...], size: int = EVENT_SIZE) -> None:
        """Record an event of the message."""
        if not self.open:
            return
        event = self._event(stage, args, size)
        left = True
        for play, shadow in self.open:
            if stage in self._needs[shadow.seat.place]:
                left = self._add(play, shadow, event) and left
        if stage is Stage.EOM and self._message is not None:
            self._message.keep(args[0].models)
        if not left:
            self.open = [(play, shadow) for play, shadow in self.open if not play.done]

    def _add(self, play: Play, shadow: ShadowFilter, event: Event) -> bool:
        """Add an event, and return whether the shadow has use for more."""
        if play.done or play.cut or play.outcome is not None:
            return False
        if play.taken is None and not self._is_taken(play, shadow):
            return not play.done
        play.add(event)
        if play.taken:
            if play.size >= play.counted_at:
                shadow.count(play)
            if shadow.task is None:
                shadow.go_on()
        return True

    def _is_taken(self, play: Play, shadow: ShadowFilter) -> bool:
        """Look whether the message is in the share of a shadow, as soon as that is known; return whether it may be."""
        message, seat = play.message, shadow.seat
        play.taken = seat.member.share.takes(seat.name, message.client, message.recipients)
        if play.taken:
            shadow.take(play)
        elif play.taken is False:
            play.end()
        return play.taken is not False and not play.done

    def end(self) -> None:
        """Record that the message has ended."""
        opened, self.open = self.open, []
        event = None
        for play, shadow in opened:
            if play.done or play.over:
                continue
            if not play.taken:
                play.end()
                continue
            event = event or self._event(None, (), EVENT_SIZE)
            play.over = True
            play.add(event)
            shadow.go_on()
        self._message = None

    def abort(self) -> None:
        """Have all stop with the message."""
        opened, self.open = self.open, []
        for play, shadow in opened:
            if play.taken:
                shadow.cut(play, "abort")
            else:
                play.end()

    def close(self) -> None:
        """End, once all is done."""
        for shadow in self._shadows:
            shadow.close()

    def hold(self, event: MessageEnded, tell: Tell) -> MessageEnded | None:
        """Return the report of a message if no shadow has to do with it any more."""
        return event if self._message is None else self._message.hold(event, tell)


class _ShadowedAsking(Asking):
    """Keeps what the message was before and behind each edit."""

    def __init__(self, plan: Plan, filters: Sequence[ComposedFilter]) -> None:
        super().__init__(plan, filters)
        self.models: list[tuple[int, Message]] = []

    async def give(self, each: ComposedFilter, message: Message, actions: int, to_come: int) -> tuple[Message, bool]:
        """Give the message to an edit."""
        if not self.models:
            self.models.append((0, message))
        found, refused = await super().give(each, message, actions, to_come)
        self.models.append((self._edits.index(each) + 1, found))
        return found, refused


class ShadowedComposed(Composed):
    """The handler of a composition with shadows, for one connection.

    Args:
        plan: The composition.
        pool: The shadows of all connections.
    """

    def __init__(self, plan: Plan, pool: ShadowPool) -> None:
        super().__init__(plan)
        self._asking: _ShadowedAsking = _ShadowedAsking(plan, self._filters)
        self._recorder: _Recorder | None = _Recorder(plan, pool, self._asking.results)

    def hold_report(self, event: MessageEnded, tell: Tell) -> MessageEnded | None:
        """Return the report of a message, or None if it is told later: when all shadows are done."""
        if self._recorder is not None:
            try:
                return self._recorder.hold(event, tell)
            except Exception as error:  # noqa: BLE001 - it is logged
                self._give_up(error)
        return event

    def _give_up(self, error: Exception) -> None:
        """Go on without shadows: whatever is wrong with the record must not disturb the mail."""
        recorder, self._recorder = self._recorder, None
        _LOGGER.error("compose: no shadow is asked on this connection any more", exc_info=error)
        if recorder is not None:
            for leave in (recorder.abort, recorder.close):
                with suppress(Exception):  # what broke may break here once more
                    leave()

    def _of_connection(self, ctx: Context, stage: Stage, what: object) -> None:
        if self._recorder is not None:
            try:
                self._recorder.of_connection(ctx, stage, what)
            except Exception as error:  # noqa: BLE001 - it is logged
                self._give_up(error)

    def _of_message(self, stage: Stage, args: tuple[Any, ...], size: int = EVENT_SIZE) -> None:
        if self._recorder is not None and self._recorder.open:
            try:
                self._recorder.add(stage, args, size)
            except Exception as error:  # noqa: BLE001 - it is logged
                self._give_up(error)

    async def connect(self, ctx: Context, connect: Connect, /) -> Any:
        """Ask all."""
        try:
            return await super().connect(ctx, connect)
        finally:
            self._of_connection(ctx, Stage.CONNECT, connect)

    async def helo(self, ctx: Context, helo: Helo, /) -> Any:
        """Ask all."""
        try:
            return await super().helo(ctx, helo)
        finally:
            self._of_connection(ctx, Stage.HELO, helo)

    async def unknown(self, ctx: Context, unknown: Unknown, /) -> Any:
        """Ask all."""
        try:
            return await super().unknown(ctx, unknown)
        finally:
            self._of_connection(ctx, Stage.UNKNOWN, unknown)

    async def close(self, ctx: Context, /) -> None:
        """Have all clean up."""
        try:
            await super().close(ctx)
        finally:
            if self._recorder is not None:
                try:
                    self._recorder.close()
                except Exception as error:  # noqa: BLE001 - it is logged
                    self._give_up(error)

    def _begin_now(self, ctx: Context) -> None:
        super()._begin_now(ctx)
        if self._recorder is not None:
            try:
                self._recorder.begin(ctx)
            except Exception as error:  # noqa: BLE001 - it is logged
                self._give_up(error)

    def _ended(self) -> None:
        if self._recorder is not None:
            try:
                self._recorder.end()
            except Exception as error:  # noqa: BLE001 - it is logged
                self._give_up(error)
        super()._ended()

    async def envfrom(self, ctx: Context, mail: Mail, /) -> Any:
        """Ask all."""
        try:
            return await super().envfrom(ctx, mail)
        finally:
            self._of_message(Stage.MAIL, (mail,))

    async def envrcpt(self, ctx: Context, rcpt: Rcpt, /) -> Any:
        """Ask all; a recipient that one refuses is not shown to the next."""
        try:
            return await super().envrcpt(ctx, rcpt)
        finally:
            self._of_message(Stage.RCPT, (rcpt,))

    async def data(self, ctx: Context, /) -> Any:
        """Ask all."""
        try:
            return await super().data(ctx)
        finally:
            self._of_message(Stage.DATA, ())

    async def header(self, ctx: Context, header: Header, /) -> Any:
        """Keep the field, and ask all."""
        try:
            return await super().header(ctx, header)
        finally:
            self._of_message(Stage.HEADER, (header,), EVENT_SIZE + len(header.value))

    def _begin_fields(self, ctx: Context, fields: Sequence[Header], /) -> int:
        """Take none at once: what the filters have found by then is recorded with each."""
        return 0

    async def eoh(self, ctx: Context, /) -> Any:
        """Ask all."""
        try:
            return await super().eoh(ctx)
        finally:
            self._of_message(Stage.EOH, ())

    async def body(self, ctx: Context, chunk: bytes, /) -> Any:
        """Keep the piece, and ask all."""
        try:
            return await super().body(ctx, chunk)
        finally:
            self._of_message(Stage.BODY, (chunk,), EVENT_SIZE + len(chunk))

    async def eom(self, ctx: EndOfMessageContext, /) -> Any:
        """Ask the checks, then give the message to the edits; the changes of all leave together."""
        self._asking.models.clear()
        edits = ctx._edits()
        try:
            return await super().eom(ctx)
        finally:
            checks = [each.transaction.edits for each in self._filters if each.transaction is not None]
            made = [each for each in checks if isinstance(each, CheckEdits)]
            end = End(edits.actions, edits.leading_space, edits.limits, made, tuple(self._asking.models))
            self._of_message(Stage.EOM, (end,))
            self._asking.models.clear()

    async def abort(self, ctx: Context, /) -> None:
        """Have those clean up that have not answered."""
        if self._recorder is not None:
            try:
                self._recorder.abort()
            except Exception as error:  # noqa: BLE001 - it is logged
                self._give_up(error)
        await super().abort(ctx)
