"""The filter's view of one connection: octets in, events out, in an order that the rest may rely on.

The meaning of every packet is here; :mod:`aiomilter.wire.reader` cuts received octets into packets and looks up their meaning.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from operator import length_hint
from typing import Any, Final, TypeAlias

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
)
from aiomilter.wire.framing import HEAD, FrameBuffer, Lookahead
from aiomilter.wire.macros import AFTER_HELO, AFTER_RCPT, PLACES, MacroStore
from aiomilter.wire.negotiation import Agreement
from aiomilter.wire.readers import read
from aiomilter.wire.state import NATIVE, Effect, Rules, State, transitions

__all__ = ["NO_EVENTS", "Connection", "Item", "OutOfOrder", "Repeated", "Row", "TooMany"]


@dataclass(frozen=True, slots=True)
class OutOfOrder:
    """A command came where it means nothing: call nothing, but answer it if it takes an answer."""

    command: Command


@dataclass(frozen=True, slots=True)
class Repeated:
    """More of a message that was decided: the same answer again if it takes one, call nothing."""

    command: Command


@dataclass(frozen=True, slots=True)
class TooMany:
    """One header field more than the limits allow: call nothing, refuse it."""

    command: Command


Item: TypeAlias = Event | OutOfOrder | Repeated | TooMany
"""What :meth:`Connection.next_event` brings."""
_Decode: TypeAlias = Callable[[bytes], Event]
_Special: TypeAlias = "Callable[[Connection, int, Row, bytes, int], Event | OutOfOrder | Repeated | None]"
Row: TypeAlias = "dict[int, tuple[_Decode | None, Row, State, _Special]]"

_TOO_MANY_HEADERS: Final = TooMany(Command.HEADER)
_NO_LIMIT: Final = 1 << 40
NO_EVENTS: Final[list[Any]] = []
"""A batch that was handled: an idle connection holds none of its own."""
_NOTHING_LEFT: Final[Iterator[Any]] = iter(())
_DATA: Final = Data()
_END_OF_HEADERS: Final = EndOfHeaders()
_END_OF_MESSAGE: Final = EndOfMessage()
_ABORT: Final = Abort()
_QUIT: Final = Quit()
_QUIT_NEW_CONNECTION: Final = QuitNewConnection()

_MACRO: Final = int(Command.MACRO)
_MAIL: Final = int(Command.MAIL)
_BEGINNINGS: Final = frozenset({int(Command.CONNECT), int(Command.HELO), _MAIL})
_LEAVING: Final = frozenset({int(Command.QUIT), int(Command.QUIT_NC)})
# Looked up here once: an attribute of an Enum is a call in Python 3.11.
_STATE_MAIL: Final = State.MAIL
_STATE_RCPT: Final = State.RCPT
_STATE_EOM: Final = State.EOM
_STATE_IDLE: Final = State.IDLE
_STATE_DECIDED: Final = State.DECIDED
_NO_MESSAGE: Final = frozenset({State.IDLE, State.DECIDED, State.UNKNOWN})


def _decoders(leading_space: bool) -> dict[Command, _Decode]:
    return {
        Command.DATA: lambda payload: _DATA,
        Command.HEADER: Header.decode_leading if leading_space else Header.decode,
        Command.EOH: lambda payload: _END_OF_HEADERS,
        Command.BODY: BodyChunk.decode,
    }


# What a peer offers is its choice: 64 of these tables take 1.6 MiB, with those of transitions(); MTAs need a few.
@lru_cache(maxsize=64)
def _rows(declined: frozenset[Stage], leading_space: bool, rules: Rules) -> dict[State, Row]:
    """Return the table of :func:`transitions` with the code in it that each cell calls for: one look-up a packet.

    A cell with a decoder brings its event and leads to the next row; one without is for the method it names.
    """
    decoders = _decoders(leading_space)
    table = transitions(declined, rules)
    rows: dict[State, Row] = {state: {} for state in table}
    for state, cells in table.items():
        for command, (effect, reached) in cells.items():
            decode = decoders.get(command) if effect is Effect.PROCESS else None
            if effect in (Effect.PROCESS, Effect.BEGIN):
                special = _PROCESS.get(command, Connection._begins)
            else:
                special = _EFFECTS[effect]
            rows[state][int(command)] = (decode, rows[reached], reached, special)
    return rows


@lru_cache(maxsize=64)
def _answered(silent: frozenset[Stage]) -> frozenset[int]:
    """Return the commands that take an answer."""
    return frozenset(int(stage.command) for stage in Stage if stage not in silent)


def _frames(item: object) -> int:
    """Return how many packets an item of a batch is, MACRO packets aside."""
    return len(item) if isinstance(item, list) else 0 if isinstance(item, bytes) else 1


class Connection:
    """The packets of an MTA on one connection, as events.

    Feed it with :meth:`receive_data`; take events with :func:`aiomilter.wire.reader.read`, many at once, or with
    :meth:`next_event`, one by one, until there are none.  What a command implies
    comes as an event of its own before it: :class:`Abort` before a MAIL or HELO inside a message,
    :class:`QuitNewConnection` before a second CONNECT.

    The caller reports the end of each event: :meth:`agreed` after :class:`Negotiate`; :meth:`end_message` after
    :class:`Abort` and after the answer to :class:`EndOfMessage`; :meth:`decide` after any other answer that ends the message;
    :meth:`end_connection` after :class:`QuitNewConnection`.

    Args:
        max_frame_size: Most octets of payload in a packet.
        rules: Where it differs from other filters what a command means.
        max_headers: Header fields of a message.
        max_headers_size: Octets in all their packets.
    """

    __slots__ = (
        "_connected",
        "_rows",
        "_rules",
        "answered",
        "batch",
        "broken",
        "buffer",
        "events",
        "fields",
        "headers_left",
        "headers_size_left",
        "large",
        "last_of_body",
        "leading_space",
        "macros",
        "macros_imply_up_to",
        "max_headers",
        "max_headers_size",
        "read_from",
        "row",
        "state",
    )

    def __init__(
        self,
        max_frame_size: int = MAX_FRAME_SIZE,
        rules: Rules = NATIVE,
        max_headers: int = _NO_LIMIT,
        max_headers_size: int = _NO_LIMIT,
    ) -> None:
        self.buffer: FrameBuffer = FrameBuffer(max_frame_size)
        self.max_headers: int = max_headers
        self.max_headers_size: int = max_headers_size
        # What the open message may still have of both.
        self.headers_left: int = max_headers
        self.headers_size_left: int = max_headers_size
        # The commands that take an answer.
        self.answered: frozenset[int] = frozenset()
        # The last batch of :func:`read`, the place in the buffer where it begins, and the part that is not handled yet.
        self.batch: list[Any] = NO_EVENTS
        self.read_from: int = 0
        self.events: Iterator[Any] = _NOTHING_LEFT
        self.fields: Iterator[Header] = _NOTHING_LEFT
        # A large packet that is not content has come, so the memory of macros and envelope has to be counted.
        self.large: bool = False
        # Up to this length a MACRO packet may imply an event, or bring nothing; a longer one only brings macros.
        self.macros_imply_up_to: int = _NO_LIMIT
        self._rules = rules
        self._rows: dict[State, Row] | None = None
        # What each command means now.
        self.row: Row = {}
        self.state: State = State.IDLE
        self.macros: MacroStore = MacroStore(exact=rules.keeps_macros)
        # The end-of-message packet brought body, and its own event is still to come.
        self.last_of_body: bool = False
        self._connected = False
        # The last packet out of order has broken up a message: the rest of that message must not pass unseen.
        self.broken: bool = False
        # Header values come with the space that follows the colon.
        self.leading_space: bool = False

    @property
    def negotiated(self) -> bool:
        """Whether :meth:`agreed` was called."""
        return self._rows is not None

    @property
    def connected(self) -> bool:
        """Whether the MTA has named an SMTP client."""
        return self._connected

    @property
    def message_open(self) -> bool:
        """Whether a message has begun and is neither over nor decided."""
        return self.state not in _NO_MESSAGE

    @property
    def place(self) -> int:
        """Where in the buffer's data the unhandled octets begin: behind the event at hand."""
        ahead, fields = length_hint(self.events), length_hint(self.fields)
        if not ahead and not fields:
            return self.buffer.pos
        # Few wait for long in the middle of a batch, so that only they pay for it.
        handled = sum(_frames(item) for item in self.batch[: len(self.batch) - ahead]) - fields
        data, pos = self.buffer.data, self.read_from
        while handled:
            length, code = HEAD.unpack_from(data, pos)
            pos += 4 + length
            handled -= code != _MACRO
        return pos

    @property
    def waiting(self) -> int:
        """Unhandled octets, read ahead or not."""
        buffer = self.buffer
        if not length_hint(self.events) and not length_hint(self.fields):
            return len(buffer) if buffer.parts else buffer.end - buffer.pos
        return len(buffer) + buffer.pos - self.place

    def receive_data(self, data: bytes) -> None:
        """Take octets from the MTA; end of stream needs no call (P-007)."""
        self.buffer.feed(data)

    def agreed(self, agreement: Agreement) -> None:
        """Record the agreement; needed before any event after :class:`Negotiate`."""
        rules = self._rules
        self.leading_space = agreement.leading_space and rules.splits_space
        if Stage.MAIL not in agreement.declined or not rules.tolerant:
            # A packet without a stage is wrong; under libmilter's rules one without a macro changes nothing.
            self.macros_imply_up_to = 2 if rules.keeps_macros else 1
        self.answered = _answered(agreement.silent)
        self._rows = _rows(agreement.declined, self.leading_space, rules)
        self._move(_STATE_IDLE)

    def next_event(self) -> Item | None:
        """Return the next event; None until more octets come.

        Raises:
            RemoteProtocolError: The MTA broke the protocol; nothing after this may be processed.
        """
        if self.last_of_body:
            return self.end_of_message()
        found = read(self, 1)
        if not found:
            return None
        event: Item = found[0]
        return event[0] if isinstance(event, list) else event

    def take(self, code: int, payload: bytes, start: int) -> Event | OutOfOrder | Repeated | None:
        """Return the event of a frame; None if it has none for the caller.

        Args:
            code: Its code.
            payload: Its payload.
            start: Where in ``buffer.data`` it begins.  ``buffer.pos`` is behind it, and again at its start if something has
                to happen before it.
        """
        if self._rows is None:
            if code != Command.OPTNEG:
                raise RemoteProtocolError(f"expected OPTNEG as the first packet, found code {code:#04x}")
            return Negotiate.decode(payload)
        if code == _MACRO:
            return self._take_macros(payload, start)
        cell = self.row.get(code)
        if cell is None:
            return self._outside(code)
        decode, row, state, special = cell
        if decode is None:
            return special(self, code, row, payload, start)
        self.row, self.state = row, state
        return decode(payload)

    def decide(self) -> None:
        """Record that an answer of ours has ended the message; later packets of it are :class:`Repeated`."""
        if self._rules.tolerant:
            self.macros.forget(AFTER_HELO)
            self._move(_STATE_DECIDED)
        else:
            self._move(_STATE_IDLE)

    def end_message(self) -> None:
        """Record that the message is over, its callbacks included; its macros are forgotten (P-084)."""
        if not self._rules.keeps_macros:
            self.macros.forget(AFTER_HELO)
        self._move(_STATE_IDLE)

    def end_connection(self) -> None:
        """Record that an SMTP connection is over and another may follow on the same socket (P-069)."""
        self.macros.forget_connection()
        self._connected = False
        self._move(_STATE_IDLE)

    def let_go(self) -> None:
        """Drop all octets and all macros; the connection has ended."""
        buffer = self.buffer
        buffer.data, buffer.pos, buffer.end, buffer.skip = b"", 0, 0, 0
        buffer.parts.clear()
        self.macros.clear()

    def lookahead(self, abort: bool, answered: frozenset[int]) -> Lookahead:
        """Return a walker over what waits to be read, that looks for the end of the connection.

        Args:
            abort: Whether to look for the end of the message, too.
            answered: The commands that take an answer; behind the first of these the walk ends.
        """
        walker = Lookahead(_LEAVING | {int(Command.ABORT)} if abort else _LEAVING, answered)
        walker.feed(self.buffer.data, self.place)
        skip = self.buffer.skip
        for part in self.buffer.parts:
            walker.feed(part, skip)
            skip = 0
        return walker

    def _move(self, state: State) -> None:
        self.state = state
        if self._rows is not None:
            self.row = self._rows[state]

    def excess(self, row: Row, state: State) -> TooMany:
        """Return the event of a header field above the limits."""
        self.row, self.state = row, state
        return _TOO_MANY_HEADERS

    def _take_macros(self, payload: bytes, start: int) -> Event | None:
        """Keep the macros of a stage."""
        if not payload:
            raise RemoteProtocolError("MACRO packet: expected a command octet, found nothing")
        stage = payload[0]
        if PLACES[stage] and (len(payload) > 1 or not self._rules.keeps_macros):
            self.macros.keep(self.buffer.data[start : self.buffer.pos])
        if stage == _MAIL and self.macros_imply_up_to == _NO_LIMIT and self._mail_macros():
            return _ABORT
        return None

    def _mail_macros(self) -> bool:
        """Handle the macros of a MAIL that was negotiated away: the only sign that another message begins (P-050)."""
        # The same set once more is still a sign.
        self.macros.last = b""
        if self.state is State.IDLE:
            return False
        self.macros.keep_mail()
        if self.state is State.DECIDED:
            self.end_message()
            return False
        return True

    def _outside(self, code: int) -> Event:
        """Handle a command without a row: the end of a connection, or an error."""
        if code == Command.QUIT:
            return _QUIT
        if code == Command.QUIT_NC:
            return _QUIT_NEW_CONNECTION
        if code == Command.OPTNEG:
            raise RemoteProtocolError("expected one OPTNEG packet, found a second one")
        raise RemoteProtocolError(f"expected a command, found code {code:#04x}")

    # What a cell without decoder calls: the command's code, the row it leads to, its payload, and where its frame starts.

    def _interrupts(self, code: int, row: Row, payload: bytes, start: int) -> Event:
        self.broken = code not in _BEGINNINGS
        return self._first(_ABORT, code, start)

    def _aborts(self, code: int, row: Row, payload: bytes, start: int) -> Event:
        return _ABORT

    def _repeats(self, code: int, row: Row, payload: bytes, start: int) -> Repeated:
        return Repeated(Command(code))

    def _strays(self, code: int, row: Row, payload: bytes, start: int) -> OutOfOrder:
        self._connected = self._connected or not self._rules.tolerant
        self._move(_STATE_IDLE)
        return OutOfOrder(Command(code))

    def _forgets(self, code: int, row: Row, payload: bytes, start: int) -> None:
        self.end_message()

    def _ignores(self, code: int, row: Row, payload: bytes, start: int) -> None:
        self._connected = self._connected or not self._rules.tolerant

    def _first(self, implied: Event, code: int, start: int) -> Event:
        """Return what a command implies; the command itself, and its macros, wait until that was handled."""
        self.buffer.pos = start
        self.macros.keep_for_next(code)
        return implied

    def _connects(self, code: int, row: Row, payload: bytes, start: int) -> Event | OutOfOrder:
        if self._connected and not self._rules.tolerant:
            return OutOfOrder(Command.CONNECT)
        if self._connected:
            return self._first(_QUIT_NEW_CONNECTION, code, start)
        event = Connect.decode(payload)
        self.macros.use_for_connect()
        self._connected = True
        self._move(_STATE_IDLE)
        return event

    def _greets(self, code: int, row: Row, payload: bytes, start: int) -> Event:
        event = Helo.decode(payload)
        self._connected = self._connected or not self._rules.tolerant
        self.macros.forget(AFTER_HELO)
        self._move(_STATE_IDLE)
        return event

    def _mails(self, code: int, row: Row, payload: bytes, start: int) -> Event:
        event = Mail.decode(payload)
        self._connected = self._connected or not self._rules.tolerant
        self.macros.use_for_mail()
        self.row, self.state = row, _STATE_MAIL
        return event

    def _rcpts(self, code: int, row: Row, payload: bytes, start: int) -> Event:
        event = Rcpt.decode(payload)
        self.macros.forget(AFTER_RCPT)
        self.row, self.state = row, _STATE_RCPT
        return event

    def _ends(self, code: int, row: Row, payload: bytes, start: int) -> Event:
        if payload:
            self.last_of_body = True
            self._move(State.BODY)
            return BodyChunk(payload, with_end=True)
        self.row, self.state = row, _STATE_EOM
        return _END_OF_MESSAGE

    def _unknowns(self, code: int, row: Row, payload: bytes, start: int) -> Event:
        self.macros.in_unknown = True
        if not self._rules.tolerant:
            self._connected = True
            self.row, self.state = row, State.UNKNOWN
        return Unknown.decode(payload)

    def _begins(self, code: int, row: Row, payload: bytes, start: int) -> Event:
        """Begin a message whose MAIL was negotiated away."""
        self._connected = self._connected or not self._rules.tolerant
        event = _decoders(self.leading_space)[Command(code)](payload)
        self.row = row
        self.state = next(state for state, found in (self._rows or {}).items() if found is row)
        return event

    def end_of_message(self) -> Event | Repeated:
        """Return the event that follows the :class:`BodyChunk` of the same packet, as :attr:`last_of_body` says."""
        self.last_of_body = False
        if self.state is State.DECIDED:
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
_EFFECTS: Final[dict[Effect, _Special]] = {
    Effect.INTERRUPT: Connection._interrupts,
    Effect.ABORT: Connection._aborts,
    Effect.REPEAT: Connection._repeats,
    Effect.STRAY: Connection._strays,
    Effect.FORGET: Connection._forgets,
    Effect.IGNORE: Connection._ignores,
}
