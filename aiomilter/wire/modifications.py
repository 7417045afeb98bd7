"""The packets of a filter that are not answers: modifications and PROGRESS.

Their text is checked when they are made and raises :class:`LocalProtocolError`.  The answers are in
:mod:`aiomilter.wire.replies`, the answer to the offer in :mod:`aiomilter.wire.events`.

Source: aiomilter/help/protocol.rst, "Modifications" and "PROGRESS"; libmilter/docs/api.html.
"""

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any, ClassVar, Final, Self, TypeAlias, TypeVar

from aiomilter.exceptions import LocalProtocolError, RemoteProtocolError
from aiomilter.wire.constants import ReplyCode
from aiomilter.wire.framing import packet
from aiomilter.wire.text import decode, header_name, header_value, one_line, pack_strings

__all__ = [
    "AddHeader",
    "AddRecipient",
    "ChangeHeader",
    "ChangeSender",
    "DeleteRecipient",
    "InsertHeader",
    "Modification",
    "Progress",
    "Quarantine",
    "ReplaceBody",
]

_U32: Final = Struct(">I")
_ADDHEADER: Final = int(ReplyCode.ADDHEADER)
_INSHEADER: Final = int(ReplyCode.INSHEADER)
_T = TypeVar("_T")


def _from_peer(payload: bytes, name: str, least: int, most: int) -> list[str]:
    strings = decode(payload).split("\0")
    if strings.pop() or not least <= len(strings) <= most:
        raise RemoteProtocolError(f"{name} packet: expected {least} to {most} strings that end in NUL")
    return strings


def _checked(name: str, make: Callable[..., _T], *fields: Any) -> _T:
    """Return the modification that a peer asks for; a value that we may not send is the peer's error here."""
    try:
        return make(*fields)
    except LocalProtocolError as error:
        raise RemoteProtocolError(f"{name} packet: {error}") from error


@dataclass(frozen=True, slots=True)
class AddHeader:
    """Add a header field (SMFIR_ADDHEADER): Postfix at the end, Sendmail before the first of the same name."""

    CODE: ClassVar = ReplyCode.ADDHEADER
    name: str
    value: str

    def __post_init__(self) -> None:
        """Check name and value."""
        header_name(self.name)
        object.__setattr__(self, "value", header_value(self.value))

    @staticmethod
    def packed(name: str, value: str) -> bytes:
        """Return the whole packet, without making the value first: nearly every message gets a field."""
        octets = "\0".join((header_name(name), header_value(value), "")).encode("utf-8", "surrogateescape")
        return packet(_ADDHEADER, octets)

    @property
    def payload(self) -> bytes:
        """The payload."""
        return pack_strings(self.name, self.value)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the modification."""
        return _checked("ADDHEADER", cls, *_from_peer(payload, "ADDHEADER", 2, 2))


@dataclass(frozen=True, slots=True)
class InsertHeader:
    """Insert a header field (SMFIR_INSHEADER) at a position, 0 above everything, 1 below the MTA's own Received."""

    CODE: ClassVar = ReplyCode.INSHEADER
    index: int
    name: str
    value: str

    def __post_init__(self) -> None:
        """Check index, name and value."""
        _index(self.index, 0)
        header_name(self.name)
        object.__setattr__(self, "value", header_value(self.value))

    @staticmethod
    def packed(index: int, name: str, value: str) -> bytes:
        """Return the whole packet, as :meth:`AddHeader.packed` does, without making the value first."""
        _index(index, 0)
        octets = "\0".join((header_name(name), header_value(value), "")).encode("utf-8", "surrogateescape")
        return packet(_INSHEADER, _U32.pack(index) + octets)

    @property
    def payload(self) -> bytes:
        """The payload."""
        return _U32.pack(self.index) + pack_strings(self.name, self.value)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the modification."""
        index = _index_from_peer(payload, "INSHEADER")
        return _checked("INSHEADER", cls, index, *_from_peer(payload[4:], "INSHEADER", 2, 2))


@dataclass(frozen=True, slots=True)
class ChangeHeader:
    """Change, or with an empty value delete, an occurrence of a header field (SMFIR_CHGHEADER), counted from 1."""

    CODE: ClassVar = ReplyCode.CHGHEADER
    index: int
    name: str
    value: str

    def __post_init__(self) -> None:
        """Check index, name and value."""
        _index(self.index, 0)
        header_name(self.name)
        object.__setattr__(self, "value", header_value(self.value))

    @property
    def payload(self) -> bytes:
        """The payload."""
        return _U32.pack(self.index) + pack_strings(self.name, self.value)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the modification."""
        index = _index_from_peer(payload, "CHGHEADER")
        return _checked("CHGHEADER", cls, index, *_from_peer(payload[4:], "CHGHEADER", 2, 2))


def _index(index: int, least: int) -> None:
    if type(index) is not int or not least <= index < 2**31:
        raise LocalProtocolError(f"header index: expected {least} to 2147483647, found {index!r}")


def _index_from_peer(payload: bytes, name: str) -> int:
    if len(payload) < _U32.size:
        raise RemoteProtocolError(f"{name} packet: expected an index of 4 octets, found {len(payload)}")
    return int(_U32.unpack_from(payload)[0])


@dataclass(frozen=True, slots=True)
class ReplaceBody:
    """A piece of the new body (SMFIR_REPLBODY): all pieces of a message, one after the other, are the new body."""

    CODE: ClassVar = ReplyCode.REPLBODY
    chunk: bytes

    @property
    def payload(self) -> bytes:
        """The payload."""
        return self.chunk

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the modification."""
        return cls(payload)


@dataclass(frozen=True, slots=True)
class AddRecipient:
    """Add an envelope recipient (SMFIR_ADDRCPT, or SMFIR_ADDRCPT_PAR where ``params`` is not None)."""

    address: str
    params: str | None = None

    def __post_init__(self) -> None:
        """Check the texts."""
        one_line(self.address, "recipient")
        if self.params is not None:
            one_line(self.params, "recipient parameters", empty=True)

    @property
    def CODE(self) -> ReplyCode:
        """Which of the two packets it is."""
        return ReplyCode.ADDRCPT if self.params is None else ReplyCode.ADDRCPT_PAR

    @property
    def payload(self) -> bytes:
        """The payload."""
        return pack_strings(self.address) if self.params is None else pack_strings(self.address, self.params)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the modification of an ADDRCPT packet."""
        return _checked("ADDRCPT", cls, *_from_peer(payload, "ADDRCPT", 1, 1))

    @classmethod
    def decode_par(cls, payload: bytes) -> Self:
        """Return the modification of an ADDRCPT_PAR packet."""
        address, *params = _from_peer(payload, "ADDRCPT_PAR", 1, 2)
        return _checked("ADDRCPT_PAR", cls, address, params[0] if params else "")


@dataclass(frozen=True, slots=True)
class DeleteRecipient:
    """Delete an envelope recipient (SMFIR_DELRCPT)."""

    CODE: ClassVar = ReplyCode.DELRCPT
    address: str

    def __post_init__(self) -> None:
        """Check the text."""
        one_line(self.address, "recipient")

    @property
    def payload(self) -> bytes:
        """The payload."""
        return pack_strings(self.address)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the modification."""
        return _checked("DELRCPT", cls, *_from_peer(payload, "DELRCPT", 1, 1))


@dataclass(frozen=True, slots=True)
class ChangeSender:
    """Change the envelope sender (SMFIR_CHGFROM)."""

    CODE: ClassVar = ReplyCode.CHGFROM
    address: str
    params: str | None = None

    def __post_init__(self) -> None:
        """Check the texts; the null sender is ``<>``."""
        one_line(self.address, "sender")
        if self.params is not None:
            one_line(self.params, "sender parameters", empty=True)

    @property
    def payload(self) -> bytes:
        """The payload."""
        return pack_strings(self.address) if self.params is None else pack_strings(self.address, self.params)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the modification."""
        return _checked("CHGFROM", cls, *_from_peer(payload, "CHGFROM", 1, 2))


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Hold the message in the MTA's queue (SMFIR_QUARANTINE); a verdict must follow."""

    CODE: ClassVar = ReplyCode.QUARANTINE
    reason: str

    def __post_init__(self) -> None:
        """Check the text."""
        one_line(self.reason, "quarantine reason")

    @property
    def payload(self) -> bytes:
        """The payload."""
        return pack_strings(self.reason)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the modification."""
        return _checked("QUARANTINE", cls, *_from_peer(payload, "QUARANTINE", 1, 1))


@dataclass(frozen=True, slots=True)
class Progress:
    """The filter is still at work (SMFIR_PROGRESS): the MTA waits on."""

    CODE: ClassVar = ReplyCode.PROGRESS

    @property
    def payload(self) -> bytes:
        """Nothing."""
        return b""

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the packet."""
        if payload:
            raise RemoteProtocolError(f"PROGRESS packet: expected no payload, found {len(payload)} octets")
        return cls()


Modification: TypeAlias = (
    AddHeader | InsertHeader | ChangeHeader | ReplaceBody | AddRecipient | DeleteRecipient | ChangeSender | Quarantine
)
"""The changes that a filter may request at end of message."""
