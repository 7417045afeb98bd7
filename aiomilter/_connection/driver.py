"""The loop that handles a connection's events and calls the callbacks of its messages.

How it works:

- :func:`aiomilter.wire.reader.read`, or its compiled twin, brings events in batches: all of a batch except the last are of
  no-reply stages.  In a batch, header fields that follow one another are a list, and MACRO packets are ``bytes``.
- A :data:`aiomilter._connection.dispatch.DispatchEntry` is how to handle an event: callback, packet of CONTINUE,
  the callback's name, the stage.  The entries of content are in ``Session.active``; those of the envelope and of the end of a
  message are looked up by a function, since the session may answer by itself.  Events without an entry, and content while
  ``active`` is empty, are for :mod:`aiomilter._connection.event_handling`.
- A callback that does not suspend is finished where it is called: no Task, no future, no turn of the event loop.  One that
  does yields its future through the generator, to its driver (``transport``, ``tasks``).
- A context is used again for the next callback unless the last one has kept it, which its reference count shows.  This
  saves 8 % of the instructions of a typical message, and 5 % of one that answers every packet.  A context that
  a callback has kept is dead from then on.

Source: ``benchmarks gates`` counts what a message costs.
"""

from collections.abc import Callable, Generator, Iterator
from sys import getrefcount
from types import coroutine
from typing import Any, Final, TypeVar, cast

from aiomilter._connection.dispatch import DispatchEntry
from aiomilter._connection.endings import finish
from aiomilter._connection.event_handling import HANDLES
from aiomilter._connection.reports import report_peer_error
from aiomilter._connection.session import Session
from aiomilter.context import Context, EndOfMessageContext
from aiomilter.exceptions import RemoteProtocolError
from aiomilter.observe import EventSeen, PeerErrorKind
from aiomilter.wire.connection import NO_EVENTS
from aiomilter.wire.events import BodyChunk, Data, EndOfHeaders, EndOfMessage, Header, Rcpt
from aiomilter.wire.readers import read
from aiomilter.wire.replies import CONTINUE

__all__ = ["MORE", "drive"]

MORE: Final = object()
"""Yielded by :func:`drive` when it has handled all received octets."""
_MOST_AT_ONCE: Final = 500
"""Batches after which other connections run; MTAs send no more together than a message has recipients."""
_AnyContext = TypeVar("_AnyContext", bound=Context)
_new = Context.__new__


def _alone() -> int:
    context = _new(Context)
    return getrefcount(context)


_ALONE: Final = _alone()
"""The ``getrefcount`` of a context that only one local name holds."""


@coroutine
def drive(session: Session) -> Generator[Any, bytes, None]:
    """Handle what the MTA sends, for as long as the connection lives; end when it is over.

    A generator that awaits the callbacks and yields :data:`MORE` when it needs more octets, which are then sent into it.  It
    lives as long as the connection, since a coroutine for each batch of packets, with its locals, would double the cost of a
    batch.

    One function: one more call for each event, of a function that does nothing, costs 3 % of a typical message.
    """
    wire, buffer, macros, out = session.wire, session.wire.buffer, session.wire.macros, session.out
    answering, entry_for = session.answering, session.answering.entry_for
    debug = session.debug
    context, editing = _new(Context), _new(EndOfMessageContext)
    context._transaction = editing._transaction = session.transaction
    event: Any
    entry: Any
    response: Any
    # An unfinished packet is kept.
    kept = False
    # Batches since other connections ran.
    batches = 0
    try:
        while not session.over:
            batch = read(wire) if buffer.pos < buffer.end or buffer.parts else None
            if not batch:
                # An idle connection keeps neither octets that it has read nor the filter of a client that has left.
                event = entry = response = callback = None
                batches = 0
                if batch is None and not kept and not wire.large:
                    buffer.data, wire.batch = b"", NO_EVENTS
                    buffer.data = data = yield MORE
                    buffer.pos, buffer.end, data = 0, len(data), b""
                else:
                    kept = _report_kept(session)
                    buffer.feed((yield MORE))
                continue
            batches += 1
            if batches > _MOST_AT_ONCE:
                batches = 0
                yield from cast(Any, session.give_way())
                if session.over:
                    break  # type: ignore[unreachable]
            wire.events = iter(batch)
            for event in wire.events:
                kind = type(event)
                if debug and kind is not list and kind is not bytes:
                    session.observer.tell(EventSeen(session.where(), event))
                entry = session.active.get(kind)
                if entry is None or (kind is BodyChunk and event.with_end):
                    if kind is bytes:
                        macros.keep(event)
                        continue
                    if kind is list:
                        yield from _header_fields(session, event)
                        if session.over:
                            break  # type: ignore[unreachable]
                        continue
                    if session.handler is None and not session.ensure_handler(kind):
                        break
                    find_entry = entry_for.get(kind)
                    if find_entry is None:
                        yield from cast(Any, HANDLES[kind](session, event))
                        if session.over:
                            break  # type: ignore[unreachable]
                        if wire.last_of_body:
                            batch.append(wire.end_of_message())  # the loop comes to it
                        continue
                    entry = find_entry(session, event)
                    if entry is None:
                        continue
                callback, continue_packet, session.callback, stage = entry
                response = None
                if callback is not None:
                    try:
                        if kind is BodyChunk:
                            response = yield from callback(session.handler, context, event.chunk)
                        elif kind is EndOfMessage:
                            response = yield from callback(session.handler, editing)
                        elif kind is Data or kind is EndOfHeaders:
                            response = yield from callback(session.handler, context)
                        else:
                            response = yield from callback(session.handler, context, event)
                    except BaseException as error:
                        response = answering.failed(error)
                    if getrefcount(context) > _ALONE:
                        context = _new_context(session, context)
                    if session.suspended:
                        response = session.resumed(response)
                if kind is EndOfMessage:
                    if getrefcount(editing) > _ALONE:
                        editing = _new_context(session, editing)
                    rest = answering.answer_end(response)
                    if rest is not None:
                        yield from cast(Any, rest)
                    continue
                if kind is Rcpt:
                    session.add_recipient(event, response)
                if response is None or response is CONTINUE:
                    if continue_packet:
                        out.append(continue_packet)
                else:
                    answering.answer(stage, response, continue_packet)
                if session.over:
                    break  # type: ignore[unreachable]
    except RemoteProtocolError as error:
        report_peer_error(session, PeerErrorKind.PROTOCOL, str(error))
    yield from cast(Any, finish(session))


@coroutine
def _header_fields(session: Session, fields: list[Header]) -> Generator[Any, Any, None]:
    """Handle header fields that arrived together, at a no-reply stage."""
    debug, answering = session.debug, session.answering
    context = _new(Context)
    context._transaction = session.transaction
    rest = session.wire.fields = iter(fields)
    entry = session.active.get(Header)
    response: Any
    if entry is not None:
        callback, continue_packet, session.callback, stage = entry
        handler = session.handler
        begin_fields = session.dispatch.begin_fields
        if begin_fields is not None and not debug:
            rest = session.wire.fields = _begun(session, context, fields, begin_fields, entry)
        for event in rest:
            if debug:
                session.observer.tell(EventSeen(session.where(), event))
            if callback is None:
                response = None
            else:
                try:
                    response = yield from callback(handler, context, event)
                except BaseException as error:
                    response = answering.failed(error)
                if getrefcount(context) > _ALONE:
                    context = _new_context(session, context)
                if session.suspended:
                    response = session.resumed(response)
                    if session.over:
                        session.answer_stage(stage, response, continue_packet)
                        return
            if response is not None and response is not CONTINUE:
                answering.answer(stage, response, continue_packet)
                break
    for event in rest:
        if session.over:
            return
        if debug:
            session.observer.tell(EventSeen(session.where(), event))
        yield from cast(Any, HANDLES[Header](session, event))


def _begun(
    session: Session, context: Context, fields: list[Header], begin_fields: Callable[..., int], entry: DispatchEntry
) -> Iterator[Header]:
    """Show header fields to a handler of several filters in one go; return those that it has still to be asked about."""
    _, continue_packet, _, stage = entry
    try:
        done = begin_fields(session.handler, context, fields)
    except BaseException as error:
        session.answering.answer(stage, session.answering.failed(error), continue_packet)
        return iter(())
    return iter(fields[done:])


def _report_kept(session: Session) -> bool:
    """Report the octets buffered until more arrive; return whether they are an unfinished packet."""
    buffer = session.wire.buffer
    unfinished = buffer.pos < buffer.end or bool(buffer.parts)
    if not unfinished:
        buffer.data, buffer.pos, buffer.end = b"", 0, 0
        session.wire.batch = NO_EVENTS
    session.channel.kept()
    return unfinished


def _new_context(session: Session, context: _AnyContext) -> _AnyContext:
    """Return another context for the next callbacks: the last one has kept its own, which is dead from now on."""
    context._transaction = None
    context = _new(type(context))
    context._transaction = session.transaction
    return context
