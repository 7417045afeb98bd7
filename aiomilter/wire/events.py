"""The packets of the MTA as values, which are the events of a conversation.

They are the objects that callbacks get, so their names and fields are public.  ``decode`` takes the payload without
length and code and raises :class:`RemoteProtocolError`; ``payload`` gives it back.

Source: aiomilter/help/protocol.rst, "Commands" and "Negotiation"; libmilter/docs/api.html.
"""

import enum
import functools
import ipaddress
from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Final, NamedTuple, Self, TypeAlias

from aiomilter.exceptions import RemoteProtocolError
from aiomilter.mail import envelope
from aiomilter.wire.constants import Command
from aiomilter.wire.text import decode, encode, pack_strings

__all__ = [
    "Abort",
    "BodyChunk",
    "Connect",
    "Data",
    "EndOfHeaders",
    "EndOfMessage",
    "Event",
    "Family",
    "Header",
    "Helo",
    "Mail",
    "Negotiate",
    "Quit",
    "QuitNewConnection",
    "Rcpt",
    "Unknown",
]

_OFFER: Final = Struct(">III")
_U16: Final = Struct(">H")


@dataclass(frozen=True, slots=True)
class Negotiate:
    """What the MTA offers (SMFIC_OPTNEG), the first packet of a connection.

    Args:
        version: Newest version of the protocol that the MTA speaks.
        actions: Bits of :class:`Action` as sent.
        protocol: Bits of :class:`Protocol` as sent.

    Source: libmilter/docs/xxfi_negotiate.html.
    """

    CODE: ClassVar = Command.OPTNEG
    version: int
    actions: int
    protocol: int

    @property
    def payload(self) -> bytes:
        """The payload."""
        return _OFFER.pack(self.version, self.actions, self.protocol)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the offer; octets after the first 12 are ignored (P-011, P-012)."""
        if len(payload) < _OFFER.size:
            raise RemoteProtocolError(f"OPTNEG packet: expected at least 12 octets, found {len(payload)}")
        return cls(*_OFFER.unpack_from(payload))


class Family(enum.Enum):
    """How the SMTP client is connected (SMFIA_*); the value is the letter on the wire."""

    UNKNOWN = "U"
    UNIX = "L"
    INET = "4"
    INET6 = "6"


# The cache keeps its keys, so no long texts may get there; "IPv6:", eight groups and a zone take fewer.
_MAX_ADDRESS: Final = 100


@functools.lru_cache(maxsize=1024)
def _parse_ip(family: Family, address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        if family is Family.INET:
            return ipaddress.IPv4Address(address)
        if family is Family.INET6:
            return ipaddress.IPv6Address(address[5:] if address[:5].lower() == "ipv6:" else address)
    except ValueError:
        pass
    return None


@dataclass(frozen=True, slots=True)
class Connect:
    """The SMTP client (SMFIC_CONNECT).

    Args:
        hostname: Its verified name; ``[192.0.2.1]``, ``unknown`` or anything else where there is none.
        family: Kind of address.
        port: 0 to 65535; 0 for local submissions and where there is none.
        raw_address: As sent: ``192.0.2.1``, ``2001:db8::1``, ``IPv6:2001:db8:0:0:0:0:0:1``, a path, ``unknown``, or "".

    Source: libmilter/docs/xxfi_connect.html; aiomilter/help/protocol.rst, P-036 to P-040.
    """

    CODE: ClassVar = Command.CONNECT
    hostname: str
    family: Family = Family.UNKNOWN
    port: int = 0
    raw_address: str = ""

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The address, parsed; None for a client without one, and for a text that is none."""
        return _parse_ip(self.family, self.raw_address) if len(self.raw_address) <= _MAX_ADDRESS else None

    @property
    def payload(self) -> bytes:
        """The payload."""
        head = pack_strings(self.hostname) + self.family.value.encode()
        if self.family is Family.UNKNOWN:
            return head
        return head + _U16.pack(self.port) + pack_strings(self.raw_address)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the client; family U ends the packet, whatever follows it."""
        hostname, nul, rest = payload.partition(b"\0")
        if not nul or not rest:
            raise RemoteProtocolError("CONNECT packet: expected host name and family, found no family")
        try:
            family = Family(chr(rest[0]))
        except ValueError:
            raise RemoteProtocolError(f"CONNECT packet: expected family 4, 6, L or U, found {rest[0]:#04x}") from None
        if family is Family.UNKNOWN:
            return cls(decode(hostname))
        address, nul, _ = rest[3:].partition(b"\0")
        if not nul:
            raise RemoteProtocolError("CONNECT packet: expected port and address that ends in NUL")
        return cls(decode(hostname), family, _U16.unpack_from(rest, 1)[0], decode(address))


@dataclass(frozen=True, slots=True)
class Helo:
    """The name in HELO or EHLO (SMFIC_HELO); the MTA does not report which of the two it was.

    Args:
        name: As the client sent it, any text.

    Source: RFC 5321 section 4.1.1.1; libmilter/docs/xxfi_helo.html.
    """

    CODE: ClassVar = Command.HELO
    name: str

    @property
    def payload(self) -> bytes:
        """The payload."""
        return pack_strings(self.name)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the name."""
        return cls(_first_string(payload, "HELO"))


class _PathFields(NamedTuple):
    path: str
    params: tuple[str, ...] = ()


class _EnvelopePath(_PathFields):
    """A path with its ESMTP parameters: a tuple, the cheapest form; equal only to one of its own class."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        """Compare path and parameters; sender and recipient are never equal."""
        return type(other) is type(self) and tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        """Compare as for equality."""
        return not self == other

    def __hash__(self) -> int:
        """Hash as a tuple does."""
        return tuple.__hash__(self)

    @property
    def address(self) -> str:
        """The path without brackets and source route; "" for the null sender.

        Letter case is as sent: to compare domains use :attr:`domain`, never the end of an address.
        """
        return envelope.bare_address(self.path)

    @property
    def local_part(self) -> str:
        """What stands before the "@", without quotes; letter case as sent; "" for the null sender."""
        return envelope.local_part(self.path)

    @property
    def domain(self) -> str:
        """The domain in lower case and A-labels, to compare with; "" where there is none: ``<>``, ``<postmaster>``."""
        return envelope.domain(self.path)

    @property
    def keywords(self) -> dict[str, str]:
        """The parameters by keyword in upper case, xtext decoded; "" where a keyword has no value."""
        return envelope.keywords(self.params)

    @property
    def payload(self) -> bytes:
        """The payload."""
        return pack_strings(self.path, *self.params)


class Mail(_EnvelopePath):
    """The envelope sender (SMFIC_MAIL).

    Args:
        path: Reverse-path as sent, angle brackets kept: ``"<alice@example.org>"``, ``"<>"`` for the null sender;
            without brackets, and "" for the null sender, in mail that did not come over SMTP.
        params: ESMTP parameters in the order sent: ``("SIZE=300", "BODY=8BITMIME")``; often empty.

    Source: RFC 5321 section 4.1.1.2; libmilter/docs/xxfi_envfrom.html.
    """

    __slots__ = ()
    CODE: ClassVar = Command.MAIL

    @staticmethod
    def decode(payload: bytes) -> "Mail":
        """Return sender and parameters; the last string may lack its NUL (P-042)."""
        return _new_tuple(Mail, _path(payload, "MAIL"))


class Rcpt(_EnvelopePath):
    """One envelope recipient (SMFIC_RCPT).

    Args:
        path: Forward-path as sent, angle brackets kept: ``"<bob@example.org>"``.
        params: ESMTP parameters in the order sent: ``("NOTIFY=NEVER",)``; often empty.

    Source: RFC 5321 section 4.1.1.3; libmilter/docs/xxfi_envrcpt.html.
    """

    __slots__ = ()
    CODE: ClassVar = Command.RCPT

    @staticmethod
    def decode(payload: bytes) -> "Rcpt":
        """Return recipient and parameters; the last string may lack its NUL (P-042)."""
        return _new_tuple(Rcpt, _path(payload, "RCPT"))


def _first_string(payload: bytes, name: str) -> str:
    text, nul, _ = payload.partition(b"\0")
    if not nul:
        raise RemoteProtocolError(f"{name} packet: expected a string that ends in NUL, found none")
    return decode(text)


def _path(payload: bytes, name: str) -> tuple[str, tuple[str, ...]]:
    strings = payload.decode("utf-8", "surrogateescape").split("\0")
    if len(strings) == 2 and not strings[1]:
        return strings[0], ()
    if len(strings) < 2:
        raise RemoteProtocolError(f"{name} packet: expected an address that ends in NUL, found none")
    if not strings[-1]:
        strings.pop()
    return strings[0], tuple(strings[1:])


@dataclass(frozen=True, slots=True)
class _Bare:
    """A packet that is its code; a payload is ignored."""

    @property
    def payload(self) -> bytes:
        """Nothing."""
        return b""

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the event."""
        return cls()


@dataclass(frozen=True, slots=True)
class Data(_Bare):
    """The client is about to send content (SMFIC_DATA); BDAT counts.

    Source: libmilter/docs/xxfi_data.html.
    """

    CODE: ClassVar = Command.DATA


class _HeaderFields(NamedTuple):
    name: str
    value: str
    separator: str = " "


class Header(_HeaderFields):
    """One header field (SMFIC_HEADER).

    A tuple, the cheapest form: it is made for each field of each message (``benchmarks gates``).

    Args:
        name: As in the message, without the colon.
        value: What follows the colon and, if there, one space; folds as LF and blank.  Octets that are not UTF-8 are
            surrogates (PEP 383), which files and databases refuse: give these :attr:`text`.
        separator: What stood between colon and value: " " or "".  Exact only if the filter asked for ``leading_space``.

    Source: RFC 5322 section 2.2; libmilter/docs/xxfi_header.html; aiomilter/help/protocol.rst, P-043.
    """

    __slots__ = ()
    CODE: ClassVar = Command.HEADER

    @property
    def raw(self) -> bytes:
        """The field's octets, folds as CRLF, ending in CRLF; exact if ``leading_space`` was agreed."""
        name, value, separator = self
        text = f"{name}:{separator}{value}\n".replace("\n", "\r\n")
        # As encode() does, a call less for each field of a message that is kept.
        return text.encode("utf-8", "surrogateescape") if text.isascii() else encode(text)

    @property
    def text(self) -> str:
        """The value for rules, logs and databases: on one line, encoded words decoded (RFC 2047), U+FFFD for surrogates.

        An encoded word that cannot be read stays as it is.  Decoded at each use.
        """
        # Few filters ask.  It is 1.6 % of what the import of aiomilter costs (measured on 3.11).
        from aiomilter.mail.encoded_words import header_text

        return header_text(self.value)

    @property
    def payload(self) -> bytes:
        """The payload for a filter that did not ask for the leading space."""
        return pack_strings(self.name, self.value)

    @property
    def leading_payload(self) -> bytes:
        """The payload for a filter that asked for the leading space."""
        return pack_strings(self.name, self.separator + self.value)

    @staticmethod
    def decode(payload: bytes) -> "Header":
        """Return the field, from an MTA that takes the leading space away."""
        # A name without value, or nothing at all, does not unpack; what follows the value is dropped, as libmilter does:
        # closing would refuse the mail over octets that mean nothing.
        try:
            name, value, _ = payload.decode("utf-8", "surrogateescape").split("\0", 2)
        except ValueError:
            name = ""
        if not name:
            raise RemoteProtocolError("HEADER packet: expected name and value, each ending in NUL, found less")
        # NamedTuple's own constructor is a Python function: 0.1 us a field more.
        return _new_tuple(Header, (name, value, " "))

    @staticmethod
    def decode_leading(payload: bytes) -> "Header":
        """Return the field, from an MTA that agreed to leave the leading space."""
        name, value, _ = Header.decode(payload)
        if value.startswith(" "):
            return _new_tuple(Header, (name, value[1:], " "))
        return _new_tuple(Header, (name, value, ""))


_new_tuple: Final = tuple.__new__


@dataclass(frozen=True, slots=True)
class EndOfHeaders(_Bare):
    """All header fields were sent (SMFIC_EOH); comes for a message without any, too.

    Source: libmilter/docs/xxfi_eoh.html.
    """

    CODE: ClassVar = Command.EOH


class _BodyFields(NamedTuple):
    chunk: bytes
    with_end: bool = False


class BodyChunk(_BodyFields):
    """A piece of the body (SMFIC_BODY).

    Args:
        chunk: 1 to 65535 octets, line ends as CRLF; a piece may end anywhere, inside a CRLF too.
        with_end: It came inside the end-of-message packet, so it has no answer of its own.

    Source: libmilter/docs/xxfi_body.html; aiomilter/help/protocol.rst, P-045 and P-046.
    """

    __slots__ = ()
    CODE: ClassVar = Command.BODY

    @property
    def payload(self) -> bytes:
        """The payload."""
        return self.chunk

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the piece; no MTA sends an empty one, and libmilter closes the connection on it."""
        if not payload:
            raise RemoteProtocolError("BODY packet: expected at least 1 octet, found 0")
        return cls(payload)


@dataclass(frozen=True, slots=True)
class EndOfMessage(_Bare):
    """All of the message was sent (SMFIC_BODYEOB): edit it and decide.

    Source: libmilter/docs/xxfi_eom.html.
    """

    CODE: ClassVar = Command.BODYEOB


@dataclass(frozen=True, slots=True)
class Unknown:
    """An SMTP command that the MTA does not know (SMFIC_UNKNOWN).

    Args:
        line: The whole line, or from Postfix before 3.10 its first word.

    Source: libmilter/docs/xxfi_unknown.html.
    """

    CODE: ClassVar = Command.UNKNOWN
    line: str

    @property
    def payload(self) -> bytes:
        """The payload."""
        return pack_strings(self.line)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the line."""
        return cls(_first_string(payload, "UNKNOWN"))


@dataclass(frozen=True, slots=True)
class Abort(_Bare):
    """The message is over without a decision (SMFIC_ABORT); the connection is not."""

    CODE: ClassVar = Command.ABORT


@dataclass(frozen=True, slots=True)
class Quit(_Bare):
    """The connection is over (SMFIC_QUIT)."""

    CODE: ClassVar = Command.QUIT


@dataclass(frozen=True, slots=True)
class QuitNewConnection(_Bare):
    """The SMTP connection is over; another follows on the same socket (SMFIC_QUIT_NC)."""

    CODE: ClassVar = Command.QUIT_NC


Event: TypeAlias = (
    Negotiate
    | Connect
    | Helo
    | Mail
    | Rcpt
    | Data
    | Header
    | EndOfHeaders
    | BodyChunk
    | EndOfMessage
    | Unknown
    | Abort
    | Quit
    | QuitNewConnection
)
"""The packets of an MTA, except macros."""
