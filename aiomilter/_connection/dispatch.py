"""Which callback each event of a message goes to, and what CONTINUE is there: one table for all connections that agree."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import CO_COROUTINE, getattr_static
from types import FunctionType
from typing import Any, Final, TypeAlias, cast

from aiomilter._connection.answers import answers_of
from aiomilter.handler import CALLBACKS, Handler
from aiomilter.options import Options
from aiomilter.wire.constants import Protocol as Flag
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import BodyChunk, Data, EndOfHeaders, EndOfMessage, Header, Mail, Negotiate, Rcpt
from aiomilter.wire.framing import packet
from aiomilter.wire.negotiation import Agreement, NegotiateAnswer, Wants, agree

__all__ = ["CONTENT_STAGES", "NOT_AGREED", "Dispatch", "DispatchEntry", "DispatchTables", "connection_callback"]

DispatchEntry: TypeAlias = tuple[Callable[..., Any] | None, bytes, str, Stage]
"""Callback, to be given the handler first; what CONTINUE is; the callback's name; the stage."""

CONTENT_STAGES: Final[Mapping[type, Stage]] = {
    Header: Stage.HEADER,
    BodyChunk: Stage.BODY,
    Data: Stage.DATA,
    EndOfHeaders: Stage.EOH,
}
"""The events of a message whose callbacks need nothing but their answer sent."""
_ENVELOPE_STAGES: Final = {Mail: Stage.MAIL, Rcpt: Stage.RCPT, EndOfMessage: Stage.EOM}
_REJECTED_RECIPIENTS: Final = int(Flag.REJECTED_RECIPIENTS)
_MOST_KNOWN: Final = 64
"""Tables kept for each factory.  MTAs of one kind make the same offer; more tables come from a peer that probes."""


@dataclass(frozen=True, slots=True, eq=False)
class Dispatch:
    """How the events of a message are handled on all connections of one class of handlers that have agreed on the same.

    One for all, since a method looked up for each connection would be an object for each, and so would the tables: 1.4 KiB a
    connection.

    Args:
        answers: What CONTINUE is at each stage; nothing where it has no answer.
        envelope: Of each event of the envelope, and of the end of the message.
        content: Of each event in between.
        edit_limits: The arguments of :class:`aiomilter.edits.Edits`.
        sees_rejected: Whether recipients come that the MTA itself refuses.
    """

    answers: Mapping[Stage, bytes]
    envelope: Mapping[type, DispatchEntry]
    content: Mapping[type, DispatchEntry]
    edit_limits: tuple[int, bool, int, int, int]
    sees_rejected: bool


NOT_AGREED: Final = Dispatch({}, {}, {}, (0, False, 1, 1, 1), sees_rejected=False)
"""Of a connection that has not negotiated yet."""


class DispatchTables:
    """The tables of one factory: what was found out for one connection holds for the next that wants and agrees on the same.

    Args:
        options: The limits of edits.
    """

    __slots__ = ("_agreed", "_limits", "_tables")

    def __init__(self, options: Options) -> None:
        self._limits = options.max_edits, options.max_edits_size, options.max_new_body_size
        self._agreed: dict[object, tuple[Wants, Agreement, bytes]] = {}
        self._tables: dict[object, tuple[Wants, Dispatch]] = {}

    def agree(self, wants: Wants, offer: Negotiate) -> tuple[Agreement, bytes]:
        """Return what is agreed on, and the packet that says so.

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
        """Return how the events of a message go to a handler."""
        kind: type | None = type(handler)
        table = self._table(kind, handler.wants, agreement)
        if _has_own(handler, table):
            table = self._table(None, handler.wants, agreement)
        return table

    def _table(self, kind: type | None, wants: Wants, agreement: Agreement) -> Dispatch:
        key = kind, agreement.silent, agreement.answer.actions, agreement.answer.protocol
        found = self._tables.get(key)
        if found is None or (found[0] is not wants and found[0] != wants):
            found = wants, self._made(kind, wants, agreement)
            _keep(self._tables, key, found)
        return found[1]

    def _made(self, kind: type | None, wants: Wants, agreement: Agreement) -> Dispatch:
        answers = answers_of(agreement.silent)

        def entry(stage: Stage) -> DispatchEntry:
            callback = _method(kind, CALLBACKS[stage]) if stage in wants.stages else None
            return callback, answers[stage], CALLBACKS[stage], stage

        return Dispatch(
            answers=answers,
            envelope={event: entry(stage) for event, stage in _ENVELOPE_STAGES.items()},
            content={event: entry(stage) for event, stage in CONTENT_STAGES.items()},
            edit_limits=(agreement.actions, agreement.leading_space, *self._limits),
            sees_rejected=bool(agreement.answer.protocol & _REJECTED_RECIPIENTS),
        )


def _keep(kept: dict[object, Any], key: object, value: object) -> None:
    if key not in kept and len(kept) >= _MOST_KNOWN:
        del kept[next(iter(kept))]
    kept[key] = value


def _method(kind: type | None, name: str) -> Callable[..., Any]:
    """Return what makes a coroutine of a callback, given the handler first: the method of its class if it is a plain one.

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
    """Return a callback that is called once a connection, which no table is worth; None if the handler does not want it."""
    if handler is None or stage not in handler.wants.stages:
        return None
    callback = cast(Callable[..., Any], getattr(handler, CALLBACKS[stage]))
    if getattr(getattr(callback, "__code__", None), "co_flags", 0) & CO_COROUTINE:
        return callback

    async def call(*args: object) -> Any:
        return await callback(*args)

    return call


def _has_own(handler: Handler, table: Dispatch) -> bool:
    """Return whether a handler has callbacks of its own in the place of its class's."""
    for callback, _, name, _ in (*table.envelope.values(), *table.content.values()):
        if callback is not None and getattr(getattr(handler, name), "__func__", None) is not callback:
            return True
    return False
