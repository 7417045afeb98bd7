"""The filter's view of one connection: octets in, events out, in an order that the rest may rely on.

Framing, macros and order are joined in one loop, :meth:`Connection._events`: half of all packets are macros, and a call
per packet and layer costs more than the goals of speed.md allow (``benchmarks/gates.py``).
"""

from collections.abc import Callable, Iterator
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
from aiomilter.wire.state import Outcome, State, transitions

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
_Special: TypeAlias = "Callable[[Connection, int, _Row, bytes, int], Event | OutOfOrder | Repeated | None]"
_Row: TypeAlias = "dict[int, tuple[_Decode | None, _Row, State, _Special]]"

_DATA: Final = Data()
_END_OF_HEADERS: Final = EndOfHeaders()
_END_OF_MESSAGE: Final = EndOfMessage()
_ABORT: Final = Abort()
_QUIT: Final = Quit()
_QUIT_NEW_CONNECTION: Final = QuitNewConnection()

_MACRO: Final = int(Command.MACRO)
# What no packet begins with.
_NO_FRAME: Final = b"\xff" * 5
_MAIL: Final = int(Command.MAIL)
_UNKNOWN: Final = int(Command.UNKNOWN)
# Latest step first: the order of look-up (P-081).
_LOOKUP: Final = tuple(map(int, map(Command, b"EBNLTRMHC")))
# UNKNOWN may come at any time and its macros are its own; Postfix sends them even where it was declined.
_MACRO_STEPS: Final = (_UNKNOWN, *_LOOKUP)
_MESSAGE_STEPS: Final = dict.fromkeys(b"EBNLTRM", b"")
_LEAVING: Final = frozenset({int(Command.QUIT), int(Command.QUIT_NC)})
# What a command clears, the steps after its own (P-083).
_AFTER_RCPT: Final = dict.fromkeys(b"EBNLT", b"")
_AFTER_MAIL: Final = dict.fromkeys(b"EBNLTR", b"")
_AFTER_HELO: Final = _MESSAGE_STEPS
_AFTER_CONNECT: Final = dict.fromkeys(b"EBNLTRMH", b"")
_ALL_STEPS: Final = dict.fromkeys(_MACRO_STEPS, b"")
# Looked up here once: an attribute of an Enum is a call in Python 3.11.
_STATE_MAIL: Final = State.MAIL
_STATE_RCPT: Final = State.RCPT
_STATE_EOM: Final = State.EOM
_STATE_IDLE: Final = State.IDLE
_STATE_DECIDED: Final = State.DECIDED


def _plain(leading_space: bool) -> dict[Command, _Decode]:
    return {
        Command.DATA: lambda payload: _DATA,
        Command.HEADER: Header.decode_leading if leading_space else Header.decode,
        Command.EOH: lambda payload: _END_OF_HEADERS,
        Command.BODY: BodyChunk.decode,
    }


@lru_cache(maxsize=256)
def _rows(declined: frozenset[Stage], leading_space: bool) -> dict[State, _Row]:
    """Return the table of :func:`transitions` with the code in it that each cell calls for: one look-up a packet.

    A cell with a decoder brings its event and leads to the next row; one without is for the method it names.
    """
    plain = _plain(leading_space)
    table = transitions(declined)
    rows: dict[State, _Row] = {state: {} for state in table}
    for state, cells in table.items():
        for command, (outcome, reached) in cells.items():
            decode = plain.get(command) if outcome is Outcome.PROCESS else None
            if outcome in (Outcome.PROCESS, Outcome.BEGIN):
                special = _PROCESS.get(command, Connection._begins)
            else:
                special = _OUTCOMES[outcome]
            rows[state][int(command)] = (decode, rows[reached], reached, special)
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
        "_in_unknown",
        "_keep",
        "_last_of_body",
        "_leading_space",
        "_macro_frame",
        "_macros",
        "_mail_declined",
        "_row",
        "_rows",
        "_state",
        "_used",
        "buffer",
        "events",
    )

    def __init__(self, max_frame_size: int = MAX_FRAME_SIZE) -> None:
        self.buffer = FrameBuffer(max_frame_size)
        self._rows: dict[State, _Row] | None = None
        self._row: _Row = {}
        self._state = State.IDLE
        # Payloads as received, without the command octet, until somebody reads one: decoding them all at once costs 39 %.
        self._macros: dict[int, bytes | dict[str, str]] = dict.fromkeys(_MACRO_STEPS, b"")
        # The last MACRO packet, whole, as long as what it brought is still there.
        self._macro_frame = _NO_FRAME
        # The end-of-message packet brought body, and its own event is still to come.
        self._last_of_body = False
        # The step whose macros belong to what comes next, although they came before the end of what was.
        self._keep: int | None = None
        # The set that the last CONNECT and MAIL had: seen again at the next, nothing new came with that.
        self._used: dict[int, bytes | dict[str, str]] = {}
        self._in_unknown = False
        self._connected = False
        self._leading_space = False
        self._mail_declined = False
        self.events = self._events()

    @property
    def negotiated(self) -> bool:
        """Whether :meth:`agreed` was called."""
        return self._rows is not None

    @property
    def connected(self) -> bool:
        """Whether the MTA has told of an SMTP client."""
        return self._connected

    @property
    def message_open(self) -> bool:
        """Whether a message has begun and is neither over nor decided."""
        return self._state is not _STATE_IDLE and self._state is not _STATE_DECIDED

    def receive_data(self, data: bytes) -> None:
        """Take octets from the MTA; end of stream needs no call (P-007)."""
        self.buffer.feed(data)

    def agreed(self, agreement: Agreement) -> None:
        """Take note of what was negotiated; needed before any event after :class:`Negotiate`."""
        self._leading_space = agreement.leading_space
        self._mail_declined = Stage.MAIL in agreement.declined
        self._rows = _rows(agreement.declined, agreement.leading_space)
        self._move(_STATE_IDLE)

    def next_event(self) -> Event | OutOfOrder | Repeated | None:
        """Return the next event; None until more octets come.

        Raises:
            RemoteProtocolError: The MTA broke the protocol; nothing after this may be processed.
        """
        return next(self.events)

    def _events(self) -> Iterator[Event | OutOfOrder | Repeated | None]:
        """Yield events for ever, None whenever more octets are needed.

        A generator, since its locals live from event to event: with a method, entering and leaving it cost a sixth of a
        message of 20 header fields (``benchmarks/gates.py``).
        """
        buffer = self.buffer
        macros = self._macros
        unpack = HEAD.unpack_from
        limit = buffer.max_size + 1
        while self._rows is None:
            yield self._offer()
        mail_declined = self._mail_declined
        same_code, same_row, decode = -1, self._row, None
        while True:
            data, pos, end = buffer.data, buffer.pos, buffer.end
            large = end - pos > limit
            while end - pos > 4:
                length, code = unpack(data, pos)
                stop = pos + 4 + length
                if stop > end or (large and length > limit):
                    break  # unfinished, or for refill() to refuse
                if code == _MACRO:
                    if length < 2:
                        raise RemoteProtocolError("MACRO packet: expected a command octet, found nothing")
                    step = data[pos + 5]
                    if step in macros:
                        macros[step] = data[pos + 6 : stop]
                        self._macro_frame = data[pos:stop]
                    pos = stop
                    if mail_declined and step == _MAIL and self._mail_macros():
                        buffer.pos = pos
                        yield _ABORT
                    continue
                # Most commands are like the one before, and lead to the row where they are found again.
                if code != same_code or self._row is not same_row:
                    if not length:
                        break
                    cell = self._row.get(code)
                    if cell is None:
                        buffer.pos = pos = stop
                        yield self._outside(code)
                        continue
                    decode, row, state, special = cell
                    if decode is None:
                        buffer.pos = stop
                        event = special(self, code, row, data[pos + 5 : stop], pos)
                        if event is not None:
                            yield event
                            if self._last_of_body:
                                yield self._end_of_message()
                        pos = buffer.pos
                        same_code = -1
                        continue
                    self._row = row
                    self._state = state
                    again = row.get(code)
                    same_code = code if again is not None and again[0] is decode and again[1] is row else -1
                    same_row = row
                elif not length:
                    break
                event = decode(data[pos + 5 : stop])  # type: ignore[misc]  # it is the one of same_code
                buffer.pos = pos = stop
                yield event
                # Postfix sends the same macros before each header field and piece of body.
                if data.startswith(self._macro_frame, pos):
                    pos += len(self._macro_frame)
            buffer.pos = pos
            if not buffer.refill():
                # An idle connection need not keep what it has read.
                data, event = b"", None
                yield None

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
        self._macro_frame = _NO_FRAME

    def decide(self) -> None:
        """Note that an answer of ours has ended the message; what still comes of it is :class:`Repeated`."""
        self._forget(_MESSAGE_STEPS)
        self._move(_STATE_DECIDED)

    def end_message(self) -> None:
        """Note that the message is over, its callbacks included; its macros are forgotten (P-084)."""
        self._forget(_MESSAGE_STEPS)
        self._move(_STATE_IDLE)

    def end_connection(self) -> None:
        """Note that an SMTP connection is over and another may follow on the same socket (P-069)."""
        self._forget(_ALL_STEPS)
        self._connected = False
        self._move(_STATE_IDLE)

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

    def _forget(self, steps: dict[int, bytes]) -> None:
        self._macro_frame = _NO_FRAME
        if self._keep is None:
            self._macros.update(steps)
            return
        keep, self._keep = self._keep, None
        kept = self._macros[keep]
        self._macros.update(steps)
        self._macros[keep] = kept

    def _mail_macros(self) -> bool:
        """Handle the macros of a MAIL that was negotiated away: the only sign that another message begins (P-050)."""
        # The same set once more is still a sign.
        self._macro_frame = _NO_FRAME
        if self._state is State.IDLE:
            return False
        self._keep = _MAIL
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

    # What a cell without decoder calls: the command's code, the row it leads to, its payload, and where its frame starts.

    def _interrupts(self, code: int, row: _Row, payload: bytes, start: int) -> Event:
        return self._first(_ABORT, code, start)

    def _aborts(self, code: int, row: _Row, payload: bytes, start: int) -> Event:
        return _ABORT

    def _repeats(self, code: int, row: _Row, payload: bytes, start: int) -> Repeated:
        return Repeated(Command(code))

    def _strays(self, code: int, row: _Row, payload: bytes, start: int) -> OutOfOrder:
        return OutOfOrder(Command(code))

    def _forgets(self, code: int, row: _Row, payload: bytes, start: int) -> None:
        self.end_message()

    def _ignores(self, code: int, row: _Row, payload: bytes, start: int) -> None:
        pass

    def _first(self, implied: Event, code: int, start: int) -> Event:
        """Return what a command implies; the command itself, and its macros, wait until that was handled."""
        self.buffer.pos = start
        if self._macros.get(code) is not self._used.get(code):
            self._keep = code
        return implied

    def _connects(self, code: int, row: _Row, payload: bytes, start: int) -> Event:
        if self._connected:
            return self._first(_QUIT_NEW_CONNECTION, code, start)
        event = Connect.decode(payload)
        self._used[code] = self._macros[code]
        self._connected = True
        self._forget(_AFTER_CONNECT)
        self._move(_STATE_IDLE)
        return event

    def _greets(self, code: int, row: _Row, payload: bytes, start: int) -> Event:
        event = Helo.decode(payload)
        self._forget(_AFTER_HELO)
        self._move(_STATE_IDLE)
        return event

    def _mails(self, code: int, row: _Row, payload: bytes, start: int) -> Event:
        event = Mail.decode(payload)
        self._used[code] = self._macros[code]
        self._forget(_AFTER_MAIL)
        self._row, self._state = row, _STATE_MAIL
        return event

    def _rcpts(self, code: int, row: _Row, payload: bytes, start: int) -> Event:
        event = Rcpt.decode(payload)
        self._forget(_AFTER_RCPT)
        self._row, self._state = row, _STATE_RCPT
        return event

    def _ends(self, code: int, row: _Row, payload: bytes, start: int) -> Event:
        if payload:
            self._last_of_body = True
            self._move(State.BODY)
            return BodyChunk(payload, with_end=True)
        self._row, self._state = row, _STATE_EOM
        return _END_OF_MESSAGE

    def _unknowns(self, code: int, row: _Row, payload: bytes, start: int) -> Event:
        self._in_unknown = True
        return Unknown.decode(payload)

    def _begins(self, code: int, row: _Row, payload: bytes, start: int) -> Event:
        """Begin a message whose MAIL was negotiated away."""
        event = _plain(self._leading_space)[Command(code)](payload)
        self._row = row
        self._state = next(state for state, found in (self._rows or {}).items() if found is row)
        return event

    def _end_of_message(self) -> Event | Repeated:
        self._last_of_body = False
        if self._state is State.DECIDED:
            return Repeated(Command.BODYEOB)
        self._move(State.EOM)
        return _END_OF_MESSAGE


_PROCESS: Final[dict[Command, _Special]] = {
    Command.CONNECT: Connection._connects,
    Command.HELO: Connection._greets,
    Command.MAIL: Connection._mails,
    Command.RCPT: Connection._rcpts,
    Command.BODYEOB: Connection._ends,
    Command.UNKNOWN: Connection._unknowns,
}
_OUTCOMES: Final[dict[Outcome, _Special]] = {
    Outcome.INTERRUPT: Connection._interrupts,
    Outcome.ABORT: Connection._aborts,
    Outcome.REPEAT: Connection._repeats,
    Outcome.STRAY: Connection._strays,
    Outcome.FORGET: Connection._forgets,
    Outcome.IGNORE: Connection._ignores,
}
