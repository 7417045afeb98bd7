"""Cuts received octets into packets and returns them as a list of events: the reader of the protocol.

Each state of a conversation has a row (:func:`aiomilter.wire.state.transitions`), and in it a cell for each command that may
come: ``(decode, reached, state, special)``.  A cell with ``decode`` is a plain stage: its event is read, and the row
``reached`` holds from there on.  A cell without has a method of :class:`Connection` in ``special``, for a command that implies
another event, ends the life of macros, or means nothing here.

:func:`read` takes as many events at once as can be handled without looking at the tables in between: up to the first whose
answer the MTA waits for, since the answer decides the meaning of the next packet, and not beyond the first cell with a method.
So a batch is either one event of such a cell, or some of plain stages, all without an answer except the last.  MACRO packets
are among them if they change something; MTAs send the same again before each header field.

Where aiomilter was installed with a C compiler, :mod:`aiomilter.wire._reader` does the same instead
(:mod:`aiomilter.wire.readers`): this is the module to read, and what changes here has to change there.

Source: libmilter/engine.c for the order.  ``benchmarks gates`` counts its instructions.
"""

from typing import Any, Final, Protocol

from aiomilter.exceptions import RemoteProtocolError
from aiomilter.wire.constants import Command
from aiomilter.wire.events import Header
from aiomilter.wire.framing import HEAD, FrameBuffer, head_after
from aiomilter.wire.macros import PLACES, MacroStore

__all__ = ["LARGE", "MOST", "read"]

MOST: Final = 64
"""Events of a batch, so that little is read ahead."""
LARGE: Final = 1024
"""Octets of a packet; above, those that are not content make :attr:`Connection.large` true."""
_HEADER: Final = int(Command.HEADER)
_MACRO: Final = int(Command.MACRO)
_CONTENT: Final = frozenset((_HEADER, int(Command.BODY), int(Command.BODYEOB)))
_unpack: Final = HEAD.unpack_from
_new_tuple: Final = tuple.__new__


class Wire(Protocol):
    """A :class:`Connection` as it is read: octets, and the state of the conversation."""

    buffer: FrameBuffer
    row: Any
    """What each command means now."""
    state: Any
    macros: MacroStore
    macros_imply_up_to: int
    """MACRO packets with a length above this only bring macros."""
    answered: frozenset[int]
    """The commands that take an answer."""
    leading_space: bool
    large: bool
    max_headers: int
    max_headers_size: int
    headers_left: int
    headers_size_left: int
    batch: list[Any]
    read_from: int

    def take(self, code: int, payload: bytes, start: int) -> Any:
        """Return the event of a packet that is in no row; None if it has none."""

    def excess(self, row: Any, state: Any) -> Any:
        """Return the event of a header field above the limits."""


def _take(wire: Wire, code: int, row: Any, payload: bytes, start: int) -> Any:
    return wire.take(code, payload, start)


_OUTSIDE: Final[Any] = (None, None, None, _take)
"""The cell of a command that is in no row."""


def read(wire: Wire, most: int = MOST) -> list[Any]:
    """Return the received events, in their order; none until more octets come.

    Header fields that follow one another, without an answer, are one item, a list.  MACRO packets are items as ``bytes``, for
    :meth:`MacroStore.keep` once the events before them are handled.

    One function: with the part for header fields in a function of its own, a message whose packets are all answered costs 3.7 %
    more (741,500 instructions, not 715,000), a typical one 0.2 %.

    Args:
        wire: The received octets and the state of the conversation.
        most: How many events are enough, > 0; MACRO packets among them count, too.

    Raises:
        RemoteProtocolError: The next packet breaks the protocol; nothing after it may be read.
    """
    buffer, macros = wire.buffer, wire.macros
    batch: list[Any] = []
    limit = buffer.max_length
    while True:
        data, pos, end = buffer.data, buffer.pos, buffer.end
        row, macro_prefix, large = wire.row, macros.last, end - pos > limit
        start = taken = pos
        while end - pos > 4:
            length, code = _unpack(data, pos)
            stop = pos + 4 + length
            if stop > end or not length or (large and length > limit):
                break  # unfinished, or for refill() to refuse
            if code == _MACRO and wire.macros_imply_up_to < length < LARGE:
                frame = data[pos:stop]
                if frame != macro_prefix:
                    if batch:
                        most -= 1
                        if most < 1:
                            break
                        batch.append(frame)
                        taken = stop
                    elif place := PLACES[frame[5]]:
                        # As MacroStore.keep does.
                        macros.sets[place] = macros.last = frame
                    macro_prefix = frame
                pos = stop
                continue
            decode, reached, state, special = row.get(code, _OUTSIDE)
            if decode is None:
                if batch:
                    break
                if length > LARGE and code not in _CONTENT:
                    wire.large = True
                buffer.pos = stop
                event = special(wire, code, reached, data[pos + 5 : stop], pos)
                if event is not None:
                    return [event]
                pos, row, macro_prefix = buffer.pos, wire.row, macros.last
                continue
            try:
                if code != _HEADER:
                    event = decode(data[pos + 5 : stop])
                else:
                    if reached is not row:
                        wire.headers_left, wire.headers_size_left = wire.max_headers, wire.max_headers_size
                    if not wire.headers_left or length > wire.headers_size_left:
                        if batch:
                            break
                        buffer.pos = stop
                        return [wire.excess(reached, state)]
                    if code in wire.answered:
                        event = decode(data[pos + 5 : stop])
                        wire.headers_left -= 1
                        wire.headers_size_left -= length
                    else:
                        event, stop = _fields(wire, decode, pos, macro_prefix, most)
                        most -= len(event) - 1
            except RemoteProtocolError:
                if batch:
                    break  # it is raised once the events before it are handled
                raise
            pos = taken = stop
            if reached is not row:
                row = wire.row = reached
                wire.state = state
            batch.append(event)
            most -= 1
            if code in wire.answered or most < 1:
                break
        # The macros behind the last event wait for the packet that they belong to.
        buffer.pos = taken if batch else pos
        if batch or not buffer.refill():
            wire.batch, wire.read_from = batch, start
            return batch


def _fields(wire: Wire, decode: Any, pos: int, macro_prefix: bytes, most: int) -> tuple[list[Header], int]:
    """Read the header fields that follow one another; return them, and where the last of them ends.

    Postfix sends the same macros before each field, so they are read together with its head, and only compared.

    Args:
        wire: Where they come from.
        decode: Reads an unusual one.
        pos: Where the first begins; it is whole.
        macro_prefix: The MACRO packet that may have come right before it, and may come before each.
        most: How many are enough.
    """
    buffer, plain = wire.buffer, not wire.leading_space
    data = buffer.data
    lead = macro_prefix if pos >= len(macro_prefix) and data.startswith(macro_prefix, pos - len(macro_prefix)) else b""
    head, size, first = head_after(len(lead)), len(lead) + 4, pos - len(lead)
    pos = first
    left = wire.headers_size_left
    if buffer.end - pos > min(left, buffer.max_length):
        most = 1  # one at a time, and read() looks at its length
    bound = min(buffer.end, pos + size + left)
    last = bound - size - 1
    fields: list[Header] = []
    add = fields.append
    for _ in range(min(most, wire.headers_left)):
        if pos > last:
            break
        found, length, code = head(data, pos)
        start = pos + size
        stop = start + length
        if found != lead or code != _HEADER or stop > bound:
            break
        try:
            # As Header.decode does, for a usual field.
            name, value, _ = data[start + 1 : stop].decode().split("\0", 2)
        except ValueError:
            name = ""
        if name and plain:
            add(_new_tuple(Header, (name, value, " ")))
        elif name and value[:1] == " ":
            add(_new_tuple(Header, (name, value[1:], " ")))
        else:
            try:
                add(decode(data[start + 1 : stop]))
            except RemoteProtocolError:
                if fields:
                    break  # it is raised once the events before it are handled
                raise
        pos = stop
    wire.headers_left -= len(fields)
    wire.headers_size_left -= pos - first - len(fields) * size
    return fields, pos
