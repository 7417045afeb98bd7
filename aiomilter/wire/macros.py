"""The macros of one connection, and the packets that bring them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from sys import getsizeof
from typing import ClassVar, Final, Self, TypeAlias

from aiomilter.exceptions import RemoteProtocolError
from aiomilter.wire.constants import Command
from aiomilter.wire.framing import HEAD
from aiomilter.wire.negotiation import canonical_macro
from aiomilter.wire.text import decode, pack_strings

__all__ = [
    "AFTER_CONNECT",
    "AFTER_HELO",
    "AFTER_MAIL",
    "AFTER_RCPT",
    "PLACES",
    "MacroStore",
    "Macros",
    "macro_values",
]

_Values: TypeAlias = bytes | dict[str, str]

# Latest first, which is the order of look-up (P-081).  UNKNOWN may come at any time and its macros are its own; Postfix sends
# them even where it was declined.
_STAGES: Final = b"EBNLTRMHCU"
PLACES: Final = bytes(_STAGES.find(code) + 1 for code in range(256))
"""Where in ``MacroStore.sets`` a stage, by its command, has its macros; 0 for those that have none."""
_LOOKUP: Final = tuple(range(1, _STAGES.index(b"C") + 2))
_LOOKUP_IN_UNKNOWN: Final = (_STAGES.index(b"U") + 1, *_LOOKUP)
# libmilter keeps none for header, body and unknown command (point 23 of its rules: observed).
_LIBMILTER_LOOKUP: Final = tuple(_STAGES.index(stage) + 1 for stage in b"ENTRMHC")
_CONNECT: Final = int(Command.CONNECT)
_MAIL: Final = int(Command.MAIL)
_CONNECT_PLACE: Final = PLACES[_CONNECT]
_MAIL_PLACE: Final = PLACES[_MAIL]
_UNKNOWN_PLACE: Final = PLACES[int(Command.UNKNOWN)]
# What a command clears, the stages after its own (P-083): as much of the beginning of ``_STAGES``.
AFTER_RCPT: Final = (b"",) * _STAGES.index(b"R")
AFTER_MAIL: Final = (b"",) * _STAGES.index(b"M")
AFTER_HELO: Final = (b"",) * _STAGES.index(b"H")
AFTER_CONNECT: Final = (b"",) * _STAGES.index(b"C")
_ALL: Final = (b"",) * len(_STAGES)
_STAGE_AT: Final = HEAD.size
_NAMES_AT: Final = _STAGE_AT + 1
"""Where in a MACRO packet the first name is: behind length, code, and the command of the stage."""
_MOST_MACROS: Final = 256
_SMALL: Final = 1024
"""Octets of a packet that is remembered with its values."""


@dataclass(frozen=True, slots=True)
class Macros:
    """Values that the MTA sends for the stage that follows (SMFIC_MACRO); never answered.

    Args:
        command: Code octet of the stage they belong to; any octet is taken.
        values: Value by name, braces as sent.

    Source: libmilter/docs/smfi_getsymval.html; aiomilter/help/protocol.rst, "Macro values".
    """

    CODE: ClassVar = Command.MACRO
    command: int
    values: Mapping[str, str]

    @property
    def payload(self) -> bytes:
        """The payload."""
        pairs = [text for pair in self.values.items() for text in pair]
        return bytes([self.command]) + pack_strings(*pairs)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the set; no pairs are an empty set, a lone last name has no value (P-033, P-034)."""
        if not payload:
            raise RemoteProtocolError("MACRO packet: expected a command octet, found nothing")
        return cls(payload[0], macro_values(payload[1:]))


def macro_values(octets: bytes) -> dict[str, str]:
    """Return value by name of a MACRO payload without its first octet; the first of two equal names wins (P-034, P-081).

    At most 256 names are read: MTAs send some twenty, and decoded they take twenty times their octets.
    """
    values: dict[str, str] = {}
    strings = iter(decode(octets).split("\0", 2 * _MOST_MACROS)[:-1])
    for name, value in zip(strings, strings, strict=False):
        values.setdefault(name, value)
    return values


class MacroStore:
    """The macros that hold now, by stage.

    They are whole packets as received until one of them is read: to decode all of them at once costs 39 %.

    Args:
        exact: Whether names are compared as libmilter does, so that ``"{j}"`` and ``"j"`` are one macro but ``"{ab}"`` and
            ``"ab"`` are two.
    """

    __slots__ = ("_kept_stage", "_symbols", "_used_connect", "_used_mail", "exact", "in_unknown", "last", "sets")

    def __init__(self, exact: bool) -> None:
        self.exact: bool = exact
        self.sets: list[_Values] = [b""] * (len(_STAGES) + 1)
        """By :data:`PLACES`."""
        self.last: bytes = b""
        """The last packet, as long as its macros hold."""
        self.in_unknown: bool = False
        """Whether the command at hand is UNKNOWN, whose macros hold for it alone."""
        # The stage whose macros belong to the next message or connection, although they came before the end of this one.
        self._kept_stage: int | None = None
        # The set of the last CONNECT and MAIL: if the next one finds the same set, no new set came with it.
        self._used_connect: _Values | None = None
        self._used_mail: _Values | None = None
        # What :meth:`symbol` has read, by stage, with the packet it is from.
        self._symbols: dict[int, tuple[object, dict[str, str]]] | None = None

    @property
    def size(self) -> int:
        """Octets that the macros of all stages take, as received or read."""
        kept = [*self.sets, self._used_connect, self._used_mail]
        if self._symbols is not None:
            kept += [values for _, values in self._symbols.values()]
        # A set may stand in several places.
        return sum(map(_size, {id(values): values for values in kept}.values()))

    def keep(self, frame: bytes) -> None:
        """Keep the macros of a whole MACRO packet."""
        place = PLACES[frame[_STAGE_AT]]
        if place:
            self.sets[place] = self.last = frame

    def value(self, name: str) -> str | None:
        """Return the value of a macro, of the latest stage that has it; None if none has.

        Source: aiomilter/help/protocol.rst, P-080 to P-085.
        """
        if self.exact:
            return self.symbol(name)
        name = canonical_macro(name)
        sets = self.sets
        # A packet that does not have the octets of the name need not be read: most macros that are asked for are not there.
        octets = name.encode() if name.isascii() else b""
        for place in _LOOKUP_IN_UNKNOWN if self.in_unknown else _LOOKUP:
            values = sets[place]
            if values:
                if isinstance(values, bytes):
                    if octets not in values:
                        continue
                    read = _canonical_values(values)
                    if values is self._used_mail:
                        self._used_mail = read
                    elif values is self._used_connect:
                        self._used_connect = read
                    values = sets[place] = read
                if name in values:
                    return values[name]
        return None

    def symbol(self, name: str) -> str | None:
        """Return the value of a macro as smfi_getsymval does: by its exact name, except for the braces around one letter.

        Source: libmilter/docs/smfi_getsymval.html.
        """
        if self._symbols is None:
            self._symbols = {}
        other = f"{{{name}}}" if len(name) == 1 else ""
        if len(name) == 3 and name[0] == "{" and name[2] == "}":
            other = name[1]
        for place in _LIBMILTER_LOOKUP:
            frame = self.sets[place]
            if frame:
                known = self._symbols.get(place)
                if known is None or known[0] is not frame:
                    assert isinstance(frame, bytes)
                    known = self._symbols[place] = frame, macro_values(frame[_NAMES_AT:])
                values = known[1]
                if name in values:
                    return values[name]
                if other and other in values:
                    return values[other]
        return None

    def peek(self, name: str) -> str | None:
        """Return what :meth:`value` does for a name without braces, and change nothing: for another thread."""
        for place in _LOOKUP:
            values = self.sets[place]
            if isinstance(values, bytes):
                values = _canonical_values(values)
            if name in values:
                return values[name]
        return None

    def copy(self) -> "MacroStore":
        """Return the macros that hold now, for reading them later."""
        other = MacroStore(self.exact)
        other.sets, other.in_unknown = [*self.sets], self.in_unknown
        return other

    def use_for_connect(self) -> None:
        """Record that a CONNECT has come: the macros of later stages are forgotten."""
        self._used_connect = self.sets[_CONNECT_PLACE]
        self.forget(AFTER_CONNECT)

    def use_for_mail(self) -> None:
        """Record that a MAIL has come: the macros of later stages are forgotten."""
        self._used_mail = self.sets[_MAIL_PLACE]
        self.forget(AFTER_MAIL)

    def keep_for_next(self, code: int) -> None:
        """Keep the macros of a command through the next :meth:`forget`, if they came with it: they are of what begins next."""
        used = self._used_mail if code == _MAIL else self._used_connect if code == _CONNECT else None
        if not self.exact and self.sets[PLACES[code]] is not used:
            self._kept_stage = code

    def keep_mail(self) -> None:
        """Keep the macros of MAIL, which are all that comes of it, through the next :meth:`forget`."""
        self._kept_stage = _MAIL

    def forget(self, stages: tuple[bytes, ...]) -> None:
        """Drop the macros of stages; a following packet with the same macros is another one.

        Args:
            stages: :data:`AFTER_MAIL`, for example.
        """
        self.last = b""
        if self._kept_stage is None:
            self.sets[1 : len(stages) + 1] = stages
            return
        place, self._kept_stage = PLACES[self._kept_stage], None
        kept = self.sets[place]
        self.sets[1 : len(stages) + 1] = stages
        self.sets[place] = kept

    def forget_unknown(self) -> None:
        """Drop the macros of an UNKNOWN command, once its callback has returned."""
        self.in_unknown = False
        self.sets[_UNKNOWN_PLACE] = b""
        self.last = b""

    def forget_connection(self) -> None:
        """Drop the macros of an SMTP connection that is over."""
        self.forget(_ALL)
        self._used_connect = self._used_mail = self._symbols = None

    def clear(self) -> None:
        """Drop all macros."""
        self._kept_stage = None
        self.forget_connection()


def _canonical_values(frame: bytes) -> dict[str, str]:
    """Return value by name without braces of a whole packet, or of none; the dictionary belongs to others, too."""
    return _known_values(frame) if len(frame) <= _SMALL else _read_values(frame)


@lru_cache(maxsize=32)
def _known_values(frame: bytes) -> dict[str, str]:
    """The same: a client's packet is read again for each of its messages, where a log or a filter reads it."""
    return _read_values(frame)


def _read_values(frame: bytes) -> dict[str, str]:
    pairs = reversed(macro_values(frame[_NAMES_AT:]).items())
    return {canonical_macro(key): value for key, value in pairs}


def _size(values: _Values | None) -> int:
    if isinstance(values, dict):
        return sum(getsizeof(name) + getsizeof(value) for name, value in values.items())
    return len(values or b"")
