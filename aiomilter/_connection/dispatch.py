"""Dispatch tables: the callback of each event of a message, and the packet that CONTINUE sends; shared by connections."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import CO_COROUTINE, getattr_static
from types import FunctionType
from typing import Any, Final, TypeAlias, cast

from aiomilter._connection.answers import continue_packets_for
from aiomilter.handler import CALLBACKS, Handler
from aiomilter.options import Options
from aiomilter.wire.constants import Protocol as Flag
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import BodyChunk, Data, EndOfHeaders, EndOfMessage, Header, Mail, Negotiate, Rcpt
from aiomilter.wire.framing import packet
from aiomilter.wire.negotiation import Agreement, NegotiateAnswer, Wants, agree

__all__ = ["CONTENT_STAGES", "NOT_AGREED", "Dispatch", "DispatchEntry", "DispatchTables", "connection_callback"]

DispatchEntry: TypeAlias = tuple[Callable[..., Any] | None, bytes, str, Stage]
"""Callback, whose first argument is the handler; the packet of CONTINUE, empty at a no-reply stage; callback's name; stage."""

CONTENT_STAGES: Final[Mapping[type, Stage]] = {
    Header: Stage.HEADER,
    BodyChunk: Stage.BODY,
    Data: Stage.DATA,
    EndOfHeaders: Stage.EOH,
}
"""The events of content: for their callbacks nothing is to be done except sending the answer."""
_ENVELOPE_STAGES: Final = {Mail: Stage.MAIL, Rcpt: Stage.RCPT, EndOfMessage: Stage.EOM}
_REJECTED_RECIPIENTS: Final = int(Flag.REJECTED_RECIPIENTS)
_MOST_KNOWN: Final = 64
"""Tables kept for each factory.  MTAs of one kind make the same offer; more tables come from a peer that probes."""


@dataclass(frozen=True, slots=True, eq=False)
class Dispatch:
    """How the events of a message are handled on all connections of one class of handlers that have agreed on the same.

    Shared, since a bound method and a table for each connection would take 1.4 KiB a connection.

    Args:
        continue_packets: What CONTINUE is at each stage; empty at a no-reply stage.
        envelope: Of each event of the envelope, and of the end of the message.
        content: Of each event in between.
        edit_limits: The arguments of :class:`aiomilter.edits.Edits`.
        sees_rejected: Whether the MTA also sends the recipients that it refuses itself.
        begin_fields: A method of handlers, ``_begin_fields(ctx, fields)``, that takes header fields which have come together as
            far as nothing is said about them, and returns how many these are: ``header`` is called for those behind them.
            None if they have none.
    """

    continue_packets: Mapping[Stage, bytes]
    envelope: Mapping[type, DispatchEntry]
    content: Mapping[type, DispatchEntry]
    edit_limits: tuple[int, bool, int, int, int]
    sees_rejected: bool
    begin_fields: Callable[..., int] | None = None


NOT_AGREED: Final = Dispatch({}, {}, {}, (0, False, 1, 1, 1), sees_rejected=False)
"""Of a connection that has not negotiated yet."""


class DispatchTables:
    """The tables of one factory: connections with the same needs and the same agreement share one.

    Args:
        options: The limits of edits.
        generation: Of the factory: how many the server has had with it.
    """

    __slots__ = ("_agreed", "_limits", "_tables", "generation")

    def __init__(self, options: Options, generation: int = 1) -> None:
        self.generation: int = generation
        self._limits = options.max_edits, options.max_edits_size, options.max_new_body_size
        self._agreed: dict[object, tuple[Wants, Agreement, bytes]] = {}
        self._tables: dict[object, tuple[Wants, Dispatch]] = {}

    def agree(self, wants: Wants, offer: Negotiate) -> tuple[Agreement, bytes]:
        """Return the agreement and its packet.

        Raises:
            NegotiationError: The MTA does not offer what the filter requires.
            RemoteProtocolError: It speaks a version that is too old.
        """
        found = self._agreed.get(offer)
        if found is None or (found[0] is not wants and found[0] != wants):
            agreement = agree(offer, wants)
            octets = packet(NegotiateAnswer.CODE, agreement.answer.payload)
            found = wants, agreement, octets
            _keep(self._agreed, offer, found)
        return found[1], found[2]

    def table(self, handler: Handler, agreement: Agreement) -> Dispatch:
        """Return the table of a handler."""
        kind: type | None = type(handler)
        table = self._table(kind, handler.wants, agreement)
        if _has_own(handler, table):
            table = self._table(None, handler.wants, agreement)
        return table

    def _table(self, kind: type | None, wants: Wants, agreement: Agreement) -> Dispatch:
        key = kind, agreement.silent, agreement.answer.actions, agreement.answer.protocol
        found = self._tables.get(key)
        if found is None or (found[0] is not wants and found[0] != wants):
            found = wants, self._build(kind, wants, agreement)
            _keep(self._tables, key, found)
        return found[1]

    def _build(self, kind: type | None, wants: Wants, agreement: Agreement) -> Dispatch:
        packets = continue_packets_for(agreement.silent)

        def entry(stage: Stage) -> DispatchEntry:
            callback = _method(kind, CALLBACKS[stage]) if stage in wants.stages else None
            return callback, packets[stage], CALLBACKS[stage], stage

        return Dispatch(
            continue_packets=packets,
            envelope={event: entry(stage) for event, stage in _ENVELOPE_STAGES.items()},
            content={event: entry(stage) for event, stage in CONTENT_STAGES.items()},
            edit_limits=(agreement.actions, agreement.leading_space, *self._limits),
            sees_rejected=bool(agreement.answer.protocol & _REJECTED_RECIPIENTS),
            begin_fields=getattr(kind, "_begin_fields", None),
        )


def _keep(kept: dict[object, Any], key: object, value: object) -> None:
    if key not in kept and len(kept) >= _MOST_KNOWN:
        del kept[next(iter(kept))]
    kept[key] = value


def _method(kind: type | None, name: str) -> Callable[..., Any]:
    """Return a function that calls a callback, with the handler as first argument: the method itself if it is ``async def``.

    Args:
        kind: The class of the handlers; None if their callbacks have to be looked up for each call.
        name: The callback's.
    """
    found = None if kind is None else getattr_static(kind, name, None)
    if isinstance(found, FunctionType) and found.__code__.co_flags & CO_COROUTINE:
        return cast(Callable[..., Any], found)

    async def call(handler: object, *args: object) -> Any:
        return await getattr(handler, name)(*args)

    return call


def connection_callback(handler: Handler | None, stage: Stage) -> Callable[..., Any] | None:
    """Return a callback that is called once a connection, so not worth a table; None if the handler does not want it."""
    if handler is None or stage not in handler.wants.stages:
        return None
    callback = cast(Callable[..., Any], getattr(handler, CALLBACKS[stage]))
    if getattr(getattr(callback, "__code__", None), "co_flags", 0) & CO_COROUTINE:
        return callback

    async def call(*args: object) -> Any:
        return await callback(*args)

    return call


def _has_own(handler: Handler, table: Dispatch) -> bool:
    """Return whether callbacks were set on the handler itself, in place of those of its class."""
    for callback, _, name, _ in (*table.envelope.values(), *table.content.values()):
        if callback is not None and getattr(getattr(handler, name), "__func__", None) is not callback:
            return True
    return False
