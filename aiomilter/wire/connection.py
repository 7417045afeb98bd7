"""The filter's view of one connection: octets in, events out, in an order that the rest may rely on.

Framing, macros and order are joined in one loop, :meth:`Connection.next_event`: half of all packets are macros, and a call
per packet and layer costs more than the goals of speed.md allow (``benchmarks/gates.py``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from aiomilter.exceptions import RemoteProtocolError
from aiomilter.wire.constants import MAX_FRAME_SIZE, Command, Stage
from aiomilter.wire.events import (
    Abort,
    BodyChunk,
    Connect,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Event,
    Header,
    Helo,
    Mail,
    Negotiate,
    Quit,
    QuitNewConnection,
    Rcpt,
    Unknown,
    macro_values,
)
from aiomilter.wire.framing import HEAD, FrameBuffer, Lookahead
from aiomilter.wire.negotiation import Agreement, canonical_macro
from aiomilter.wire.state import Outcome, State, Transition, transitions

__all__ = ["Connection", "OutOfOrder", "Repeated"]


@dataclass(frozen=True, slots=True)
class OutOfOrder:
    """A command came where it means nothing: answer CONTINUE if it takes an answer, call nothing."""

    command: Command


@dataclass(frozen=True, slots=True)
class Repeated:
    """More of a message that was decided: the same answer again if it takes one, call nothing."""

    command: Command


_Decode: TypeAlias = Callable[[bytes], Event]
_Row: TypeAlias = "dict[int, tuple[_Decode | None, _Row, Transition]]"

_DATA: Final = Data()
_END_OF_HEADERS: Final = EndOfHeaders()
_END_OF_MESSAGE: Final = EndOfMessage()
_ABORT: Final = Abort()
_QUIT: Final = Quit()
_QUIT_NEW_CONNECTION: Final = QuitNewConnection()

_MACRO: Final = int(Command.MACRO)
_MAIL: Final = int(Command.MAIL)
_UNKNOWN: Final = int(Command.UNKNOWN)
# Latest step first: the order of look-up (P-081).
_LOOKUP: Final = tuple(map(int, map(Command, b"EBNLTRMHC")))
# UNKNOWN may come at any time and its macros are its own; Postfix sends them even where it was declined.
_MACRO_STEPS: Final = (_UNKNOWN, *_LOOKUP)
_MESSAGE_STEPS: Final = tuple(map(int, map(Command, b"EBNLTRM")))
_LEAVING: Final = frozenset({int(Command.QUIT), int(Command.QUIT_NC)})
# What a command clears, the steps after its own (P-083).
_AFTER_RCPT: Final = tuple(map(int, map(Command, b"EBNLT")))
_AFTER_MAIL: Final = (*_AFTER_RCPT, int(Command.RCPT))
_AFTER_HELO: Final = _MESSAGE_STEPS
_AFTER_CONNECT: Final = (*_MESSAGE_STEPS, int(Command.HELO))


def _plain(leading_space: bool) -> dict[Command, _Decode]:
    return {
        Command.DATA: lambda payload: _DATA,
        Command.HEADER: Header.decode_leading if leading_space else Header.decode,
        Command.EOH: lambda payload: _END_OF_HEADERS,
        Command.BODY: BodyChunk.decode,
    }


@lru_cache(maxsize=256)
def _rows(declined: frozenset[Stage], leading_space: bool) -> dict[State, _Row]:
    """Return the table of :func:`transitions` with the decoders in it, for one look-up a packet.

    A cell with a decoder brings its event and leads to the next row; one without is for :meth:`Connection._special`.
    """
    plain = _plain(leading_space)
    table = transitions(declined)
    rows: dict[State, _Row] = {state: {} for state in table}
    for state, cells in table.items():
        for command, transition in cells.items():
            decode = plain.get(command) if transition.outcome is Outcome.PROCESS else None
            rows[state][command] = (decode, rows[transition.state], transition)
    return rows


class Connection:
    """What the MTA tells on one connection.

    Feed it with :meth:`receive_data` and take events with :meth:`next_event` until that returns None.  What a command implies
    comes as an event of its own before it: :class:`Abort` before a MAIL or HELO inside a message,
    :class:`QuitNewConnection` before a second CONNECT.

    The caller says what became of each event: :meth:`agreed` after :class:`Negotiate`; :meth:`end_message` after
    :class:`Abort` and after the answer to :class:`EndOfMessage`; :meth:`decide` after any other answer that ends the message;
    :meth:`end_connection` after :class:`QuitNewConnection`.

    Args:
        max_frame_size: Most octets of payload in a packet.
    """

    __slots__ = (
        "_connected",
        "_declined",
        "_in_unknown",
        "_keep",
        "_last_of_body",
        "_leading_space",
        "_macros",
        "_row",
        "_rows",
        "_state",
        "_used",
        "buffer",
    )

    def __init__(self, max_frame_size: int = MAX_FRAME_SIZE) -> None:
        self.buffer = FrameBuffer(max_frame_size)
        self._rows: dict[State, _Row] | None = None
        self._row: _Row = {}
        self._state = State.IDLE
        self._declined: frozenset[Stage] = frozenset()
        # Payloads as received, without the command octet, until somebody reads one: decoding them all at once costs 39 %.
        self._macros: dict[int, bytes | dict[str, str]] = dict.fromkeys(_MACRO_STEPS, b"")
        # The end-of-message packet brought body, and its own event is still to come.
        self._last_of_body = False
        # Steps whose macros belong to what comes next, although they came before the end of what was.
        self._keep: frozenset[int] = frozenset()
        # The set that the last CONNECT and MAIL had: seen again at the next, nothing new came with that.
        self._used: dict[int, bytes | dict[str, str]] = {}
        self._in_unknown = False
        self._connected = False
        self._leading_space = False

    @property
    def negotiated(self) -> bool:
        """Whether :meth:`agreed` was called."""
        return self._rows is not None

    @property
    def message_open(self) -> bool:
        """Whether a message has begun and is neither over nor decided."""
        return self._state is not State.IDLE and self._state is not State.DECIDED

    def receive_data(self, data: bytes) -> None:
        """Take octets from the MTA; end of stream needs no call (P-007)."""
        self.buffer.feed(data)

    def agreed(self, agreement: Agreement) -> None:
        """Take note of what was negotiated; needed before any event after :class:`Negotiate`."""
        self._declined = agreement.declined
        self._leading_space = agreement.leading_space
        self._rows = _rows(agreement.declined, agreement.leading_space)
        self._move(State.IDLE)

    def next_event(self) -> Event | OutOfOrder | Repeated | None:
        """Return the next event; None until more octets come.

        Raises:
            RemoteProtocolError: The MTA broke the protocol; nothing after this may be processed.
        """
        if self._rows is None:
            return self._offer()
        if self._last_of_body:
            return self._end_of_message()
        buffer = self.buffer
        macros = self._macros
        while True:
            data, pos, end, limit = buffer.data, buffer.pos, buffer.end, buffer.max_size
            while end - pos > 4:
                length, code = HEAD.unpack_from(data, pos)
                stop = pos + 4 + length
                if stop > end or not 0 < length <= limit + 1:
                    break
                if code == _MACRO:
                    pos += 5
                    if pos == stop:
                        raise RemoteProtocolError("MACRO packet: expected a command octet, found nothing")
                    step = data[pos]
                    if step in macros:
                        macros[step] = data[pos + 1 : stop]
                    pos = stop
                    if step == _MAIL and Stage.MAIL in self._declined and self._mail_macros():
                        buffer.pos = pos
                        return _ABORT
                    continue
                buffer.pos = stop
                cell = self._row.get(code)
                if cell is None:
                    return self._outside(code)
                decode, row, transition = cell
                if decode is not None:
                    event = decode(data[pos + 5 : stop])
                    self._row = row
                    self._state = transition.state
                    return event
                special = self._special(Command(code), transition, data[pos + 5 : stop], pos)
                if special is not None:
                    return special
                pos = buffer.pos
            buffer.pos = pos
            if not buffer.refill():
                return None

    def macro(self, name: str) -> str | None:
        """Return the value of a macro, of the latest step that has it; None if none has.

        Source: protocol.md P-080 to P-085.
        """
        name = canonical_macro(name)
        macros = self._macros
        for step in _MACRO_STEPS if self._in_unknown else _LOOKUP:
            values = macros[step]
            if values:
                if isinstance(values, bytes):
                    pairs = reversed(macro_values(values).items())
                    read = {canonical_macro(key): value for key, value in pairs}
                    if self._used.get(step) is values:
                        self._used[step] = read
                    values = macros[step] = read
                if name in values:
                    return values[name]
        return None

    def forget_unknown(self) -> None:
        """Drop the macros of an UNKNOWN command, once its callback has returned."""
        self._in_unknown = False
        self._macros[_UNKNOWN] = b""

    def decide(self) -> None:
        """Note that an answer of ours has ended the message; what still comes of it is :class:`Repeated`."""
        self._forget(_MESSAGE_STEPS)
        self._move(State.DECIDED)

    def end_message(self) -> None:
        """Note that the message is over, its callbacks included; its macros are forgotten (P-084)."""
        self._forget(_MESSAGE_STEPS)
        self._move(State.IDLE)

    def end_connection(self) -> None:
        """Note that an SMTP connection is over and another may follow on the same socket (P-069)."""
        self._forget(_MACRO_STEPS)
        self._connected = False
        self._move(State.IDLE)

    def lookahead(self, abort: bool, answered: frozenset[int]) -> Lookahead:
        """Return a walker over what waits to be read, that looks for the end of the connection.

        Args:
            abort: Whether to look for the end of the message, too.
            answered: The commands that take an answer; behind the first of these the walk ends.
        """
        walker = Lookahead(_LEAVING | {int(Command.ABORT)} if abort else _LEAVING, answered)
        walker.feed(self.buffer.data, self.buffer.pos)
        for part in self.buffer.parts:
            walker.feed(part)
        return walker

    def _move(self, state: State) -> None:
        self._state = state
        if self._rows is not None:
            self._row = self._rows[state]

    def _forget(self, steps: tuple[int, ...]) -> None:
        for step in steps:
            if step not in self._keep:
                self._macros[step] = b""
        self._keep = frozenset()

    def _mail_macros(self) -> bool:
        """Handle the macros of a MAIL that was negotiated away: the only sign that another message begins (P-050)."""
        if self._state is State.IDLE:
            return False
        self._keep = frozenset({_MAIL})
        if self._state is State.DECIDED:
            self.end_message()
            return False
        return True

    def _offer(self) -> Negotiate | None:
        frame = self.buffer.next_frame()
        if frame is None:
            return None
        code, payload = frame
        if code != Command.OPTNEG:
            raise RemoteProtocolError(f"expected OPTNEG as the first packet, found code {code:#04x}")
        return Negotiate.decode(payload)

    def _outside(self, code: int) -> Event:
        """Handle what is in no row: the ends of a connection, and what does not belong here."""
        if code == Command.QUIT:
            return _QUIT
        if code == Command.QUIT_NC:
            return _QUIT_NEW_CONNECTION
        if code == Command.OPTNEG:
            raise RemoteProtocolError("expected one OPTNEG packet, found a second one")
        raise RemoteProtocolError(f"expected a command, found code {code:#04x}")

    def _special(
        self, command: Command, transition: Transition, payload: bytes, start: int
    ) -> Event | OutOfOrder | Repeated | None:
        """Handle a packet that does more than bring its event; None if it brings none."""
        match transition.outcome:
            case Outcome.PROCESS | Outcome.BEGIN:
                return self._process(command, transition.state, payload, start)
            case Outcome.INTERRUPT:
                return self._first(_ABORT, command, start)
            case Outcome.ABORT:
                return _ABORT
            case Outcome.REPEAT:
                return Repeated(command)
            case Outcome.STRAY:
                return OutOfOrder(command)
            case Outcome.FORGET:
                self.end_message()
        return None

    def _first(self, implied: Event, command: Command, start: int) -> Event:
        """Return what a command implies; the command itself, and its macros, wait until that was handled."""
        self.buffer.pos = start
        if self._macros.get(command) is not self._used.get(command):
            self._keep = frozenset({int(command)})
        return implied

    def _process(self, command: Command, state: State, payload: bytes, start: int) -> Event:
        event: Event
        match command:
            case Command.RCPT:
                event, clears = Rcpt.decode(payload), _AFTER_RCPT
            case Command.MAIL:
                event, clears = Mail.decode(payload), _AFTER_MAIL
                self._used[command] = self._macros[command]
            case Command.HELO:
                event, clears = Helo.decode(payload), _AFTER_HELO
            case Command.CONNECT:
                if self._connected:
                    return self._first(_QUIT_NEW_CONNECTION, command, start)
                event, clears = Connect.decode(payload), _AFTER_CONNECT
                self._used[command] = self._macros[command]
                self._connected = True
            case Command.BODYEOB:
                if payload:
                    self._last_of_body = True
                    self._move(State.BODY)
                    return BodyChunk(payload, with_end=True)
                event, clears = _END_OF_MESSAGE, ()
            case Command.UNKNOWN:
                event, clears = Unknown.decode(payload), ()
                self._in_unknown = True
            case _:  # the first of a message whose MAIL was negotiated away
                event, clears = _plain(self._leading_space)[command](payload), ()
        self._forget(clears)
        self._move(state)
        return event

    def _end_of_message(self) -> Event | Repeated:
        self._last_of_body = False
        if self._state is State.DECIDED:
            return Repeated(Command.BODYEOB)
        self._move(State.EOM)
        return _END_OF_MESSAGE
