"""What the answers of a classic filter mean to the MTA, under libmilter's rules.

The order of the conversation is data (:data:`aiomilter.wire.state.LIBMILTER`), and the driver is that of native filters.
"""

from asyncio import CancelledError
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, ClassVar, cast

from aiomilter._connection.dispatch import DispatchEntry, connection_callback
from aiomilter._connection.native import MOST_UNWRITTEN, NativeAnswering
from aiomilter._connection.session import Session
from aiomilter.compat.context import RawReply
from aiomilter.compat.handler import ClassicHandler, CloseConnection, Settling
from aiomilter.compat.uncaught import end_child
from aiomilter.handler import CALLBACKS
from aiomilter.wire.connection import OutOfOrder, Repeated
from aiomilter.wire.constants import MIN_VERSION, V1_ACTIONS, V1_PROTOCOL, Stage
from aiomilter.wire.events import BodyChunk, EndOfMessage, Mail, Negotiate, Rcpt, Unknown
from aiomilter.wire.framing import packet
from aiomilter.wire.negotiation import Agreement, NegotiateAnswer
from aiomilter.wire.replies import CONTINUE, SKIP, Verdict
from aiomilter.wire.state import LIBMILTER, Rules, ends_message

__all__ = ["ClassicAnswering"]


def _end(session: Session, event: EndOfMessage) -> DispatchEntry | None:
    """Return the entry of the end of a message; None if it was answered."""
    if session.give_deferred(Stage.EOM):
        return None
    cast(ClassicAnswering, session.answering).before_end = len(session.out)
    return session.dispatch.envelope[EndOfMessage]


class ClassicAnswering:
    """The :class:`aiomilter._connection.session.Answering` of classic filters, under libmilter's rules.

    Args:
        session: Of the connection; its handlers are :class:`ClassicHandler`.
    """

    __slots__ = ("before_end", "forked", "offered", "reply", "session")
    rules: ClassVar[Rules] = LIBMILTER
    entry_for: ClassVar[Mapping[type, Callable[[Session, Any], DispatchEntry | None]]] = {
        Mail: Session.mail_entry,
        Rcpt: Session.rcpt_entry,
        EndOfMessage: _end,
    }

    def __init__(self, session: Session) -> None:
        self.session: Session = session
        self.offered: Negotiate | None = None
        # The reply that setreply() has set, until an answer uses it: even one to the next SMTP client of the connection.
        self.reply: RawReply | None = None
        # Whether this is the copy in a process that a callback has forked, which ends with the callback.
        self.forked: bool = False
        # Packets that waited to leave when the end of the message came.
        self.before_end: int = 0

    def symbol(self, name: str) -> str | None:
        """Return the value of a macro by its exact name."""
        return self.session.wire.macros.symbol(name)

    def send(self, octets: bytes) -> None:
        """Have a packet leave with the next that is written."""
        self.session.out.append(octets)

    def flush(self) -> None:
        """Write what waits to leave."""
        self.session.channel.flush()

    @property
    def settling(self) -> Settling:
        """The channel, which runs coroutines."""
        return cast(Settling, self.session.channel)

    @property
    def _handler(self) -> "ClassicHandler":
        return cast(ClassicHandler, self.session.handler)

    def filter_name(self) -> str:
        """Return the name that the program has registered."""
        return self._handler.name

    def begin(self) -> None:
        """Give the handler of a new SMTP connection its context."""
        agreement = self.session.agreement
        self._handler.begin(self, 0 if agreement is None else agreement.actions)

    async def negotiate(self, offer: Negotiate) -> tuple[Agreement, bytes] | None:
        """Return the agreement and its packet; None to close the connection."""
        if offer.version < MIN_VERSION:
            return None
        self.session.callback = "negotiate"
        self.offered = offer = Negotiate(offer.version, offer.actions or V1_ACTIONS, offer.protocol or V1_PROTOCOL)
        agreement = await self._handler.agree(offer)
        if agreement is None:
            return None
        self._handler.context.agreed(agreement.actions)
        return agreement, packet(NegotiateAnswer.CODE, agreement.answer.payload)

    async def call(self, stage: Stage, *args: object) -> Any:
        """Call the callback of a stage and return its answer."""
        session = self.session
        session.callback = CALLBACKS[stage]
        callback = connection_callback(session.handler, stage)
        try:
            response = None if callback is None else await callback(None, *args)
        except CancelledError as error:
            response = self.failed(error)
        return session.resumed(response) if session.suspended else response

    async def call_last(self, name: str) -> None:
        """Call ``abort`` or ``close``; no answer is waited for."""
        session = self.session
        if session.handler is None:
            return
        if self.forked:
            end_child()
        session.callback = name
        # A server that stops cancels a callback that waits; the other callbacks at the end of a connection follow.
        with suppress(CancelledError):
            await getattr(session.handler, name)(None)
        if self.forked:
            end_child()
        if session.suspended:
            session.resumed(None)

    def failed(self, error: BaseException) -> Any:
        """Answer for a cancellation that the server did not request; no other exception leaves a :class:`ClassicHandler`."""
        return self._native.failed(error)

    @property
    def _native(self) -> NativeAnswering:
        """The policy of native filters, which answers for cancelled and late callbacks here as well."""
        return NativeAnswering(self.session)

    def answer(self, stage: Stage, response: Any, continue_packet: bytes) -> None:
        """Send an answer that is not CONTINUE, or defer it where the stage has none."""
        session = self.session
        if self.forked:
            end_child()
        if isinstance(response, CloseConnection):
            session.over = True
        elif not isinstance(response, Verdict | RawReply):
            self._native.answer(stage, response, continue_packet)
        elif continue_packet:
            session.out.append(response.packet)
            if response is not SKIP and ends_message(stage, response, LIBMILTER):
                session.decide(response)
        elif response is not SKIP:
            self._native.defer(stage, response)

    def answer_end(self, response: Any) -> Coroutine[Any, Any, None] | None:
        """Answer the end of the message; return what remains to be awaited if a lot was written."""
        session = self.session
        if self.forked:
            end_child()
        if response is None:
            response = CONTINUE
        if isinstance(response, Verdict | RawReply):
            edits = session.out[self.before_end :]
            session.out.append(response.packet)
            session.end_message(response, edits)
            session.wire.end_message()
            if session.congested or (len(edits) > 1 and sum(map(len, session.out)) > MOST_UNWRITTEN):
                return session.give_way()
        elif isinstance(response, CloseConnection):
            session.over = True
        else:
            self._native.answer(Stage.EOM, response, CONTINUE.packet)
        return None

    async def last_of_body(self, event: BodyChunk) -> None:
        """Handle octets of the body in the packet that ends the message: their answer is the answer to the message."""
        response = await self.call(Stage.BODY, event.chunk)
        if response is not None and response is not SKIP:
            self.session.deferred = response
            self.session.skip_body()

    async def unknown(self, event: Unknown) -> None:
        """Handle an SMTP command that the MTA does not know."""
        session = self.session
        session.answer_stage(
            Stage.UNKNOWN, await self.call(Stage.UNKNOWN, event), session.continue_packets[Stage.UNKNOWN]
        )

    async def out_of_order(self, event: OutOfOrder) -> None:
        """Ignore a packet out of order: there is no answer to it."""

    async def repeated(self, event: Repeated) -> None:
        """Ignore it: under libmilter's rules there is no answer."""
